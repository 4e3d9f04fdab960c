"""Sampling requests: checked before sampling, and kept in image files, so that these can be sampled again."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from cgan.errors import UserError
from cgan.figures.sheets import grid
from cgan.ranges import LARGEST_SEED

MAX_GUIDANCE = 100  # far beyond all use, and far from what floats overflow at
MAX_PIXELS = 80_000_000  # of one file; PIL warns of larger ones
MAX_CANDIDATES = 10_000
MAX_SOURCES = 2  # pictures to start from: one, or two to blend
OLD_LAYOUTS = {"way": "interpolation"}  # names in files of earlier versions
NOT_METADATA = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, KeyError, TypeError,
)  # fmt: skip


@dataclass(frozen=True)
class SamplingRequest:
    """The captions and seeds of one image file, and how its pictures are sampled and laid out."""

    captions: list[str]
    seeds: list[int]
    layout: Literal["row", "grid", "interpolation"] = "row"  # an interpolation goes between captions and two seeds
    truncation: float = 1.0
    best_of: int = 1
    steps: int = 0  # of an interpolation: pictures from each caption to the next, both included
    batch_size: int = 1
    device: str = "cpu"
    negative: str | None = None  # a caption of what the pictures should not show
    guidance: float = 0.0  # how far captions are pushed away from the negative one
    sources: list[dict[str, str]] = field(default_factory=list)  # pictures to start from: file and sha256 of each
    keep: float = 1.0  # how much of them stays

    @property
    def num_pictures(self) -> int:
        """The number of pictures in the file."""
        if self.layout == "interpolation":
            return (max(len(self.captions), 2) - 1) * (self.steps - 1) + 1
        return len(self.captions) * len(self.seeds)

    @property
    def all_captions(self) -> list[str]:
        """The captions, followed by the negative one where there is one."""
        return self.captions if self.negative is None else [*self.captions, self.negative]

    def check(self) -> None:
        """Raises UserError where a value is out of its range."""
        if not self.captions or any(not caption.strip() for caption in self.captions):
            raise UserError('a caption is empty; give one, for instance "a dog on grass"')
        if not self.seeds or any(not 0 <= seed <= LARGEST_SEED for seed in self.seeds):
            raise UserError(f"a seed is not from 0 to {LARGEST_SEED:,}; give another")
        if not (math.isfinite(self.truncation) and self.truncation >= 0):
            raise UserError(f"--truncation={self.truncation}: must be at least 0; 1 is plain, 0.7 safer")
        if self.negative is not None and not self.negative.strip():
            raise UserError('--negative is empty; give a caption of what the picture should not show, such as "snow"')
        if not 0 <= self.guidance <= MAX_GUIDANCE:
            raise UserError(f"--guidance={self.guidance}: must be from 0 to {MAX_GUIDANCE}; 0.5 is a good start")
        check_keep(self.keep)
        if not 1 <= self.best_of <= MAX_CANDIDATES:
            raise UserError(f"--best-of={self.best_of}: must be from 1 to {MAX_CANDIDATES:,}; 8 is a good start")
        if self.batch_size < 1:
            raise UserError(f"--batch-size={self.batch_size}: must be at least 1")
        if self.layout == "interpolation" and self.steps < 2:
            raise UserError(f"--interpolate={self.steps}: must be at least 2, the two ends; 8 is a good start")

    def check_size(self, resolution: int) -> None:
        """Raises UserError where pictures of this resolution, in pixels, would make too large a file."""
        if self.num_pictures * resolution**2 > MAX_PIXELS:
            most = MAX_PIXELS // resolution**2
            raise UserError(f"{self.num_pictures:,} pictures of {resolution} px are too many for one file, which "
                            f"holds {most:,}; take fewer, or give each a file of its own (--separate)")  # fmt: skip

    def page(self, pictures: Iterator[np.ndarray]) -> np.ndarray:
        """Takes the next num_pictures pictures, uint8 (H, W, 3) each, and lays them out as one, uint8 (H, W, 3)."""
        mine = list(islice(pictures, self.num_pictures))
        return grid(mine, self.captions) if self.layout == "grid" else np.concatenate(mine, axis=1)

    def to_json(self, **more: object) -> str:
        """Returns the request, and more facts beside it, as the text that is kept in an image file."""
        mine = asdict(self)
        if not self.sources:
            del mine["sources"], mine["keep"]
        return json.dumps({**mine, **more})


def read_request(path: Path) -> tuple[SamplingRequest, dict[str, Any]]:
    """Returns the request that a PNG or GIF was made from, and all facts in the file.

    Files of earlier versions are read as well. Raises UserError where the file is none of cgan's.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a picture that sample.py has written")
    if path.suffix.lower() == ".mp4":
        raise UserError(f"{path}: an MP4 does not store its captions and seeds; give a PNG or GIF of cgan sample")
    try:
        with Image.open(path, formats=["PNG", "GIF"]) as picture:
            about = json.loads(picture.info["cgan" if picture.format == "PNG" else "comment"])
        known = {field.name: about[field.name] for field in fields(SamplingRequest) if field.name in about}
        known["layout"] = OLD_LAYOUTS.get(known.get("layout", "row"), known.get("layout", "row"))
        request = SamplingRequest(**known)
        check_types(request, about)
    except NOT_METADATA:
        raise UserError(f"{path}: holds no captions and seeds; give a PNG or GIF of cgan sample") from None
    request.check()
    return request, about


def check_types(request: SamplingRequest, about: dict[str, Any]) -> None:
    """Raises TypeError where a value from a file is not of the type that a request has."""
    lists = all(isinstance(values, list) for values in (request.captions, request.seeds))
    counts = (*request.seeds, request.best_of, request.steps, request.batch_size) if lists else (None,)
    plain = lists and all(isinstance(caption, str) for caption in request.captions)
    if not plain or not all(type(count) is int for count in counts) or type(request.truncation) not in (int, float):
        raise TypeError
    if not isinstance(request.negative, str | None) or type(request.guidance) not in (int, float):
        raise TypeError
    if not all(isinstance(about.get(weights) or {}, dict) for weights in ("checkpoint", "joint", "posterior")):
        raise TypeError
    check_sources(request)
    interpolated = request.layout == "interpolation"
    if request.layout not in ("row", "grid", "interpolation") or (interpolated and len(request.seeds) != 2):
        raise TypeError


def check_sources(request: SamplingRequest) -> None:
    """Raises TypeError where sources from a file are not of the types that a request has."""
    if (
        not isinstance(request.sources, list)
        or type(request.keep) not in (int, float)
        or len(request.sources) > MAX_SOURCES
    ):
        raise TypeError
    for source in request.sources:
        if not isinstance(source, dict) or not all(isinstance(source.get(key), str) for key in ("file", "sha256")):
            raise TypeError


def check_keep(keep: float) -> None:
    """Raises UserError where the kept share of a picture is not from 0 to 1."""
    number = isinstance(keep, int | float) and not isinstance(keep, bool)
    if not (number and math.isfinite(keep) and 0 <= keep <= 1):
        raise UserError(f"keep={keep}: must be from 0, which ignores the picture, to 1, which redraws it")
