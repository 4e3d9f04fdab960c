"""A data set of picture files with captions, checked and decoded once into a memory map; damaged files are left out."""

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
from cgan.data.labels import with_label_caption
from cgan.data.records import printable
from cgan.files import write_text
from cgan.interfaces import Sample, UserError
from cgan.pixels import rows_at
from cgan.workers import in_parallel

LONGEST_SHOWN = 120  # letters of a name in a summary


class Skipped(NamedTuple):
    """A picture or caption file that is left out; reason is a kind, by which it is counted, and details in brackets."""

    name: str
    reason: str


class Entry(NamedTuple):
    """A picture, its captions and its id, as a reader returns them."""

    picture: Path | Stored
    captions: list[str]
    image_id: int  # int64
    name: str = ""  # by which its captions call it, such as train/p0.png; that of the file where it is not given
    fault: Skipped | None = None  # why it is left out, where the reader knows already
    labels: tuple[str, ...] = ()  # as those of a Sample

    def skipped(self, reason: str) -> Skipped:
        """Returns this picture as one that is left out, with the reason."""
        return Skipped(printable(self.name or self.picture.name), reason)


def left_out(name: str, reason: str) -> Entry:
    """Returns an Entry for something that a reader can't use; it is counted and named with the pictures left out."""
    return Entry(Path(name), [], 0, fault=Skipped(printable(name), reason))


class CaptionedPictures(Dataset):
    """Samples of picture files at one resolution, decoded to uint8 in a cache file.

    `skipped` lists what can't be used.
    """

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
        entry = self.entries[index]
        return Sample(image, entry.captions, entry.image_id, entry.labels)

    def images_at(self, indices: list[int]) -> Tensor:
        """Returns the pictures of some indices, (n, 3, H, W) uint8, read at once."""
        return rows_at(self.pictures, [self.rows[index] for index in indices])

    def image_ids_at(self, indices: list[int]) -> list[int]:
        """Returns the ids of the pictures of some indices."""
        return [self.entries[index].image_id for index in indices]

    def captions_of(self, index: int) -> list[str]:
        """Returns the captions of a picture without reading its pixels."""
        return self.entries[index].captions

    def labels_of(self, index: int) -> tuple[str, ...]:
        """Returns the labels of a picture without reading its pixels."""
        return self.entries[index].labels

    def with_label_captions(self) -> "CaptionedPictures":
        """Returns the data set with the labels of each picture as one more caption of it."""
        more = copy.copy(self)
        more.entries = [e._replace(captions=with_label_caption(e.captions, e.labels)) for e in self.entries]
        return more

    def split(self, num_test: int, seed: int) -> tuple["CaptionedPictures", "CaptionedPictures"]:
        """Returns two data sets: the pictures without num_test randomly chosen ones, and the chosen ones.

        The choice depends on the seed alone. Raises UserError if no picture would be left for the first one.
        """
        if num_test >= len(self):
            raise UserError(f"data.test_images={num_test}: there are only {len(self)} pictures; keep some for training")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).tolist()
        return self.part(sorted(order[num_test:])), self.part(sorted(order[:num_test]))

    def part(self, indices: list[int]) -> "CaptionedPictures":
        """Returns the data set of the pictures at some indices."""
        part = copy.copy(self)
        part.entries, part.rows = [self.entries[i] for i in indices], [self.rows[i] for i in indices]
        return part


def with_captions(entries: list[Entry]) -> tuple[list[Entry], list[Skipped]]:
    """Returns the entries that have captions, stripped of white space, each id once; and those that are left out."""
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
    """Returns how many pictures are left out for each kind of reason, with one example of each.

    Empty if there are none.
    """
    examples, counts = {}, Counter()
    for name, reason in skipped:
        kind, _, detail = reason.removesuffix(")").partition(" (")
        counts[kind] += 1
        examples.setdefault(kind, f"{shortened(name)}, {detail}" if detail else shortened(name))
    return ", ".join(f"{count} {kind} (such as {examples[kind]})" for kind, count in counts.most_common())


def shortened(name: str) -> str:
    """Returns a name that fits into a message: printable, and cut at LONGEST_SHOWN characters."""
    name = printable(name)
    return name if len(name) <= LONGEST_SHOWN else f"{name[: LONGEST_SHOWN - 3]}..."


def fingerprint(picture: Path | Stored) -> str:
    """Returns a text that changes when the picture is moved or changed."""
    if isinstance(picture, Stored):
        return picture.fingerprint()
    found = stat_of(picture)
    return f"{picture.absolute()}|{found and (found.st_size, found.st_mtime_ns)}"


def stat_of(picture: Path) -> os.stat_result | None:
    """Returns the stat of a regular file; None if there is no such file, or if no file can have such a name."""
    try:
        found = os.stat(picture)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def decoded(pictures: list[Path | Stored], resolution: int, cache: Path) -> tuple[np.ndarray, list[str]]:
    """Returns pictures, uint8 (N, H, W, 3), as a memory map of the cache, and for each the reason why it can't be used.

    The reason is empty for a usable picture; pictures that can't be used are black. Raises CannotWrite.
    """
    key = hashlib.sha256(f"{DECODING_VERSION} {resolution}".encode())
    for picture in pictures:
        key.update(f"{fingerprint(picture)}\n".encode(errors="surrogateescape"))
    file = cache / f"pictures-{key.hexdigest()[:16]}.npy"
    shape = (len(pictures), resolution, resolution, 3)
    return made_once(file, partial(kept, file, shape), partial(decode_into, file, shape, pictures))


def kept(file: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, list[str]] | None:
    """Returns the pictures and reasons of the cache; None if they are missing, damaged, or of another shape."""
    array = mapped(file, np.uint8, shape)
    try:
        reasons = file.with_suffix(".txt").read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, ValueError):
        return None
    return None if array is None or len(reasons) != len(array) else (array, reasons)


def decode_into(file: Path, shape: tuple[int, ...], pictures: list[Path | Stored]) -> tuple[np.ndarray, list[str]]:
    """Writes pictures and reasons to the cache, and returns them; pictures that can't be used are black."""
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
    """Returns `decode` of a picture; the resolution comes first, for functools.partial."""
    return decode((picture, resolution))


def decode(job: tuple[Path | Stored, int]) -> tuple[np.ndarray | None, str]:
    """Returns the centre square of an upright picture, uint8 (resolution, resolution, 3); or None and the reason.

    job is the picture and the resolution, in one argument for worker processes. Raises UserError as `upright` does.
    """
    picture, resolution = job
    content, reason = upright(picture)
    return (None, reason) if content is None else (np.asarray(square(content, resolution)), "")
