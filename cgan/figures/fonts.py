"""Fonts of labels: a font that has all of a text's letters, or a text in letters that a font has."""

from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, cast

from PIL import ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
NO_GLYPH = "\uffff"  # drawn as whatever a font draws for a letter that it does not have
WIDELY_READ = ("noto", "cjk", "unifont", "wqy", "droid", "gothic", "pingfang", "yahei", "hei", "arial unicode")
NO_FONT = "(caption in letters that no font here has)"


def label(text: str, size: float = 10) -> tuple[str, Font]:
    """Returns a text with a font of `size` pixels that has all of its letters: Pillow's own, or one installed here.

    Where there is none, Chinese captions of scenes are shown in English, and other texts without the letters that are
    missing, or by NO_FONT if nothing is left of them; an empty box would say less.
    """
    own = ImageFont.load_default(size)
    missing = frozenset(letter for letter in text if not has(own, letter))
    if not missing:
        return text, own
    file = file_with(frozenset(text) - frozenset(" \n\t"))
    if file is not None:
        return text, ImageFont.truetype(file, size)
    from cgan.data.scenes.levels import translated  # sampling needs no data set, but for such a caption

    english = translated(text)
    if english is not None:
        return english, own
    left = " ".join("".join(letter for letter in text if letter not in missing).split())
    return (left if any(letter.isalnum() for letter in left) else NO_FONT), own


def has(font: Font, letter: str) -> bool:
    """Returns whether a font has a letter; spaces need none."""
    return letter.isspace() or bytes(cast(Any, font.getmask(letter))) != bytes(cast(Any, font.getmask(NO_GLYPH)))


@cache
def file_with(letters: frozenset[str]) -> str | None:
    """Returns the file of an installed font that has all of some letters, or None; Matplotlib brings DejaVu Sans."""
    from matplotlib.ft2font import FT2Font

    for path in installed():
        try:
            known = FT2Font(path).get_charmap()
        except (OSError, RuntimeError):  # damaged, or of a kind that FreeType can't read
            continue
        if all(ord(letter) in known for letter in letters):
            return path
    return None


@cache
def installed() -> list[str]:
    """Returns the files of upright fonts: Matplotlib's own, then the system's, those of many scripts first."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import findSystemFonts

    own = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    slanted = ("italic", "oblique", "bold")
    others = [path for path in sorted(findSystemFonts()) if not any(word in path.lower() for word in slanted)]
    return [str(own), *sorted(others, key=lambda path: not any(name in path.lower() for name in WIDELY_READ))]
