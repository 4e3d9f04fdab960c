"""Pictures and shards that are made on the spot."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cgan.data.preparation import ShardOptions, write_shards
from cgan.data.readers.folder import read_folder


def some_pictures(folder: Path, num: int = 6, word: str = "card") -> Path:
    """Plain pictures of 40 x 36 in a new folder, each beside a text with its caption."""
    folder.mkdir()
    for i in range(num):
        Image.new("RGB", (40, 36), (40 * i, 9, 99)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"{word} number {i}")
    return folder


def no_one(*numbers: int) -> None:
    """Whom a progress is told to that nobody looks at."""


def shards_of(root: Path, out: Path, num_workers: int = 2, advance=no_one, **options):
    """Shards of a folder's pictures, 32 px high and eight in each unless said otherwise."""
    options = ShardOptions(**{"size": 32, "format": "png", "shard_size": 8, **options})
    return write_shards(read_folder(root), out, options, num_workers, advance)


def pixels(path: str | Path | BytesIO) -> np.ndarray:
    """uint8 (H, W, 3) of a picture of any mode."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def as_images(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Float (N, 3, H, W) from -1 to 1 of uint8 (H, W, 3)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1
