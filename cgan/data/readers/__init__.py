"""Readers: one file for each layout of pictures with captions on disk."""
