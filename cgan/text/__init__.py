"""Captions to TextFeatures."""
