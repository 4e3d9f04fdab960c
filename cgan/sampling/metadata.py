"""What a picture file shows, kept in the file itself, so that it can be drawn again."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from cgan.errors import UserError
from cgan.figures.sheets import grid
from cgan.ranges import LARGEST_SEED

MOST_GUIDANCE = 100  # far beyond all use, and far from what floats overflow at
LARGEST_FILE = 80_000_000  # pixels; PIL warns of larger ones
MOST_CANDIDATES = 10_000
NONSENSE = UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, KeyError, TypeError


@dataclass(frozen=True)
class Drawing:
    """The captions and seeds of one file, and how they are drawn and laid out."""

    captions: list[str]
    seeds: list[int]
    layout: Literal["row", "grid", "way"] = "row"  # a way leads from caption to caption and from seed to seed
    truncation: float = 1.0
    best_of: int = 1
    steps: int = 0  # pictures from each caption of a way to the next
    batch_size: int = 1
    device: str = "cpu"
    negative: str | None = None  # what not to draw
    guidance: float = 0.0  # how far captions are pushed away from it

    @property
    def num_pictures(self) -> int:
        if self.layout == "way":
            return (max(len(self.captions), 2) - 1) * (self.steps - 1) + 1
        return len(self.captions) * len(self.seeds)

    @property
    def said(self) -> list[str]:
        """Captions, and the negative one."""
        return self.captions if self.negative is None else [*self.captions, self.negative]

    def check(self) -> None:
        """Raise UserError for what can't be drawn."""
        if not self.captions or any(not caption.strip() for caption in self.captions):
            raise UserError('a caption is empty; say what to draw, for instance "a dog on grass"')
        if not self.seeds or any(not 0 <= seed <= LARGEST_SEED for seed in self.seeds):
            raise UserError(f"a seed is not from 0 to {LARGEST_SEED:,}; give another")
        if not (math.isfinite(self.truncation) and self.truncation >= 0):
            raise UserError(f"--truncation={self.truncation}: must be at least 0; 1 is plain, 0.7 safer")
        if self.negative is not None and not self.negative.strip():
            raise UserError('--negative is empty; say what not to draw, for instance "snow"')
        if not 0 <= self.guidance <= MOST_GUIDANCE:
            raise UserError(f"--guidance={self.guidance}: must be from 0 to {MOST_GUIDANCE}; 0.5 is a good start")
        if not 1 <= self.best_of <= MOST_CANDIDATES:
            raise UserError(f"--best-of={self.best_of}: must be from 1 to {MOST_CANDIDATES:,}; 8 is a good start")
        if self.batch_size < 1:
            raise UserError(f"--batch-size={self.batch_size}: must be at least 1")
        if self.layout == "way" and self.steps < 2:
            raise UserError(f"--interpolate={self.steps}: must be at least 2, the two ends; 8 is a good start")

    def check_size(self, resolution: int) -> None:
        """Raise UserError where the pictures would make too large a file."""
        if self.num_pictures * resolution**2 > LARGEST_FILE:
            most = LARGEST_FILE // resolution**2
            raise UserError(f"{self.num_pictures:,} pictures of {resolution} px are too many for one file, which "
                            f"holds {most:,}; draw fewer, or each into a file of its own (--separate)")  # fmt: skip

    def page(self, pictures: Iterator[np.ndarray]) -> np.ndarray:
        """The next pictures, laid out, uint8 (H, W, 3)."""
        mine = list(islice(pictures, self.num_pictures))
        return grid(mine, self.captions) if self.layout == "grid" else np.concatenate(mine, axis=1)

    def to_json(self, **more: object) -> str:
        return json.dumps({**asdict(self), **more})


def read_drawing(path: Path) -> tuple[Drawing, dict]:
    """The drawing that a PNG or GIF shows, and all that the file says of it; raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a picture that sample.py has drawn")
    if path.suffix.lower() == ".mp4":
        raise UserError(f"{path}: an MP4 does not say how it was drawn; a PNG or GIF that sample.py has written does")
    try:
        with Image.open(path, formats=["PNG", "GIF"]) as picture:
            about = json.loads(picture.info["cgan" if picture.format == "PNG" else "comment"])
        known = [field.name for field in fields(Drawing) if field.name in about]  # older files say less
        drawing = Drawing(**{name: about[name] for name in known})
        check_kinds(drawing, about)
    except NONSENSE:
        raise UserError(f"{path}: does not say how it was drawn; give a PNG or GIF of sample.py") from None
    drawing.check()
    return drawing, about


def check_kinds(drawing: Drawing, about: dict) -> None:
    """Raise TypeError where a file's words are not what a drawing is made of."""
    lists = all(isinstance(values, list) for values in (drawing.captions, drawing.seeds))
    counts = (*drawing.seeds, drawing.best_of, drawing.steps, drawing.batch_size) if lists else (None,)
    plain = lists and all(isinstance(caption, str) for caption in drawing.captions)
    if not plain or not all(type(count) is int for count in counts) or type(drawing.truncation) not in (int, float):
        raise TypeError
    if not isinstance(drawing.negative, str | None) or type(drawing.guidance) not in (int, float):
        raise TypeError
    if not all(isinstance(about.get(weights) or {}, dict) for weights in ("checkpoint", "joint")):
        raise TypeError
    if drawing.layout not in ("row", "grid", "way") or (drawing.layout == "way" and len(drawing.seeds) != 2):
        raise TypeError
