"""cgan export: a checkpoint to a folder that can be published, or to one small file of weights."""

import argparse
import glob
import re
import shutil
from contextlib import suppress
from pathlib import Path

from cgan.cli.parsing import Parser
from cgan.cli.unused import refuse_unused
from cgan.errors import UserError
from cgan.files import (
    cannot_write,
    check_writable,
    check_writable_file,
    is_abandoned,
    remove_abandoned,
    sync_folder,
    temporary_name,
    write_json,
    write_text,
)

MOST_SAMPLES = 32  # rows of samples.png
NO_FOLDERS = (".ckpt", ".pt", ".pth", ".bin", ".onnx", ".zip")  # an OUT that ends so is a mistake
HINT = "give another place"


def main(arguments: list[str]) -> None:
    """Write the averaged generator and its text encoder; raises UserError for a mistake in the arguments."""
    options = parser().parse_args(arguments)
    bring_back(options.out.absolute())
    check(options)
    from cgan.sampling.pipeline import TextToImage
    from cgan.sampling.weights import find

    checkpoint = find(options.checkpoint)
    pipe = TextToImage.load(checkpoint)
    if options.out.suffix == ".safetensors":
        pipe.save(options.out, half=not options.full)
    else:
        write_folder(pipe, checkpoint, options)
    print(options.out)


def parser() -> argparse.ArgumentParser:
    result = Parser(prog="cgan export", description="Write what sampling needs, to keep or publish.")
    add = result.add_argument
    add("checkpoint", type=Path, help="a run directory, its last.ckpt or best.ckpt, or an exported folder")
    add("out", type=Path, help="the folder to write, or a name that ends in .safetensors for the weights alone")
    add("--full", action="store_true", help="weights in float32, which draw just as the checkpoint; default: half")
    add("--license", default="mit", metavar="NAME", help="of the weights, for the folder's README.md; default: mit")
    add("--captions", type=Path, metavar="FILE", help="captions of samples.png, one a line; default: scenes")
    add("--onnx", action="store_true", help="the generator as generator.onnx as well")
    add("--force", action="store_true", help="replace a folder that was exported before")
    return result


def check(options: argparse.Namespace) -> None:
    """Raise UserError for what is wrong at first sight."""
    out, alone = options.out, options.out.suffix == ".safetensors"
    if out.suffix in NO_FOLDERS:
        raise UserError(f"{out}: give a folder to write, or a file whose name ends in .safetensors")
    if alone and (options.onnx or options.captions is not None):
        raise UserError(f"{out}: --onnx and --captions go into a folder; give OUT a name without .safetensors")
    if alone:
        refuse_unused(options, parser(), ["license"], "for weights alone; it goes into a folder's README.md")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,60}", options.license):
        raise UserError(f"--license={options.license}: give a short name, such as mit, apache-2.0 or other")
    if out.exists() and not alone:
        if not options.force:
            raise UserError(f"{out}: is there already; give another folder, or --force to replace it")
        if not is_exported(out):
            raise UserError(f"{out}: no folder that `cgan export` has written, so --force doesn't replace it")
    check_writable_file(out, HINT) if alone else check_writable(out.absolute().parent, HINT)


def is_exported(folder: Path) -> bool:
    from cgan.sampling.weights import CONFIG, EXPORTED

    return (folder / EXPORTED).is_file() and (folder / CONFIG).is_file()


def bring_back(out: Path) -> None:
    """What a killed export has left beside OUT: the folder that stood there takes its place again, the rest is deleted.

    While one folder takes the place of another, the older one has for a moment a name that ends in .old.
    """
    remove_abandoned(out.parent)
    for old in out.parent.glob(f".{glob.escape(out.name[:100])}.*.old"):
        with suppress(OSError):
            if is_abandoned(old):
                shutil.rmtree(old) if out.exists() else old.rename(out)


def write_folder(pipe, checkpoint: Path, options: argparse.Namespace) -> None:
    """All files under a temporary name, which then takes the place of OUT."""
    out = options.out.absolute()
    unfinished, old = temporary_name(out), temporary_name(out).with_suffix(".old")
    try:
        unfinished.mkdir()
        fill(unfinished, pipe, checkpoint, options)
        if out.exists():
            out.rename(old)
        unfinished.rename(out)
        sync_folder(out.parent)
    except OSError as error:
        raise cannot_write(options.out, error, HINT) from error
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def fill(folder: Path, pipe, checkpoint: Path, options: argparse.Namespace) -> None:
    """Weights, settings, model card and sample grid."""
    import cgan
    from cgan.sampling.model_card import facts_of, model_card
    from cgan.sampling.pipeline import TextToImage
    from cgan.sampling.weights import CONFIG, EXPORTED, FORMAT, write

    write(folder / EXPORTED, pipe.tensors, half=not options.full, metadata={"format": "pt"})
    config = {"format": FORMAT, "cgan": cgan.__version__, "precision": "full" if options.full else "half"}
    write_json(folder / CONFIG, {**config, "sampler": pipe.spec}, indent=1)
    exported = TextToImage.load(folder / EXPORTED)
    captions = write_samples(folder / "samples.png", exported, options.captions)
    if options.onnx:
        from cgan.sampling.onnx import write_onnx

        print(write_onnx(exported, folder / "generator.onnx"))
    facts = facts_of(checkpoint)
    card = model_card(exported, options.out.absolute().name, options.license, captions, facts, options.onnx)
    write_text(folder / "README.md", card)


def write_samples(path: Path, pipe, caption_file: Path | None) -> list[str]:
    """A grid of captions and seeds; says which words of the captions the model never saw."""
    import cgan
    from cgan.cli.retrieve import captions_in
    from cgan.cli.sample import listed, warn, warn_of_unread
    from cgan.figures.sheets import CAPTIONS, save_png
    from cgan.sampling.metadata import Drawing
    from cgan.sampling.naming import cleaned
    from cgan.sampling.pipeline import pairs
    from cgan.sampling.weights import EXPORTED

    captions = list(CAPTIONS) if caption_file is None else [cleaned(c) for c in captions_in(caption_file)]
    if len(captions) > MOST_SAMPLES:
        warn(f"samples.png: shows the first {MOST_SAMPLES} of {len(captions)} captions")
        captions = captions[:MOST_SAMPLES]
    unknown = pipe.unknown_words(captions)
    if unknown:
        warn(f"samples.png: the model never saw {listed(unknown)}; give captions of its own kind by --captions FILE")
    warn_of_unread(pipe.unread(captions))
    drawing = Drawing(captions, list(range(8)), "grid")
    about = drawing.to_json(checkpoint={"file": EXPORTED, "sha256": pipe.sha256}, cgan=cgan.__version__)
    save_png(drawing.page(pipe.stream(*pairs(captions, 0, len(drawing.seeds)))), path, about)
    return captions
