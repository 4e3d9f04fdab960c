"""Embeds pictures and captions in the latent of a joint encoder, and writes captions of pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from cgan.data.pictures import decode
from cgan.interfaces import UserError
from cgan.models.joint import JointEncoder
from cgan.pixels import as_floats
from cgan.resources import STARTER_JOINT, shipped_weights

BATCH_SIZE = 64


def joint_checkpoint_of(path: Path | None) -> Path:
    """Returns the file of a joint encoder, given as a file, a run directory or the name of shipped weights.

    None stands for that of the newest run, or for the starter weights if no run has one. Raises UserError if there is
    none.
    """
    if path is not None and path.is_dir():
        return path / "joint.safetensors"
    if path is not None:
        return path if path.is_file() else shipped_weights(path) or path
    found = sorted(Path("runs").glob("*/joint.safetensors"), key=lambda p: p.stat().st_mtime)
    if not found and not STARTER_JOINT.is_file():
        raise UserError("no joint encoder under runs/; train one with `cgan train`, or give --checkpoint")
    return found[-1] if found else STARTER_JOINT


def opened_joint(path: Path) -> JointEncoder:
    """Returns the joint encoder of a file, on a GPU if there is one; raises UserError."""
    return JointEncoder.load(path).to("cuda" if torch.cuda.is_available() else "cpu")


def embed_picture(joint: JointEncoder, path: Path) -> np.ndarray:
    """Returns the embedding of a picture, float32 (1, E); raises UserError if it can't be read."""
    picture, reason = decode((path, joint.resolution))
    if picture is None:
        raise UserError(f"{path}: {reason}; give another picture")
    return embed_decoded(joint, [picture])


@torch.inference_mode()
def embed_captions(joint: JointEncoder, captions: list[str]) -> np.ndarray:
    """Returns the embeddings of captions, float32 (N, E), computed in batches so that N may be large."""
    batches = [captions[i : i + BATCH_SIZE] for i in range(0, len(captions), BATCH_SIZE)]
    return np.concatenate([joint.embed_captions(batch).float().cpu().numpy() for batch in batches])


@torch.inference_mode()
def embed_decoded(joint: JointEncoder, pictures: list[np.ndarray]) -> np.ndarray:
    """Returns the embeddings, float32 (B, E), of pictures, each uint8 (H, W, 3) at the encoder's resolution."""
    images = as_floats(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))  # (B, 3, H, W)
    return joint.embed_images(images).float().cpu().numpy()


def caption_pictures(pictures: Sequence[Path], checkpoint: Path | None = None) -> Iterator[str]:
    """Yields a caption of each picture, by greedy decoding.

    checkpoint is a joint encoder or a run directory, as in `retrieve`. Raises UserError for a picture that can't be
    read, and for a joint encoder without a caption decoder.
    """
    joint = opened_joint(joint_checkpoint_of(checkpoint))
    for path in pictures:
        picture, reason = decode((path, joint.resolution))
        if picture is None:
            raise UserError(f"{path}: {reason}; give another picture")
        yield joint.captions_of(as_floats(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]))[0]
