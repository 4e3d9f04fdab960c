"""Finds the files of each sample in a tar (webdataset's layout: KEY.jpg beside KEY.json or KEY.txt).

A tar is not compressed, so a member can be read directly by its position and size.
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
HEAD = 64  # first bytes of a file, by which a picture is recognised


class Place(NamedTuple):
    """The position of a tar's member: its first byte, and its size in bytes, which is 0 if there is no such member."""

    start: int = 0
    size: int = 0


class Member(Stored):
    """A picture in a tar."""

    def __init__(self, shard: Path, name: str, place: Place) -> None:
        self.shard, self.name, self.place = shard, name, place

    def open(self, mode: str) -> BinaryIO:
        """Returns the picture's encoded bytes as a file; raises UserError if the disk or the system is at fault."""
        return BytesIO(read_at(self.shard, self.place))

    def fingerprint(self) -> str:
        """Returns a text that changes when the shard, or the position of the picture in it, changes."""
        stat = self.shard.stat()
        return f"{self.shard.absolute()}|{stat.st_size, stat.st_mtime_ns}|{self.place.start, self.place.size}"


@lru_cache(maxsize=64)
def opened(shard: Path, inode: int) -> BinaryIO:
    """Returns a shard's file, which stays open in each process.

    `inode` distinguishes a shard that was written again.
    """
    return shard.open("rb", buffering=0)


def read_at(shard: Path, place: Place) -> bytes:
    """Returns the bytes at a position of a file; raises UserError if the disk or the system is at fault.

    It reads by pread, which uses no shared file position, so threads and forked processes do not interfere.
    """
    try:
        return os.pread(opened(shard, os.stat(shard).st_ino).fileno(), place.size, place.start)
    except OSError as error:
        raise UserError(f"{shard}: can't be read ({error.strerror})") from error


def members_of(shard: Path) -> Iterator[tuple[str, str, Place]]:
    """Yields the key, suffix and position of each file in a tar.

    Raises UserError if the tar is truncated or compressed.
    """
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
    """Returns the samples of a tar: each key with its files by kind: `picture`, `.json`, `.txt` and any other suffix.

    If a key occurs several times, it stands for as many samples: the nth has the nth file of each kind, or the only
    one.
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
    """Returns the positions of the picture, the JSON and the text of a sample; of size 0 if it has none."""
    picture, about, text = (parts.get(part, Place()) for part in PLACES)
    return picture, about, text


def scanned(shard: Path) -> list[list[int]]:
    """Returns the index of a tar: for each sample the first byte and size of each of PLACES.

    A sample that can't be used is marked by a picture of size 0: its first byte is the index of the fault in FAULTS,
    and the position of the text is that of the sample's first file.
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
    """Returns whether the files of a key are a sample; other files may describe the shard itself."""
    return any(part in PLACES or f".{part.rpartition('.')[2]}" in SUFFIXES for part in parts)


def fault_of(shard: Path, parts: dict[str, Place]) -> str | None:
    """Returns why a sample can't be used, by its captions and the first bytes of its picture.

    None if no fault is found.
    """
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
    """Returns the captions of a sample's JSON, or else its text as a single caption; and the content of the JSON.

    Raises UserError if they can't be read.
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
