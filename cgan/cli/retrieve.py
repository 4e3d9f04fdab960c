"""cgan retrieve: finds the pictures of a folder that fit a caption best, or the captions that fit a picture."""

import argparse
import os
import re
from pathlib import Path

from cgan.cli.option_checks import refuse_unused
from cgan.cli.parsing import Parser, captions_in, warn
from cgan.errors import UserError
from cgan.files import check_writable

MAX_ON_SHEET = 100  # pictures


def main(arguments: list[str]) -> None:
    """Prints what fits best, and writes contact sheets of pictures; raises UserError for a mistake in the arguments."""
    options = parser().parse_intermixed_args(arguments)
    check(options)
    from cgan.cli.progress import progress_bar
    from cgan.retrieval import retrieve, write_sheet

    candidates = None if options.caption_file is None else captions_in(options.caption_file)
    with progress_bar("encoding", "pictures") as bar:
        rankings = retrieve(
            options.captions,
            image=options.image,
            images=options.images,
            candidate_captions=candidates,
            top=options.top,
            checkpoint=options.checkpoint,
            index=options.index,
            report=warn,
            progress=bar,
        )
    number = 0
    for title, scores, found in rankings:
        print(f"{title}\nrank   score")
        for rank, (score, what) in enumerate(zip(scores, found, strict=True), start=1):
            print(f"{rank:4d} {score:7.3f}  {os.fsencode(what).decode(errors='replace')}")
        pictures = [what for what in found if isinstance(what, Path)]
        if pictures:
            sheet = sheet_path(options.out, title, number)
            write_sheet(sheet, title, scores, pictures)
            print(f"sheet: {sheet}")
            number += 1


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan retrieve`."""
    result = Parser(
        prog="cgan retrieve", description="Find pictures by a caption or a picture, or captions by a picture."
    )
    add = result.add_argument
    add("captions", nargs="*", help='what to look for, for instance "a red car"')
    add("--images", type=Path, metavar="DIR", help="the pictures to search, subfolders included")
    add("--image", type=Path, metavar="FILE", help="a picture to look for, instead of a caption")
    add("--captions", dest="caption_file", type=Path, metavar="FILE", help="captions for --image to find, one per line")
    add("--top", type=int, default=10, help=f"how many to find; a sheet shows {MAX_ON_SHEET} at most")
    add("--out", type=Path, help="a .png file for the sheet, or a folder; default: retrieved-sheets/")
    add("--index", type=Path, help="a .safetensors file that keeps the encoded pictures; default: in the cache")
    add("--checkpoint", type=Path, help="joint.safetensors or a run directory; default: the newest run's, else starter "
        "weights")  # fmt: skip
    return result


def check(options: argparse.Namespace) -> None:
    """Raises UserError for options that do not fit together, before anything is loaded."""
    if options.caption_file is not None and options.image is None:
        raise UserError(f"--captions={options.caption_file}: no picture to fit them to; give --image FILE")
    if options.out is not None and options.out.suffix.lower() not in ("", ".png") and not options.out.is_dir():
        raise UserError(f"--out={options.out}: sheets are PNG files; give a name that ends in .png, or a folder")
    if options.images is None and options.image is not None and options.caption_file is not None:
        refuse_unused(options, parser(), ["out", "index"], "without --images")
    if options.images is not None:
        check_writable(sheet_path(options.out, "", 0).parent, "give another --out")


def sheet_path(out: Path | None, title: str, number: int) -> Path:
    """Returns the file of a sheet; all but the first carry a number, so that no two are the same."""
    if out is None or out.suffix.lower() != ".png":
        name = re.sub(r"[^\w]+", "-", title.lower()).strip("-")[:60]
        out = (out or Path("retrieved-sheets")) / f"{name or 'caption'}.png"
    return out if number == 0 else out.with_stem(f"{out.stem}-{number}")
