"""cgan judge: train the scene classifier, and show what it reads and what it rejects."""

import argparse
import json
from pathlib import Path

from cgan.cli.option_checks import refuse_unused
from cgan.cli.parsing import Parser
from cgan.errors import UserError
from cgan.files import check_writable_file
from cgan.ranges import Range, check_number, check_seed

DEFAULT_FILES = {  # by level
    "one": Path("judge.safetensors"),
    "two": Path("judge-two.safetensors"),
    "three": Path("judge-three.safetensors"),
}


def main(arguments: list[str]) -> None:
    """Train a scene classifier; write its weights, and write and print the table of its errors."""
    options = parser().parse_args(arguments)
    options.out = options.out or DEFAULT_FILES[options.level]
    check(options)
    from cgan.evaluation.scene_classifier_training import save_scene_classifier, train_scene_classifier

    result = train_scene_classifier(
        options.level, num_images=options.num_images, images=options.images, young=options.young,
        young_images=options.young_images, test_images=options.test_images, seed=options.seed,
        report=lambda line: print(line, flush=True),
    )  # fmt: skip
    save_scene_classifier(result.classifier, result.table, options.out)
    print(json.dumps(result.table, indent=2))
    print(options.out)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of cgan judge."""
    result = Parser(prog="cgan judge", description="Train the classifier that reads scenes.")
    result.add_argument("--level", choices=tuple(DEFAULT_FILES), default="one", help="objects in a scene")
    result.add_argument("--num-images", type=int, default=30_000, help="real scenes; plus as many unrecognisable ones")
    result.add_argument("--images", type=int, default=600_000, help="pictures seen in training")
    result.add_argument("--young", type=Path, nargs="*", default=[], help="checkpoints with unrecognisable pictures")
    result.add_argument("--young-images", type=int, default=1500, help="pictures of each young checkpoint")
    result.add_argument("--test-images", type=int, default=3600, help="per kind, for the table of errors")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument(
        "--out", type=Path, help="default: judge.safetensors, or judge-LEVEL.safetensors, in this folder"
    )
    return result


def check(options: argparse.Namespace) -> None:
    """Raise UserError for options out of range and for files that do not exist."""
    check_seed(f"--seed={options.seed}", options.seed, spread=1)
    for name in ("num_images", "images", "young_images", "test_images"):
        least = 128 if name == "images" else 1  # a batch
        check_number(f"--{name.replace('_', '-')}={getattr(options, name)}", getattr(options, name), Range(least))
    if not options.young:
        refuse_unused(options, parser(), ["young_images"], "without --young")
    for checkpoint in options.young:
        if not checkpoint.is_file():
            raise UserError(f"--young {checkpoint}: no such checkpoint")
    check_writable_file(options.out, "give another --out")
