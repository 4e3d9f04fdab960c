"""cgan: text-to-image GANs in PyTorch Lightning."""

__version__ = "0.1.0"
