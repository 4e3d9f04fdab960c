"""Reranks candidates by a joint encoder: of several pictures the one that fits its caption best is kept."""

from pathlib import Path

from torch import Tensor

from cgan.errors import UserError
from cgan.models.joint import JointEncoder
from cgan.models.weights_hash import hash_weights
from cgan.resources import STARTER_EMOJI, STARTER_JOINT
from cgan.sampling.weights import label


class Reranker:
    """reranker(images, caption) -> scores (B,) of images (B, 3, H, W) in [-1, 1]; the largest fits the caption best."""

    def __init__(self, path: Path) -> None:
        """Loads the joint encoder of a file; raises UserError if it holds none."""
        self.joint = JointEncoder.load(path)
        self.about = {"file": label(path), "sha256": hash_weights(self.joint)}

    def __call__(self, images: Tensor, caption: str) -> Tensor:
        return self.joint.scores(self.resized(images), [caption])[:, 0]

    def resized(self, images: Tensor) -> Tensor:
        """Returns the images at the joint encoder's resolution R, (B, 3, R, R)."""
        from torchvision.transforms.v2.functional import resize

        size = self.joint.resolution
        return images if images.shape[-1] == size else resize(images, [size, size], antialias=True)


def joint_encoder_for(checkpoint: Path) -> Path:
    """Returns the joint encoder in the folder of a checkpoint, or else the starter weights, which know scenes.

    Raises UserError for the starter weights of emoji, which come without one.
    """
    beside = checkpoint.with_name("joint.safetensors")
    if checkpoint.name == STARTER_EMOJI.name and not beside.is_file():
        raise UserError(
            f"{checkpoint.name}: comes without a joint encoder, which reads pictures; give one with --joint"
        )
    return beside if beside.is_file() else STARTER_JOINT
