"""cgan: text-to-image GANs in PyTorch Lightning. `from cgan import TextToImage` draws; importing cgan costs nothing."""

__version__ = "0.1.0"
__all__ = ["TextToImage"]


def __getattr__(name: str) -> object:
    """TextToImage is loaded, with torch, when it is asked for."""
    if name == "TextToImage":
        from cgan.sampling.pipeline import TextToImage

        return TextToImage
    raise AttributeError(f"module 'cgan' has no attribute '{name}'")
