"""cgan export: writes a checkpoint to a folder, to the Hugging Face hub, or to one small file of weights."""

import argparse
from pathlib import Path

from cgan.cli.option_checks import refuse_unused
from cgan.cli.parsing import Parser, captions_in, warn
from cgan.errors import UserError


def main(arguments: list[str]) -> None:
    """Exports and prints where; raises UserError for a mistake in the arguments."""
    options = parser().parse_args(arguments)
    check(options)
    from cgan.sampling.export import export, push_to_hub

    captions = None if options.captions is None else captions_in(options.captions)
    choices = {"half": not options.full, "licence": options.license, "captions": captions}
    choices["posterior"] = options.posterior
    told = {"report": print, "warn": warn}
    if options.out is None:
        print(push_to_hub(options.checkpoint, options.push, private=options.private, **choices, **told))
        return
    more = {"onnx": options.onnx, "force": options.force, "name": options.push}
    out = export(options.checkpoint, options.out, **more, **choices, **told)
    print(out)
    if options.push is not None:
        from cgan.sampling.hub import upload

        print(upload(out, options.push, options.private))


def check(options: argparse.Namespace) -> None:
    """Raises UserError for options that do not fit together, and for an upload that can't be."""
    if options.out is None and options.push is None:
        raise UserError("give OUT, the folder to write, or --push OWNER/NAME; see cgan export --help")
    if options.out is None:
        refuse_unused(options, parser(), ["onnx", "force"], "without OUT")
    elif options.out.suffix == ".safetensors":
        refuse_unused(options, parser(), ["license"], "for weights alone; it goes into a folder's README.md")
        refuse_unused(options, parser(), ["push"], "for weights alone; it uploads a folder")
    if options.push is None:
        refuse_unused(options, parser(), ["private"], "without --push")
    else:
        from cgan.sampling.hub import check_upload

        check_upload(options.push)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan export`."""
    result = Parser(prog="cgan export", description="Write what sampling needs, to keep or publish.")
    add = result.add_argument
    add("checkpoint", type=Path, help="a run directory, its last.ckpt or best.ckpt, or an exported folder")
    add("out", type=Path, nargs="?", help="the folder to write, or a name that ends in .safetensors for the weights "
        "alone; may be left out with --push")  # fmt: skip
    add("--full", action="store_true", help="weights in float32, the same pictures as the checkpoint; default: half")
    add("--license", default="mit", metavar="NAME", help="licence of the weights, for README.md; default: mit")
    add("--captions", type=Path, metavar="FILE", help="captions of samples.png, one per line; default: scenes")
    add("--onnx", action="store_true", help="also write generator.onnx")
    add("--posterior", action="store_true", help="include the posterior that cgan sample --from needs")
    add("--force", action="store_true", help="replace a folder that was exported before")
    add("--push", metavar="OWNER/NAME", help="upload the folder to the Hugging Face hub; append @BRANCH for a branch")
    add("--private", action="store_true", help="with --push: make a new repository private")
    return result
