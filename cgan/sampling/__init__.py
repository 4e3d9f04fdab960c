"""Sampling: captions to pictures by trained weights, and files that hold these."""
