"""Pictures from files with captions: checked and decoded once into a memory map, so that no bad file stops training."""

import copy
import hashlib
import os
from collections import Counter
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset
from torchvision.transforms import v2

from cgan.interfaces import Sample, UserError


class Entry(NamedTuple):
    """A picture's file and what is said about it."""

    path: Path
    captions: list[str]
    image_id: int


class Skipped(NamedTuple):
    """A picture that is left out, and why."""

    name: str
    reason: str


class CaptionedPictures(Dataset):
    """Samples of files at one resolution, uint8 in a file of the cache; what cannot be used is in `skipped`."""

    def __init__(self, entries: list[Entry], resolution: int, cache: Path, source: str) -> None:
        self.resolution = resolution
        described = [Entry(e.path, [c.strip() for c in e.captions if c.strip()], e.image_id) for e in entries]
        self.skipped = [Skipped(e.path.name, "no caption") for e in described if not e.captions]
        described = [entry for entry in described if entry.captions]
        pictures, reasons = decoded([entry.path for entry in described], resolution, cache)
        self.skipped += [Skipped(e.path.name, reason) for e, reason in zip(described, reasons, strict=True) if reason]
        usable = [i for i, reason in enumerate(reasons) if not reason]
        if not usable:
            raise UserError(f"{source}: no usable picture; {summary(self.skipped) or 'there are none'}")
        self.entries, self.rows, self.pictures = [described[i] for i in usable], usable, pictures

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        image = torch.from_numpy(np.array(self.pictures[self.rows[index]])).permute(2, 0, 1).float() / 127.5 - 1
        return Sample(image, self.entries[index].captions, self.entries[index].image_id)

    def captions_of(self, index: int) -> list[str]:
        return self.entries[index].captions

    def split(self, num_test: int, seed: int) -> tuple["CaptionedPictures", "CaptionedPictures"]:
        """The pictures without a random choice of num_test, and that choice; raises UserError when none is left."""
        if num_test >= len(self):
            raise UserError(f"data.test_images={num_test}: there are only {len(self)} pictures; keep some for training")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).tolist()
        return self.part(sorted(order[num_test:])), self.part(sorted(order[:num_test]))

    def part(self, indices: list[int]) -> "CaptionedPictures":
        part = copy.copy(self)
        part.entries, part.rows = [self.entries[i] for i in indices], [self.rows[i] for i in indices]
        return part


def summary(skipped: list[Skipped]) -> str:
    """How many pictures are left out for which reason, with one example of each; empty when there are none."""
    examples = {reason: name for name, reason in reversed(skipped)}
    counts = Counter(reason for _, reason in skipped)
    return ", ".join(f"{count} {reason} (such as {examples[reason]})" for reason, count in counts.most_common())


def decoded(paths: list[Path], resolution: int, cache: Path) -> tuple[np.ndarray, list[str]]:
    """Pictures, uint8 (N, H, W, 3), and for each the reason why it can't be used, empty where it can."""
    key = hashlib.sha256(str(resolution).encode())
    for path in paths:
        stat = path.stat() if path.is_file() else None
        key.update(f"{path.absolute()}|{stat and (stat.st_size, stat.st_mtime_ns)}\n".encode())
    file = cache / f"pictures-{key.hexdigest()[:16]}.npy"
    reasons_file = file.with_suffix(".txt")
    try:
        pictures, reasons = np.load(file, mmap_mode="r"), reasons_file.read_text().split("\n")[:-1]
        if len(pictures) == len(reasons) == len(paths):
            return pictures, reasons
    except (OSError, ValueError):  # not there, or damaged: decode anew
        pass
    reasons = decode_into(file, paths, resolution)
    unfinished = reasons_file.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text("".join(f"{reason}\n" for reason in reasons))
    os.replace(unfinished, reasons_file)
    return np.load(file, mmap_mode="r"), reasons


def decode_into(file: Path, paths: list[Path], resolution: int) -> list[str]:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.part")
    shape = (len(paths), resolution, resolution, 3)
    pictures = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
    reasons = []
    with Pool() as pool:
        for index, (picture, reason) in enumerate(pool.imap(decode, [(p, resolution) for p in paths], chunksize=16)):
            reasons.append(reason)
            if picture is not None:
                pictures[index] = picture
    pictures.flush()
    os.replace(unfinished, file)
    return reasons


def decode(job: tuple[Path, int]) -> tuple[np.ndarray | None, str]:
    """A picture upright, in RGB, transparency on white, its middle square resized; or None and the reason."""
    path, resolution = job
    if not path.is_file():
        return None, "missing"
    try:
        with Image.open(path) as file:
            picture = in_rgb(ImageOps.exif_transpose(file))
    except Exception:  # Pillow's decoders raise nearly anything on damaged files
        return None, "damaged or not a picture"
    picture = v2.functional.center_crop(picture, [min(picture.size)])
    return np.asarray(v2.functional.resize(picture, [resolution, resolution], antialias=True)), ""


def in_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits a pixel
        picture = Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")
