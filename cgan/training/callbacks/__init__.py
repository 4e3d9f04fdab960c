"""Lightning callbacks: samples, progress, throughput, evaluation, checkpoints, health and interrupts.

EvaluationCallback and SampleGridCallback work in any LightningModule that has a method sample(captions, noise), which
returns images (B, 3, H, W) in [-1, 1] of B captions and noise (B, Z). They are loaded when they are asked for.

    from cgan.training.callbacks import EvaluationCallback, SampleGridCallback
"""

from importlib import import_module

HOMES = {
    "EvaluationCallback": "cgan.training.callbacks.evaluation",
    "SampleGridCallback": "cgan.training.callbacks.samples",
}
__all__ = ["EvaluationCallback", "SampleGridCallback"]


def __getattr__(name: str) -> object:
    """What is named in HOMES, which is loaded when it is asked for."""
    if name not in HOMES:
        raise AttributeError(f"module 'cgan.training.callbacks' has no attribute '{name}'")
    return getattr(import_module(HOMES[name]), name)
