"""Pictures with captions in tar files (webdataset's layout: KEY.jpg beside KEY.json or KEY.txt), read at any place.

A tar is an archive without compression: where a member begins and how long it is are enough to read it by itself. So
the pictures can be shuffled through and a training can go on at any of them, and webdataset reads the same files.
"""

import copy
import hashlib
import json
import logging
import os
import tarfile
from collections.abc import Iterator
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from cgan.data.cache import made_once, mapped, write_array
from cgan.data.folder import SUFFIXES
from cgan.data.pictures import Entry, Stored, square, upright
from cgan.files import CannotWrite
from cgan.interfaces import Sample, UserError
from cgan.workers import in_parallel

PLACES = ("picture", ".json", ".txt")  # of a sample
ROW = np.dtype([("shard", "<i4")] + [(f"{place} {what}", "<i8") for place in PLACES for what in ("start", "size")])
SIDECAR = b'{"samples":'  # how the JSON beside a shard begins
CAPTIONS = ("captions", "caption", "text")  # keys of a JSON, the first that is there counts

log = logging.getLogger(__name__)


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
    """A part of a file; there is no position that threads or forked workers could move under one another."""
    return os.pread(opened(shard, os.stat(shard).st_ino).fileno(), place.size, place.start)


def members_of(shard: Path) -> Iterator[tuple[str, str, Place]]:
    """Keys and suffixes of a tar's files, and where these are; raises UserError for one that is cut off."""
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile():
                    folder, _, name = member.name.rpartition("/")
                    key, _, suffix = name.partition(".")
                    yield f"{folder}/{key}".lstrip("/"), f".{suffix.lower()}", Place(member.offset_data, member.size)
    except tarfile.TarError as error:
        raise UserError(f"{shard}: cut off, or not a tar without compression ({error})") from None


def samples_of(shard: Path) -> dict[str, dict[str, Place]]:
    """Of each key of a tar the files: `picture`, `.json`, `.txt` and whatever else there is."""
    samples: dict[str, dict[str, Place]] = {}
    for key, suffix, place in members_of(shard):
        samples.setdefault(key, {})["picture" if suffix in SUFFIXES else suffix] = place
    return samples


def places_among(parts: dict[str, Place]) -> tuple[Place, Place, Place]:
    """Of the picture, of the JSON and of the text; size 0 where a sample has none."""
    return tuple(parts.get(part, Place()) for part in PLACES)


def scanned(shard: Path) -> list[list[int]]:
    """Start and size of each of PLACES, for each picture of a tar that has captions."""
    rows = []
    for parts in samples_of(shard).values():
        places = places_among(parts)
        if "picture" in parts and captions_in(shard, *places[1:])[0]:
            rows.append([number for place in places for number in place])
    return rows


def captions_in(shard: Path, json_place: Place, txt_place: Place) -> tuple[list[str], dict]:
    """The captions that a sample's JSON gives, otherwise its text as a single one; and the JSON."""
    about = {}
    if json_place.size:
        try:
            content = json.loads(read_at(shard, json_place))
            about = content if isinstance(content, dict) else {}
        except ValueError:
            pass
    given = next((about[key] for key in CAPTIONS if about.get(key)), None)
    if given is None and txt_place.size:
        given = read_at(shard, txt_place).decode(errors="replace")
    captions = given if isinstance(given, list) else [given]
    return [str(caption).strip() for caption in captions if str(caption or "").strip()], about


def id_in(about: dict, otherwise: int) -> int:
    return about["image_id"] if isinstance(about.get("image_id"), int) else otherwise


def tars_in(root: Path) -> list[Path]:
    """The shards of a folder in their order; raises UserError for one that cgan prepare has not finished."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds the .tar files")
    if (root / "unfinished.json").is_file():
        raise UserError(f"{root}: not finished; run the same cgan prepare again, it goes on where it stopped")
    shards = sorted(root.glob("*.tar"))
    if (root / "manifest.json").is_file():
        check_listed(root / "manifest.json", set(shards))
    if not shards:
        raise UserError(f"data.root={root}: holds no .tar file; cgan prepare makes such a folder")
    return shards


def check_listed(manifest: Path, shards: set[Path]) -> None:
    """Raise UserError where a shard of a manifest is missing, or is not as large as the manifest says."""
    sizes = {manifest.with_name(name): about["bytes"] for name, about in listed_in(manifest).items()}
    missing = sorted(set(sizes) - shards)
    if missing:
        raise UserError(f"{missing[0]}: missing, like {len(missing) - 1} others; cgan prepare makes them anew")
    for shard, size in sizes.items():
        check_size(shard, size, manifest.name)


def check_size(shard: Path, size: int, file: str) -> None:
    """Raise UserError where a shard is not as large as a file about it says."""
    found = shard.stat().st_size
    if found != size:
        mend = "damaged or changed: delete it and run the same cgan prepare again"
        raise UserError(f"{shard}: {found:,} bytes instead of the {size:,} that {file} says; {mend}")


def listed_in(manifest: Path) -> dict[str, dict]:
    """What cgan prepare wrote about each shard, by its name; raises UserError for a damaged manifest."""
    try:
        listed = {shard["name"]: shard for shard in json.loads(manifest.read_text(encoding="utf-8"))["shards"]}
        if all(isinstance(shard["bytes"], int) and isinstance(shard["sha256"], str) for shard in listed.values()):
            return listed
    except (OSError, ValueError, KeyError, TypeError):
        pass
    mend = f"delete {manifest.parent} and run cgan prepare again; without this file the shards are taken as they are"
    raise UserError(f"{manifest}: damaged; {mend}")


def sidecar_of(shard: Path) -> Path:
    return shard.with_suffix(".json")


def rows_of(job: tuple[int, Path]) -> np.ndarray:
    """ROW (n,) of a shard: from the JSON that cgan prepare wrote beside it, otherwise by reading through it.

    Raises UserError where that JSON is damaged, or speaks of a shard of another size.
    """
    number, shard = job
    rows = indexed(shard)
    return np.array([(number, *row) for row in (scanned(shard) if rows is None else rows)], dtype=ROW)


def indexed(shard: Path) -> list[list[int]] | None:
    """The rows that cgan prepare wrote beside a shard; None where it did not, as beside shards of others."""
    file = sidecar_of(shard)
    try:
        content = file.read_bytes()
    except OSError:
        return None
    if not content.startswith(SIDECAR):
        return None
    try:
        about = json.loads(content)
        rows, size = np.array(about["index"], dtype=np.int64).reshape(-1, 2 * len(PLACES)).tolist(), about["bytes"]
    except (ValueError, KeyError, TypeError, OverflowError):
        raise UserError(f"{file}: damaged; delete it, and the shard is read through instead") from None
    check_size(shard, size, file.name)
    return rows


def index_of(shards: list[Path], cache: Path) -> np.ndarray:
    """Where each sample is, ROW (N,), in the order of the shards; mapped from the cache where that can be written."""
    key = hashlib.sha256()
    for shard in shards:
        stat = shard.stat()
        key.update(f"{shard.absolute()}|{stat.st_size, stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    file = cache / f"shards-{key.hexdigest()[:16]}.npy"
    made: list[np.ndarray] = []

    def make() -> np.ndarray:
        made.append(all_rows(shards))
        return write_array(file, ROW, made[0].shape, made)

    try:
        return made_once(file, partial(mapped, file, ROW), make)
    except CannotWrite as error:
        log.warning("%s; the index of the shards is made anew each time", error)
        return made[0] if made else all_rows(shards)


def all_rows(shards: list[Path]) -> np.ndarray:
    with in_parallel(rows_of, list(enumerate(shards))) as rows:
        return np.concatenate(list(rows))


def places_of(row: np.void) -> tuple[Place, Place, Place]:
    """Of the picture, of the JSON and of the text."""
    numbers = row.item()[1:]
    return Place(*numbers[0:2]), Place(*numbers[2:4]), Place(*numbers[4:6])


def read_shards(root: Path, cache: Path) -> list[Entry]:
    """The pictures of a folder of shards, such as to prepare them at another size."""
    shards = tars_in(root)
    entries = []
    for number, row in enumerate(index_of(shards, cache)):
        shard = shards[row["shard"]]
        picture, *texts = places_of(row)
        captions, about = captions_in(shard, *texts)
        name = str(about.get("name", f"{shard.name} at byte {picture.start}"))
        entries.append(Entry(Member(shard, name, picture), captions, id_in(about, number)))
    return entries


def picture_at(shard: Path, place: Place) -> Image.Image:
    picture, reason = upright(Member(shard, shard.name, place))
    if picture is None:
        raise UserError(f"{shard} at byte {place.start}: {reason}; cgan prepare --check {shard.parent} says more")
    return picture


class ShardedPictures(Dataset):
    """Samples of a folder of shards, decoded as they are asked for."""

    def __init__(
        self,
        root: Path,
        resolution: int,
        cache: Path,
        crop: Literal["center", "random"] = "center",
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        self.resolution, self.crop, self.flip, self.seed = resolution, crop, flip, seed
        self.shards = tars_in(root)
        self.index = index_of(self.shards, cache)
        self.rows = np.arange(len(self.index))  # those of the index that belong to this part
        if not len(self):
            raise UserError(f"data.root={root}: no picture with a caption in its {len(self.shards)} shards")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return self.drawn(index, 0)

    def drawn(self, index: int, draw: int) -> Sample:
        """The picture with the crop and the flip that the number of a draw decides, where these are random."""
        row = int(self.rows[index])
        shard, (picture, *texts) = self.shards[self.index[row]["shard"]], places_of(self.index[row])
        captions, about = captions_in(shard, *texts)
        place, turned = self.chance(row, draw)
        pixels = np.array(self.framed(picture_at(shard, picture), place))  # (H, W, 3)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        return Sample(image.flip(2) if turned else image, captions, id_in(about, row))

    def chance(self, row: int, draw: int) -> tuple[float, bool]:
        """Where the longer side is cropped, from 0 to 1, and whether the picture is flipped."""
        if self.crop == "center" and not self.flip:
            return 0.5, False
        place, coin = np.random.default_rng([self.seed, row, draw]).random(2).tolist()
        return place if self.crop == "random" else 0.5, self.flip and coin < 0.5

    def framed(self, picture: Image.Image, place: float) -> Image.Image:
        """A picture of any size at the resolution."""
        resolution = self.resolution
        return picture if picture.size == (resolution, resolution) else square(picture, resolution, place)

    def captions_of(self, index: int) -> list[str]:
        row = self.index[self.rows[index]]
        return captions_in(self.shards[row["shard"]], *places_of(row)[1:])[0]

    def split(self, num_test: int, seed: int) -> tuple["ShardedPictures", "ShardedPictures"]:
        """The pictures without a random choice of num_test, and that choice; raises UserError when none is left."""
        if num_test >= len(self):
            raise UserError(f"data.test_images={num_test}: there are only {len(self)} pictures; keep some for training")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).numpy()
        return self.part(np.sort(order[num_test:])), self.part(np.sort(order[:num_test]))

    def part(self, indices: np.ndarray) -> "ShardedPictures":
        part = copy.copy(self)
        part.rows = self.rows[indices]
        return part
