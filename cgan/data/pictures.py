"""Pictures from files with captions: checked and decoded once into a memory map, so that no bad file stops training."""

import copy
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cgan.data.cache import HINT, made_once, mapped, num_rows_at_once, write_array
from cgan.data.decoding import DECODING_VERSION, Stored, square, upright
from cgan.data.records import printable
from cgan.files import write_text
from cgan.interfaces import Sample, UserError
from cgan.pixels import rows_at
from cgan.workers import in_parallel

LONGEST_SHOWN = 120  # letters of a name in a summary


class Skipped(NamedTuple):
    """What is left out, and why: a kind that is counted, and in brackets what is known of this one."""

    name: str
    reason: str


class Entry(NamedTuple):
    """A picture, its captions and its id, as a reader finds them."""

    picture: Path | Stored
    captions: list[str]
    image_id: int  # int64
    name: str = ""  # by which its captions call it, such as train/p0.png; that of the file where it is not given
    fault: Skipped | None = None  # why it is left out, where the reader knows already

    def skipped(self, reason: str) -> Skipped:
        """This picture as one that is left out, with the reason."""
        return Skipped(printable(self.name or self.picture.name), reason)


def left_out(name: str, reason: str) -> Entry:
    """What a reader found and has no use for, so that it is counted and named with the pictures that are left out."""
    return Entry(Path(name), [], 0, fault=Skipped(printable(name), reason))


class CaptionedPictures(Dataset):
    """Samples of files at one resolution, uint8 in a file of the cache; what cannot be used is in `skipped`."""

    def __init__(self, entries: list[Entry], resolution: int, cache: Path, source: str) -> None:
        self.resolution = resolution
        described, self.skipped = with_captions(entries)
        pictures, reasons = decoded([entry.picture for entry in described], resolution, cache)
        skipped = [e.skipped(reason) for e, reason in zip(described, reasons, strict=True) if reason]
        self.skipped += skipped
        usable = [i for i, reason in enumerate(reasons) if not reason]
        if not usable:
            raise UserError(f"{source}: no usable picture; {summary(self.skipped) or 'there are none'}")
        self.entries, self.rows, self.pictures = [described[i] for i in usable], usable, pictures

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        image = torch.from_numpy(np.array(self.pictures[self.rows[index]])).permute(2, 0, 1)
        return Sample(image, self.entries[index].captions, self.entries[index].image_id)

    def images_at(self, indices: list[int]) -> Tensor:
        """Returns the pictures of some indices, (n, 3, H, W) uint8, read at once."""
        return rows_at(self.pictures, [self.rows[index] for index in indices])

    def image_ids_at(self, indices: list[int]) -> list[int]:
        """Returns the ids of the pictures of some indices."""
        return [self.entries[index].image_id for index in indices]

    def captions_of(self, index: int) -> list[str]:
        """The captions of a picture, which is not decoded for it."""
        return self.entries[index].captions

    def split(self, num_test: int, seed: int) -> tuple["CaptionedPictures", "CaptionedPictures"]:
        """The pictures without a random choice of num_test, and that choice; raises UserError when none is left."""
        if num_test >= len(self):
            raise UserError(f"data.test_images={num_test}: there are only {len(self)} pictures; keep some for training")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).tolist()
        return self.part(sorted(order[num_test:])), self.part(sorted(order[:num_test]))

    def part(self, indices: list[int]) -> "CaptionedPictures":
        """The pictures of some indices, as a data set of its own."""
        part = copy.copy(self)
        part.entries, part.rows = [self.entries[i] for i in indices], [self.rows[i] for i in indices]
        return part


def with_captions(entries: list[Entry]) -> tuple[list[Entry], list[Skipped]]:
    """The entries that have captions, without white space around these, each id once; and those left out."""
    kept, skipped, ids = [], [], set()
    for entry in entries:
        captions = [caption.strip() for caption in entry.captions if caption.strip()]
        if entry.fault is not None:
            skipped.append(entry.fault)
        elif not captions:
            skipped.append(entry.skipped("no caption"))
        elif entry.image_id in ids:
            skipped.append(entry.skipped("with the id of another picture"))
        else:
            ids.add(entry.image_id)
            kept.append(entry._replace(captions=captions))
    return kept, skipped


def summary(skipped: list[Skipped]) -> str:
    """How many are left out for which kind of reason, with one example of each; empty when there are none."""
    examples, counts = {}, Counter()
    for name, reason in skipped:
        kind, _, detail = reason.removesuffix(")").partition(" (")
        counts[kind] += 1
        examples.setdefault(kind, f"{shortened(name)}, {detail}" if detail else shortened(name))
    return ", ".join(f"{count} {kind} (such as {examples[kind]})" for kind, count in counts.most_common())


def shortened(name: str) -> str:
    """A name as it can be shown in a line; of a very long one, such as a caption in its place, the beginning."""
    name = printable(name)
    return name if len(name) <= LONGEST_SHOWN else f"{name[: LONGEST_SHOWN - 3]}..."


def fingerprint(picture: Path | Stored) -> str:
    """Something else when the picture was moved or changed."""
    if isinstance(picture, Stored):
        return picture.fingerprint()
    found = stat_of(picture)
    return f"{picture.absolute()}|{found and (found.st_size, found.st_mtime_ns)}"


def stat_of(picture: Path) -> os.stat_result | None:
    """Of a file; None where there is none, such as under a name that no file can have. One look at the disk."""
    try:
        found = os.stat(picture)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def decoded(pictures: list[Path | Stored], resolution: int, cache: Path) -> tuple[np.ndarray, list[str]]:
    """Pictures, uint8 (N, H, W, 3), and for each the reason why it can't be used, empty where it can."""
    key = hashlib.sha256(f"{DECODING_VERSION} {resolution}".encode())
    for picture in pictures:
        key.update(f"{fingerprint(picture)}\n".encode(errors="surrogateescape"))
    file = cache / f"pictures-{key.hexdigest()[:16]}.npy"
    shape = (len(pictures), resolution, resolution, 3)
    return made_once(file, partial(kept, file, shape), partial(decode_into, file, shape, pictures))


def kept(file: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, list[str]] | None:
    """The pictures of the cache, and the reasons beside them; None where they are missing, damaged or others."""
    array = mapped(file, np.uint8, shape)
    try:
        reasons = file.with_suffix(".txt").read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, ValueError):
        return None
    return None if array is None or len(reasons) != len(array) else (array, reasons)


def decode_into(file: Path, shape: tuple[int, ...], pictures: list[Path | Stored]) -> tuple[np.ndarray, list[str]]:
    """Write pictures and reasons; what can't be used is black."""
    reasons, black = [], np.zeros(shape[1:], np.uint8)

    def pixels_of(results: Iterator) -> Iterator[np.ndarray]:
        for pixels, reason in results:
            reasons.append(reason)
            yield (black if pixels is None else pixels)[None]

    def write_reasons() -> None:
        write_text(file.with_suffix(".txt"), "".join(f"{reason}\n" for reason in reasons), HINT)

    work = partial(decode_at, shape[1])
    with in_parallel(work, pictures, min(16, num_rows_at_once(black.nbytes))) as results:
        return write_array(file, np.uint8, shape, pixels_of(results), write_reasons), reasons


def decode_at(resolution: int, picture: Path | Stored) -> tuple[np.ndarray | None, str]:
    """Like `decode`, with the resolution first, for functools.partial."""
    return decode((picture, resolution))


def decode(job: tuple[Path | Stored, int]) -> tuple[np.ndarray | None, str]:
    """A picture upright, in RGB, transparency on white, its middle square resized; or None and the reason."""
    picture, resolution = job
    content, reason = upright(picture)
    return (None, reason) if content is None else (np.asarray(square(content, resolution)), "")
