"""Source pictures of edits: read as training reads them, and hashed."""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from cgan.data.decoding import Stored, UnreadPixels, in_rgb, square, upright
from cgan.interfaces import UserError

HINT = "give a picture, such as a PNG or JPEG"


class InMemory(Stored):
    """The content of a picture file that is nowhere on this disk."""

    def __init__(self, content: bytes, name: str = "the picture") -> None:
        self.content, self.name = content, name

    def open(self, mode: str) -> BytesIO:
        """Returns the bytes as a file."""
        return BytesIO(self.content)

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the bytes."""
        return hashlib.sha256(self.content).hexdigest()


class Source(NamedTuple):
    """A picture to start from."""

    image: Tensor  # (3, H, W) uint8 at the generator's resolution
    file: str  # the path as it was given; empty for a picture that came without a file
    sha256: str  # of the file's bytes, or of the pixels of a picture without a file

    def about(self) -> dict[str, str]:
        """Returns what an image file stores of its source."""
        return {"file": self.file, "sha256": self.sha256}


def read_source(picture: Any, resolution: int) -> Source:
    """Returns a picture as a Source: upright, in RGB on white, its largest square at a resolution in pixels.

    picture is a path, the content of a file, a PIL picture, or an array (H, W, 3) of uint8. Raises UserError where it
    can't be read.
    """
    if isinstance(picture, str | Path | InMemory):
        file = picture if isinstance(picture, InMemory) else Path(picture).expanduser()
        content, reason = upright(file) if str(picture) else (None, "a picture has no path")
        if content is None:
            name = file.name if isinstance(file, InMemory) else str(picture)[:200]
            raise UserError(f"{name + ': ' if name else ''}{reason}; {HINT}")
        image = as_tensor(square(content, resolution))
        if isinstance(file, InMemory):
            return Source(image, "", file.fingerprint())
        return Source(image, str(picture), hash_of(file))
    image = as_tensor(square(in_memory(picture), resolution))
    return Source(image, "", hashlib.sha256(image.numpy().tobytes()).hexdigest())


def in_memory(picture: Any) -> Image.Image:
    """Returns a PIL picture or an array (H, W, 3) of uint8 as a picture in RGB; raises UserError for anything else."""
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        picture = Image.fromarray(picture)
    if not isinstance(picture, Image.Image):
        raise UserError(f"image={type(picture).__name__}: give a path, a PIL picture or an array (H, W, 3) of uint8")
    if min(picture.size) == 0:
        raise UserError(f"image: it has no pixels; {HINT}")
    try:
        return in_rgb(ImageOps.exif_transpose(picture))
    except UnreadPixels as error:
        raise UserError(f"image: {error}; {HINT}") from None


def as_tensor(picture: Image.Image) -> Tensor:
    """Returns a picture in RGB as a tensor (3, H, W) of uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def hash_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
