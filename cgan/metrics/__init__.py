"""Metrics of generated images and of retrieval, and the networks that they need."""
