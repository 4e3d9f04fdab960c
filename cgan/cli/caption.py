"""cgan caption: what a joint encoder says of pictures."""

import argparse
from pathlib import Path

from cgan.cli.parsing import Parser
from cgan.errors import UserError


def main(arguments: list[str]) -> None:
    """Print a caption of each picture; raises UserError for a picture that can't be read."""
    options = parser().parse_args(arguments)
    import numpy as np
    import torch

    from cgan.data.pictures import decode
    from cgan.pixels import as_floats
    from cgan.retrieval import joint_checkpoint_of, opened_joint

    joint = opened_joint(joint_checkpoint_of(options.checkpoint))
    for path in options.pictures:
        picture, reason = decode((path, joint.resolution))
        if picture is None:
            raise UserError(f"{path}: {reason}; give another picture")
        image = as_floats(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None])
        (caption,) = joint.captions_of(image)
        print(f"{path}: {caption}" if len(options.pictures) > 1 else caption)


def parser() -> argparse.ArgumentParser:
    result = Parser(prog="cgan caption", description="Say what is in pictures.")
    result.add_argument("pictures", nargs="+", type=Path)
    result.add_argument(
        "--checkpoint",
        type=Path,
        help="joint.safetensors or a run directory; default: the newest run's, else starter weights",
    )
    return result
