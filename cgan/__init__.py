"""cgan: text-to-image GANs in PyTorch Lightning. `from cgan import TextToImage`; importing cgan alone is instant."""

from cgan.version import __version__

__all__ = ["TextToImage", "__version__"]


def __getattr__(name: str) -> object:
    """TextToImage is loaded, with torch, when it is asked for."""
    if name == "TextToImage":
        from cgan.sampling.pipeline import TextToImage

        return TextToImage
    raise AttributeError(f"module 'cgan' has no attribute '{name}'")
