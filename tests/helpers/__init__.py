"""What tests of several folders share; pytest finds it by the pythonpath of pyproject.toml."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the checkout
