"""cgan export: writes a checkpoint to a folder that can be published, or to one small file of weights."""

import argparse
from pathlib import Path

from cgan.cli.option_checks import refuse_unused
from cgan.cli.parsing import Parser, captions_in, warn


def main(arguments: list[str]) -> None:
    """Exports and prints where; raises UserError for a mistake in the arguments."""
    options = parser().parse_args(arguments)
    if options.out.suffix == ".safetensors":
        refuse_unused(options, parser(), ["license"], "for weights alone; it goes into a folder's README.md")
    from cgan.sampling.export import export

    captions = None if options.captions is None else captions_in(options.captions)
    out = export(
        options.checkpoint,
        options.out,
        half=not options.full,
        licence=options.license,
        captions=captions,
        onnx=options.onnx,
        force=options.force,
        report=print,
        warn=warn,
    )
    print(out)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan export`."""
    result = Parser(prog="cgan export", description="Write what sampling needs, to keep or publish.")
    add = result.add_argument
    add("checkpoint", type=Path, help="a run directory, its last.ckpt or best.ckpt, or an exported folder")
    add("out", type=Path, help="the folder to write, or a name that ends in .safetensors for the weights alone")
    add("--full", action="store_true", help="weights in float32, the same pictures as the checkpoint; default: half")
    add("--license", default="mit", metavar="NAME", help="of the weights, for the folder's README.md; default: mit")
    add("--captions", type=Path, metavar="FILE", help="captions of samples.png, one a line; default: scenes")
    add("--onnx", action="store_true", help="the generator as generator.onnx as well")
    add("--force", action="store_true", help="replace a folder that was exported before")
    return result
