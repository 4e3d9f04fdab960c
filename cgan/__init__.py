"""cgan: text-to-image GANs in PyTorch Lightning. What a user needs is imported from here, and loaded on first use.

>>> from cgan import TextToImage, load_config, train
>>> result = train(load_config(["configs/gan/scenes.yaml", "trainer.minutes=1"]), report=print)
>>> TextToImage.from_pretrained(result.run_dir)("a dog on grass")
"""

from importlib import import_module

from cgan.version import __version__

HOMES = {  # of what can be imported from here
    "JointEncoder": "cgan.models.joint",
    "TextToImage": "cgan.sampling.pipeline",
    "ask": "cgan.retrieval.asking",
    "build_gan": "cgan.training.build",
    "cycle": "cgan.evaluation.cycle",
    "evaluate": "cgan.evaluation.run",
    "load_config": "cgan.config",
    "push_to_hub": "cgan.sampling.export",
    "train": "cgan.training.run",
}
__all__ = [
    "JointEncoder",
    "TextToImage",
    "__version__",
    "ask",
    "build_gan",
    "cycle",
    "evaluate",
    "load_config",
    "push_to_hub",
    "train",
]


def __getattr__(name: str) -> object:
    """Returns an attribute that HOMES lists; its module, and torch with it, is imported at the first access."""
    if name not in HOMES:
        raise AttributeError(f"module 'cgan' has no attribute '{name}'")
    return getattr(import_module(HOMES[name]), name)
