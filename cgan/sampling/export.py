"""Export of a checkpoint: to a folder that can be published, or to one small file of weights."""

import glob
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cgan.errors import UserError
from cgan.figures.sheets import example_captions, save_png
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
from cgan.sampling.hub import check_upload, upload
from cgan.sampling.model_card import facts_of, model_card
from cgan.sampling.naming import cleaned
from cgan.sampling.pipeline import TextToImage, pairs
from cgan.sampling.request import SamplingRequest
from cgan.sampling.weights import CONFIG, EXPORTED, FORMAT, find, write
from cgan.sampling.writing import vocabulary_warnings
from cgan.version import __version__

MAX_CAPTIONS, NUM_SEEDS = 32, 8  # rows and columns of samples.png
NOT_FOLDERS = (".ckpt", ".pt", ".pth", ".bin", ".onnx", ".zip")  # suffixes of an output that are a mistake
HINT = "give another place"


@dataclass(frozen=True)
class ExportOptions:
    """The options of an exported folder."""

    half: bool = True  # weights in float16
    licence: str = "mit"  # of the weights, in the model card
    captions: list[str] | None = None  # of samples.png; None takes captions of scenes
    onnx: bool = False  # the generator as generator.onnx as well
    force: bool = False  # replace a folder that was exported before
    name: str | None = None  # of the model, in the model card; None takes the folder's
    posterior: bool = False  # what finds the noise of pictures as well


def export(
    checkpoint: str | Path,
    out: Path,
    *,
    half: bool = True,
    licence: str = "mit",
    captions: list[str] | None = None,
    onnx: bool = False,
    force: bool = False,
    name: str | None = None,
    posterior: bool = False,
    report: Callable[[str], None] = lambda message: None,
    warn: Callable[[str], None] = lambda message: None,
) -> Path:
    """Writes the averaged generator and its text encoder, and returns `out`.

    checkpoint is a file, a run directory, an exported folder or owner/name on the hub. An `out` that ends in
    .safetensors becomes one file of weights, any other a folder with weights, settings, model card, samples.png of
    `captions` and, with `onnx`, generator.onnx. half stores weights in float16; with half=False exported weights give
    the same pictures bit for bit. `posterior` adds what redraws pictures by captions, with the encoder that it stands
    on. `report` is called with the largest difference between ONNX's and PyTorch's images, `warn` with words that are
    unknown to the model. `name` is the model's in the model card, by default the folder's.

    Raises UserError for a mistake in the arguments, or if nothing can be written; `out` then stays as it was.
    """
    options = ExportOptions(half, licence, captions, onnx, force, name, posterior)
    restore_interrupted(out.absolute())
    check_export(out, options)
    source = find(checkpoint)
    pipe = TextToImage.load(source)
    if out.suffix == ".safetensors":
        pipe.save(out, half=half, posterior=posterior)
    else:
        write_folder(pipe, source, out, options, report, warn)
    return out


def push_to_hub(
    checkpoint: str | Path,
    name: str,
    *,
    private: bool = False,
    half: bool = True,
    licence: str = "mit",
    captions: list[str] | None = None,
    posterior: bool = False,
    report: Callable[[str], None] = lambda message: None,
    warn: Callable[[str], None] = lambda message: None,
) -> str:
    """Uploads a checkpoint to the Hugging Face hub, as the folder that `export` writes, and returns its address.

    name is owner/name, or owner/name@branch for another branch than main; what does not exist is created, with
    private=True for the owner's eyes alone. The other arguments are those of `export`. Needs a token with write access:
    `hf auth login`, or HF_TOKEN. Raises UserError; nothing stays on the disk.
    """
    target = check_upload(name)
    with tempfile.TemporaryDirectory(prefix="cgan-export-") as folder:
        source, options = find(checkpoint), ExportOptions(half, licence, captions, posterior=posterior)
        check_export(Path(folder) / "model", options)
        pipe = TextToImage.load(source)
        write_files(Path(folder), pipe, options, report, warn, target.repository, source)
        return upload(Path(folder), name, private)


def check_export(out: Path, options: ExportOptions) -> None:
    """Raises UserError for mistakes that can be found before anything is loaded."""
    weights_alone = out.suffix == ".safetensors"
    if out.suffix in NOT_FOLDERS:
        raise UserError(f"{out}: give a folder to write, or a file whose name ends in .safetensors")
    if weights_alone and (options.onnx or options.captions is not None):
        raise UserError(f"{out}: --onnx and --captions go into a folder; give OUT a name without .safetensors")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,60}", options.licence):
        raise UserError(f"--license={options.licence}: give a short name, such as mit, apache-2.0 or other")
    if out.exists() and not weights_alone:
        if not options.force:
            raise UserError(f"{out}: is there already; give another folder, or --force to replace it")
        if not is_exported(out):
            raise UserError(f"{out}: no folder that `cgan export` has written, so --force doesn't replace it")
    if weights_alone:
        check_writable_file(out, HINT)
    else:
        check_writable(out.absolute().parent, HINT)


def is_exported(folder: Path) -> bool:
    """Returns whether a folder was written by `export`."""
    return (folder / EXPORTED).is_file() and (folder / CONFIG).is_file()


def restore_interrupted(out: Path) -> None:
    """Restores a folder that a killed export had renamed, and deletes its unfinished files.

    While a new folder replaces an older one, the older one has a temporary name that ends in .old.
    """
    remove_abandoned(out.parent)
    for old in out.parent.glob(f".{glob.escape(out.name[:100])}.*.old"):
        with suppress(OSError):
            if is_abandoned(old):
                shutil.rmtree(old) if out.exists() else old.rename(out)


def write_folder(
    pipe: TextToImage,
    checkpoint: Path,
    out: Path,
    options: ExportOptions,
    report: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    """Writes all files into a temporary folder, which then replaces `out`; raises CannotWrite."""
    final = out.absolute()
    unfinished, old = temporary_name(final), temporary_name(final).with_suffix(".old")
    try:
        unfinished.mkdir()
        write_files(unfinished, pipe, options, report, warn, options.name or final.name, checkpoint)
        if final.exists():
            final.rename(old)
        unfinished.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise cannot_write(out, error, HINT) from error
    finally:
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_files(
    folder: Path,
    pipe: TextToImage,
    options: ExportOptions,
    report: Callable[[str], None],
    warn: Callable[[str], None],
    name: str,
    checkpoint: Path,
) -> None:
    """Writes weights, settings, samples.png, the model card and, with options.onnx, generator.onnx."""
    spec, tensors = pipe.weights(options.posterior)
    write(folder / EXPORTED, tensors, half=options.half, metadata={"format": "pt"})
    config = {"format": FORMAT, "cgan": __version__, "precision": "half" if options.half else "full"}
    write_json(folder / CONFIG, {**config, "sampler": spec}, indent=1)
    exported = TextToImage.load(folder / EXPORTED)
    captions = write_samples(folder / "samples.png", exported, options.captions, warn)
    if options.onnx:
        from cgan.sampling.onnx import write_onnx

        report(write_onnx(exported, folder / "generator.onnx"))
    card = model_card(exported, name, options.licence, captions, facts_of(checkpoint), options.onnx)
    write_text(folder / "README.md", card)


def write_samples(path: Path, pipe: TextToImage, captions: list[str] | None, warn: Callable[[str], None]) -> list[str]:
    """Writes a grid of captions by seeds, and returns the captions that it shows."""
    captions = example_captions(pipe.unknown_words) if captions is None else [cleaned(caption) for caption in captions]
    if len(captions) > MAX_CAPTIONS:
        warn(f"samples.png: shows the first {MAX_CAPTIONS} of {len(captions)} captions")
        captions = captions[:MAX_CAPTIONS]
    for line in vocabulary_warnings(pipe, captions):
        warn(f"samples.png: {line}; --captions FILE gives others")
    request = SamplingRequest(captions, list(range(NUM_SEEDS)), "grid")
    about = request.to_json(checkpoint={"file": EXPORTED, "sha256": pipe.sha256}, cgan=__version__)
    save_png(request.page(pipe.stream(*pairs(captions, 0, NUM_SEEDS))), path, about)
    return captions
