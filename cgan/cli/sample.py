"""python sample.py: captions to PNG files."""

import argparse
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cgan.interfaces import UserError

STARTER = Path(__file__).parents[2] / "assets" / "scenes-64.safetensors"  # trained on scenes; see the README


def main(arguments: list[str]) -> None:
    """Draw each caption and say where; raises UserError for a mistake in the arguments."""
    options = parser().parse_args(arguments)
    import numpy as np
    from PIL import Image

    from cgan.sampling import TextToImage

    checkpoint = checkpoint_of(options.checkpoint)
    pipe = TextToImage.load(checkpoint)
    draw = drawer(pipe, checkpoint, options)
    for word in pipe.unknown_words(options.captions):
        print(f"warning: the model never saw the word '{word}'", file=sys.stderr)
    for number, caption in enumerate(options.captions):
        seeds = list(range(options.seed, options.seed + options.num))
        pictures = draw([caption] * options.num, seeds)
        path = path_of(options, caption, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        Image.fromarray(np.concatenate(list(pictures), axis=1)).save(unfinished, format="PNG")
        unfinished.replace(path)
        print(path)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="sample.py", description="Draw pictures from captions.")
    result.add_argument("captions", nargs="+", help='what to draw, for instance "a dog on grass"')
    result.add_argument("--seed", type=int, default=0, help="the same seed and caption give the same picture")
    result.add_argument("--num", type=int, default=1, help="pictures of each caption, side by side")
    result.add_argument("--truncation", type=float, default=1.0, help="below 1: safer and less varied")
    result.add_argument(
        "--checkpoint", type=Path, help="file or run directory; default: the newest run, else starter weights"
    )
    result.add_argument("--out", type=Path, help="a .png file for one caption, or a folder; default: samples/")
    result.add_argument("--best-of", type=int, default=1, help="draw so many of each, keep the one that fits best")
    result.add_argument(
        "--joint", type=Path, help="joint.safetensors that judges --best-of; default: the run's, else starter weights"
    )
    return result


def drawer(pipe, checkpoint: Path, options: argparse.Namespace) -> Callable:
    """What draws captions with seeds: the pipe itself, or the best of several by a joint encoder."""
    if options.best_of < 1:
        raise UserError(f"--best-of={options.best_of}: must be at least 1; 8 is a good start")
    if options.best_of == 1:
        return partial(pipe, truncation=options.truncation)
    from cgan.joint import JointEncoder
    from cgan.measuring import resized
    from cgan.retrieval import STARTER

    beside = checkpoint.with_name("joint.safetensors")
    joint = JointEncoder.load(options.joint or (beside if beside.is_file() else STARTER))

    def fits(images, caption: str):
        return joint.scores(resized(images, joint.resolution), [caption])[:, 0]

    return partial(pipe.best_of, num=options.best_of, score=fits, truncation=options.truncation)


def checkpoint_of(path: Path | None) -> Path:
    """The checkpoint that is meant by a file, a run directory, or nothing at all."""
    if path is not None:
        return path / "last.ckpt" if path.is_dir() else path
    found = sorted(Path("runs").glob("*/last.ckpt"), key=lambda p: p.stat().st_mtime)
    if not found and not STARTER.is_file():
        raise UserError("no run with a checkpoint under runs/; train one with `python train.py`, or give --checkpoint")
    return found[-1] if found else STARTER


def path_of(options: argparse.Namespace, caption: str, number: int) -> Path:
    if options.out is not None and options.out.suffix == ".png":
        return options.out if number == 0 else options.out.with_stem(f"{options.out.stem}-{number}")
    name = re.sub(r"[^\w]+", "-", caption.lower()).strip("-")[:60]
    return (options.out or Path("samples")) / f"{name}-{options.seed}.png"
