"""cgan caption: writes captions of pictures by a joint encoder."""

import argparse
from pathlib import Path

from cgan.cli.parsing import Parser


def main(arguments: list[str]) -> None:
    """Prints a caption of each picture; raises UserError for a picture that can't be read."""
    options = parser().parse_args(arguments)
    from cgan.retrieval import caption_pictures

    for path, caption in zip(options.pictures, caption_pictures(options.pictures, options.checkpoint), strict=True):
        print(f"{path}: {caption}" if len(options.pictures) > 1 else caption)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan caption`."""
    result = Parser(prog="cgan caption", description="Write captions of pictures.")
    result.add_argument("pictures", nargs="+", type=Path)
    result.add_argument(
        "--checkpoint",
        type=Path,
        help="joint.safetensors or a run directory; default: the newest run's, else starter weights",
    )
    return result
