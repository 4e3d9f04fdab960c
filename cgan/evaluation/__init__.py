"""Evaluation: what is measured of generators, pictures and joint encoders, and its reports."""
