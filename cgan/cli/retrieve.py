"""cgan retrieve: the pictures of a folder that fit a caption best, or the captions that fit a picture."""

import argparse
import math
import os
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cgan.cli.parsing import Parser
from cgan.cli.unused import refuse_unused
from cgan.data.text_files import decode_text, read_text
from cgan.errors import UserError
from cgan.files import check_writable, check_writable_file

THUMBNAIL, MARGIN, TITLE, LABEL = 160, 20, 60, 38  # pixels; a label stands under each thumbnail
LARGEST_SHEET = 100  # pictures
INK, FAINT = "#222222", "#8a8a8a"


def main(arguments: list[str]) -> None:
    """Print what fits best, with a contact sheet of pictures; raises UserError for a mistake in the arguments."""
    options = parser().parse_intermixed_args(arguments)
    check(options)
    from cgan.cli.progress import progress_bar
    from cgan.retrieval import embed_captions, embed_picture, joint_checkpoint_of, nearest, open_index, opened_joint

    checkpoint = joint_checkpoint_of(options.checkpoint)
    joint = opened_joint(checkpoint)
    for word in joint.text.unknown_words(options.captions):
        warn(f"the model never saw the word '{word}'")
    if options.caption_file is not None:
        captions = list(dict.fromkeys(captions_in(options.caption_file)))  # one that stands twice is found once
        scores, rows = nearest(embed_picture(joint, options.image), embed_captions(joint, captions), options.top)
        print_table(f"captions of {options.image.name}", scores[0], [captions[row] for row in rows[0]])
    if options.images is not None:
        with progress_bar("encoding", "pictures") as bar:
            index = open_index(joint, checkpoint, options.images, options.index, warn, bar)
        found = {caption: index.search_caption(joint, caption, options.top) for caption in options.captions}
        if options.image is not None:
            scores, rows = index.search(embed_picture(joint, options.image), options.top)
            found[f"pictures like {options.image.name}"] = scores[0], rows[0]
        for number, (title, (scores, rows)) in enumerate(found.items()):
            paths = [options.images / index.files[row].name for row in rows]
            show(title, scores, paths, sheet_path(options.out, title, number))


def parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="cgan retrieve", description="Find pictures by a caption or a picture, or captions by a picture."
    )
    result.add_argument("captions", nargs="*", help='what to look for, for instance "a red car"')
    result.add_argument("--images", type=Path, metavar="DIR", help="the pictures to search, in folders or not")
    result.add_argument("--image", type=Path, metavar="FILE", help="a picture to look for, in place of a caption")
    result.add_argument(
        "--captions", dest="caption_file", type=Path, metavar="FILE", help="captions for --image to find, one a line"
    )
    result.add_argument("--top", type=int, default=10, help=f"how many to find; a sheet shows {LARGEST_SHEET} at most")
    result.add_argument("--out", type=Path, help="a .png file for the sheet, or a folder; default: retrieved-sheets/")
    result.add_argument(
        "--index", type=Path, help="a .safetensors file that keeps the encoded pictures; default: in the cache"
    )
    result.add_argument(
        "--checkpoint",
        type=Path,
        help="joint.safetensors or a run directory; default: the newest run's, else starter weights",
    )
    return result


def check(options: argparse.Namespace) -> None:
    """Raise UserError for what is wrong at first sight."""
    if not options.captions and options.image is None:
        raise UserError('nothing to look for; give a caption, for instance "a red car", or --image FILE')
    if any(not caption.strip() for caption in options.captions):
        raise UserError('a caption is empty; say what to look for, for instance "a red car"')
    if options.caption_file is not None and options.image is None:
        raise UserError(f"--captions={options.caption_file}: no picture to fit them to; give --image FILE")
    if options.images is None and (options.captions or options.caption_file is None):
        raise UserError("nowhere to look; give --images DIR, the folder to search, or --image with --captions FILE")
    if options.top < 1:
        raise UserError(f"--top={options.top}: must be at least 1; 10 is a good start")
    if options.index is not None and options.index.suffix != ".safetensors":
        raise UserError(f"--index={options.index}: give it a name that ends in .safetensors")
    if options.out is not None and options.out.suffix.lower() not in ("", ".png") and not options.out.is_dir():
        raise UserError(f"--out={options.out}: sheets are PNG files; give a name that ends in .png, or a folder")
    if options.images is None:
        refuse_unused(options, parser(), ["out", "index"], "without --images")
        return
    if options.index is not None:
        check_writable_file(options.index, "give another --index")
    check_writable(sheet_path(options.out, "", 0).parent, "give another --out")


def captions_in(file: Path) -> list[str]:
    """The lines of a text file, or of standard input for "-", empty ones left out; raises UserError.

    It is in UTF-8, or in UTF-16 with its mark.
    """
    if str(file) != "-" and not file.is_file():
        raise UserError(f"--captions={file}: no such file; give a text file with one caption a line")
    text = decode_text(sys.stdin.buffer.read(), "standard input") if str(file) == "-" else read_text(file)
    captions = [line.strip() for line in text.splitlines() if line.strip()]
    if not captions:
        raise UserError(f"--captions={file}: no captions in it; write one a line")
    return captions


def show(title: str, scores: np.ndarray, paths: list[Path], sheet: Path) -> None:
    """A table of the pictures that were found, and a sheet of the first of them."""
    from cgan.data.pictures import decode
    from cgan.figures.sheets import save_png

    print_table(title, scores, paths)
    thumbnails = [decode((path, THUMBNAIL))[0] for path in paths[:LARGEST_SHEET]]
    save_png(contact_sheet(thumbnails, scores, title), sheet)
    print(f"sheet: {sheet}")


def sheet_path(out: Path | None, title: str, number: int) -> Path:
    """The file of a sheet; all but the first carry a number, so that no two are the same."""
    from cgan.retrieval import SHEETS

    if out is None or out.suffix.lower() != ".png":
        name = re.sub(r"[^\w]+", "-", title.lower()).strip("-")[:60]
        out = (out or Path(SHEETS)) / f"{name or 'caption'}.png"
    return out if number == 0 else out.with_stem(f"{out.stem}-{number}")


def print_table(title: str, scores: np.ndarray, found: list[str | Path]) -> None:
    print(f"{title}\nrank   score")
    for rank, (score, what) in enumerate(zip(scores, found, strict=True), start=1):
        print(f"{rank:4d} {score:7.3f}  {os.fsencode(what).decode(errors='replace')}")


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def contact_sheet(pictures: list[np.ndarray | None], scores: np.ndarray, title: str) -> np.ndarray:
    """Square pictures in a grid, rank and score under each, a title above; uint8 (H, W, 3). None stays blank."""
    columns = min(len(pictures), max(5, math.ceil(math.sqrt(1.6 * len(pictures)))))
    cell = THUMBNAIL + MARGIN, THUMBNAIL + LABEL
    width = MARGIN + cell[0] * max(columns, 3)  # room for a title, even with one picture
    sheet = Image.new("RGB", (width, TITLE + cell[1] * math.ceil(len(pictures) / columns) + MARGIN // 2), "white")
    font = ImageFont.load_default(size=22)
    line = cut(title, font, width - 2 * MARGIN)
    ImageDraw.Draw(sheet).text((MARGIN, TITLE // 2), line, INK, font, anchor="lm")
    for i, picture in enumerate(pictures):
        corner = MARGIN + i % columns * cell[0], TITLE + i // columns * cell[1]
        add_picture(sheet, corner, picture, i + 1, float(scores[i]))
    return np.asarray(sheet)


def add_picture(
    sheet: Image.Image, corner: tuple[int, int], picture: np.ndarray | None, rank: int, score: float
) -> None:
    """A thumbnail with a thin frame, so that a white picture shows on white, and the label below it."""
    left, top = corner
    if picture is not None:
        sheet.paste(Image.fromarray(picture), corner)
    draw, font, below = ImageDraw.Draw(sheet), ImageFont.load_default(size=15), top + THUMBNAIL + 6
    draw.rectangle((left - 1, top - 1, left + THUMBNAIL, top + THUMBNAIL), outline="#d8d8d8")
    draw.text((left, below), str(rank), INK, font)
    draw.text((left + THUMBNAIL, below), f"{score:.3f}", FAINT, font, anchor="ra")


def cut(title: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """A title on one line of so many pixels, with an ellipsis where its end is missing."""
    title = " ".join(title.split())
    if font.getlength(title) <= width:
        return title
    while title and font.getlength(f"{title.rstrip()}...") > width:
        title = title[:-1]
    return f"{title.rstrip()}..."
