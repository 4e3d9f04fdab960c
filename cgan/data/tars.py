"""The files of a tar by sample (webdataset's layout: KEY.jpg beside KEY.json or KEY.txt), and where each of them is.

A tar is an archive without compression: where a member begins and how long it is are enough to read it by itself.
"""

import os
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cgan.data.decoding import DAMAGED, SUFFIXES, Stored, looks_like_picture
from cgan.data.records import captions_from
from cgan.data.text_files import decode_text, parse_json
from cgan.interfaces import UserError

PLACES = ("picture", ".json", ".txt")  # of a sample
CAPTIONS = ("captions", "caption", "text")  # keys of a JSON, the first that holds a caption counts
FAULTS = ("no caption", "no picture", DAMAGED, "captions that can't be read")  # of samples that are left out
HEAD = 64  # bytes by which a picture is told from something else


class Place(NamedTuple):
    """A member of a tar: its first byte and the number of them; nothing when there is no such member."""

    start: int = 0
    size: int = 0


class Member(Stored):
    """A picture in a tar."""

    def __init__(self, shard: Path, name: str, place: Place) -> None:
        self.shard, self.name, self.place = shard, name, place

    def open(self, mode: str) -> BinaryIO:
        return BytesIO(read_at(self.shard, self.place))

    def fingerprint(self) -> str:
        stat = self.shard.stat()
        return f"{self.shard.absolute()}|{stat.st_size, stat.st_mtime_ns}|{self.place.start, self.place.size}"


@lru_cache(maxsize=64)
def opened(shard: Path, inode: int) -> BinaryIO:
    """Kept open in each process; a shard that was made anew is another inode."""
    return shard.open("rb", buffering=0)


def read_at(shard: Path, place: Place) -> bytes:
    """A part of a file; there is no position that threads or forked workers could move under one another.

    Raises UserError where the disk or the system is at fault.
    """
    try:
        return os.pread(opened(shard, os.stat(shard).st_ino).fileno(), place.size, place.start)
    except OSError as error:
        raise UserError(f"{shard}: can't be read ({error.strerror})") from error


def members_of(shard: Path) -> Iterator[tuple[str, str, Place]]:
    """Keys and suffixes of a tar's files, and where these are; raises UserError for one that is cut off."""
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile():
                    folder, _, name = member.name.rpartition("/")
                    key, _, suffix = name.partition(".")
                    yield f"{folder}/{key}".lstrip("/"), f".{suffix.lower()}", Place(member.offset_data, member.size)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise UserError(f"{shard}: cut off, or not a tar without compression ({error})") from error
    except OSError as error:
        raise UserError(f"{shard}: can't be read ({error.strerror})") from error


def samples_of(shard: Path) -> list[tuple[str, dict[str, Place]]]:
    """Keys of a tar with their files: `picture`, `.json`, `.txt` and whatever else there is.

    A key that is there twice is as many samples: the nth has the nth file of each kind, or the only one.
    """
    parts: dict[str, dict[str, list[Place]]] = {}
    for key, suffix, place in members_of(shard):
        kind = "picture" if suffix in SUFFIXES else suffix
        parts.setdefault(key, {}).setdefault(kind, []).append(place)
    samples = []
    for key, of_key in parts.items():
        for number in range(max(len(of_key.get(kind, ())) for kind in PLACES) or 1):
            present = {kind: places[min(number, len(places) - 1)] for kind, places in of_key.items()}
            samples.append((key, present))
    return samples


def places_among(parts: dict[str, Place]) -> tuple[Place, Place, Place]:
    """Of the picture, of the JSON and of the text; size 0 where a sample has none."""
    picture, about, text = (parts.get(part, Place()) for part in PLACES)
    return picture, about, text


def scanned(shard: Path) -> list[list[int]]:
    """Start and size of each of PLACES, for each sample of a tar.

    A sample that can't be used has a picture of size 0, which starts at the number of its fault in FAULTS; what the
    sample's first file is called stands before the one that is placed as its text.
    """
    rows = []
    for _, parts in samples_of(shard):
        if is_sample(parts):
            fault = fault_of(shard, parts)
            first = min(parts.values())
            places = places_among(parts) if fault is None else (Place(FAULTS.index(fault)), Place(), first)
            rows.append([number for place in places for number in place])
    return rows


def is_sample(parts: dict[str, Place]) -> bool:
    """Whether files of one key are meant for training, and not something about a shard."""
    return any(part in PLACES or f".{part.rpartition('.')[2]}" in SUFFIXES for part in parts)


def fault_of(shard: Path, parts: dict[str, Place]) -> str | None:
    """Why a sample can't be used, as far as its captions and the first bytes of its picture tell."""
    picture, *texts = places_among(parts)
    if "picture" not in parts:
        return "no picture"
    try:
        if not captions_in(shard, *texts)[0]:
            return "no caption"
    except UserError:
        return "captions that can't be read"
    head = read_at(shard, Place(picture.start, min(picture.size, HEAD)))
    return None if looks_like_picture(head) else DAMAGED


def captions_in(shard: Path, json_place: Place, txt_place: Place) -> tuple[list[str], dict]:
    """The captions that a sample's JSON gives, otherwise its text as a single one; and the JSON.

    Raises UserError where they can't be read.
    """
    about, fault, where = {}, None, f"{shard} at byte {json_place.start or txt_place.start}"
    if json_place.size:
        try:
            content = parse_json(decode_text(read_at(shard, json_place), where), where)
            about = content if isinstance(content, dict) else {}
        except UserError as error:
            fault = error
    captions = next((found for key in CAPTIONS if (found := captions_from(about.get(key), where))), [])
    if not captions and txt_place.size:
        captions, fault = captions_from(decode_text(read_at(shard, txt_place), where), where), None
    if fault is not None:
        raise fault
    return captions, about
