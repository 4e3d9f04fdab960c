"""Benchmarks: speed, sizing, races between recipes, and their statistics."""
