"""The version of cgan, read by everything that names it and by hatchling when a wheel is built."""

__version__ = "0.1.0"
