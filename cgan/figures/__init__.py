"""Figures: sheets of pictures and plots of curves."""
