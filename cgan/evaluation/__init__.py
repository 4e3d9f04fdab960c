"""Evaluation of generators, images and joint encoders, and its reports."""
