"""A data set of pictures with captions in tar files, which are read at any position.

Random access allows shuffling, and lets a resumed training continue at any picture. webdataset reads the same files.
"""

import copy
import hashlib
import json
import logging
import tarfile
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from cgan.data.cache import made_once, mapped, write_array
from cgan.data.decoding import square, upright
from cgan.data.labels import with_label_caption
from cgan.data.pictures import Entry, Skipped, left_out, summary
from cgan.data.records import id_from, image_id_of, labels_from, printable
from cgan.data.tars import FAULTS, PLACES, Member, Place, captions_in, read_at, scanned
from cgan.files import CannotWrite
from cgan.interfaces import Sample, UserError
from cgan.workers import in_parallel

ROW = np.dtype([("shard", "<i4")] + [(f"{place} {what}", "<i8") for place in PLACES for what in ("start", "size")])
SIDECAR = b'{"samples":'  # how the JSON beside a shard begins
INDEX_VERSION = b"2"  # part of the index's name in the cache: raise it when rows change
MAX_DAMAGED_IN_A_ROW = 1000  # damaged pictures that are passed over before a training ends
MAX_WARNINGS = 20  # about damaged pictures, of each process

log = logging.getLogger(__name__)


def id_in(about: dict, otherwise: int) -> int:
    """Returns the picture's id in a sample's JSON as int64; `otherwise` if there is none."""
    given = about.get("image_id")
    return otherwise if id_from(given) is None else image_id_of(given, "image_id")


def fault_in(shard: Path, row: np.void) -> Skipped | None:
    """Returns what a row of the index leaves out, by its first file's name, and the reason.

    None for a usable sample.
    """
    picture, _, first = places_of(row)
    if picture.size:
        return None
    try:
        name = tarfile.TarInfo.frombuf(read_at(shard, Place(first.start - 512, 512)), "utf-8", "surrogateescape").name
    except tarfile.TarError:
        name = f"byte {first.start}"
    return Skipped(printable(f"{shard.name}: {name}"), FAULTS[picture.start])


def is_tar(file: Path) -> bool:
    """Returns whether a file has the suffix .tar."""
    return file.suffix.lower() == ".tar"


def tars_in(root: Path) -> list[Path]:
    """Returns the shards of a folder in their order.

    Raises UserError if there are none, or if cgan prepare is not finished.
    """
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds the .tar files")
    if (root / "unfinished.json").is_file():
        raise UserError(f"{root}: not finished; run the same cgan prepare again, it goes on where it stopped")
    shards = sorted(file for file in root.iterdir() if is_tar(file))
    if (root / "manifest.json").is_file():
        check_listed(root / "manifest.json", set(shards))
    if not shards:
        raise UserError(f"data.root={root}: holds no .tar file; cgan prepare makes such a folder")
    return shards


def check_listed(manifest: Path, shards: set[Path]) -> None:
    """Raises UserError if a shard of a manifest is missing, or if its size differs from the manifest's."""
    sizes = {manifest.with_name(name): about["bytes"] for name, about in listed_in(manifest).items()}
    missing = sorted(set(sizes) - shards)
    if missing:
        raise UserError(f"{missing[0]}: missing, like {len(missing) - 1} others; cgan prepare makes them anew")
    for shard, size in sizes.items():
        check_size(shard, size, manifest.name)


def check_size(shard: Path, size: int, file: str) -> None:
    """Raises UserError if the size of a shard in bytes differs from `size`, which `file` gives."""
    found = shard.stat().st_size
    if found != size:
        mend = "damaged or changed: delete it and run the same cgan prepare again"
        raise UserError(f"{shard}: {found:,} bytes instead of the {size:,} that {file} states; {mend}")


def listed_in(manifest: Path) -> dict[str, dict]:
    """Returns the manifest's record of each shard, by the shard's name; raises UserError for a damaged manifest."""
    try:
        listed = {shard["name"]: shard for shard in json.loads(manifest.read_text(encoding="utf-8"))["shards"]}
        if all(isinstance(shard["bytes"], int) and isinstance(shard["sha256"], str) for shard in listed.values()):
            return listed
    except (OSError, ValueError, KeyError, TypeError):
        pass
    mend = f"delete {manifest.parent} and run cgan prepare again; without this file the shards are taken as they are"
    raise UserError(f"{manifest}: damaged; {mend}")


def sidecar_of(shard: Path) -> Path:
    """Returns the path of the JSON that cgan prepare writes beside a shard."""
    return shard.with_suffix(".json")


def rows_of(job: tuple[int, Path]) -> np.ndarray:
    """Returns the index of a shard, ROW (n,), from the JSON beside it or else by reading the whole tar.

    job is the number of the shard and its path. Raises UserError if that JSON is damaged or is for a shard of another
    size.
    """
    number, shard = job
    rows = indexed(shard)
    return np.array([(number, *row) for row in (scanned(shard) if rows is None else rows)], dtype=ROW)


def indexed(shard: Path) -> list[list[int]] | None:
    """Returns the rows in the JSON that cgan prepare writes beside a shard; None if there is no such JSON.

    Raises UserError if it is damaged or is for a shard of another size.
    """
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
    """Returns the positions of all samples, ROW (N,), in the order of the shards.

    It is a memory map of the cache, or, with a logged warning, an array in memory if the cache can't be written.
    """
    key = hashlib.sha256(INDEX_VERSION)
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
    """Returns the indices of all shards in their order, ROW (N,)."""
    with in_parallel(rows_of, list(enumerate(shards))) as rows:
        return np.concatenate(list(rows))


def places_of(row: Any) -> tuple[Place, Place, Place]:
    """Returns the positions of a sample's picture, JSON and text, from a row of the index."""
    numbers = row.item()[1:]
    return Place(*numbers[0:2]), Place(*numbers[2:4]), Place(*numbers[4:6])


def read_shards(root: Path, cache: Path) -> list[Entry]:
    """Returns the pictures of a folder of shards, for instance to prepare them at another size; raises UserError."""
    shards = tars_in(root)
    entries, number = [], 0
    for row in index_of(shards, cache):
        shard = shards[row["shard"]]
        fault = fault_in(shard, row)
        if fault is not None:
            entries.append(left_out(*fault))
            continue
        picture, *texts = places_of(row)
        captions, about = captions_in(shard, *texts)
        name = str(about.get("name", f"{shard.name} at byte {picture.start}"))
        labels = labels_from(about.get("labels"))
        entries.append(Entry(Member(shard, name, picture), captions, id_in(about, number), labels=labels))
        number += 1
    return entries


class ShardedPictures(Dataset):
    """Samples of a folder of shards; a picture is decoded each time that it is read."""

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
        self.usable = np.flatnonzero(self.index["picture size"])
        self.rows = self.usable  # those of the index that belong to this part
        self.label_captions = False  # whether the labels of a picture are one more caption of it
        self.damaged: set[int] = set()  # rows whose pictures could not be decoded, as far as this process knows
        if not len(self):
            why = f"; {summary(self.skipped)}" if len(self.index) else ""
            raise UserError(f"data.root={root}: no picture with a caption in its {len(self.shards)} shards{why}")

    @property
    def skipped(self) -> list[Skipped]:
        """What the shards hold but can't be used, as far as this is known without decoding every picture."""
        faults = self.index[self.index["picture size"] == 0]
        found = (fault_in(self.shards[row["shard"]], row) for row in faults)
        return [fault for fault in found if fault is not None]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return self.drawn(index, 0)

    def drawn(self, index: int, draw: int) -> Sample:
        """Returns the sample at an index; if crops and flips are random, `draw` determines them."""
        row, picture = self.readable(index)
        shard, (_, *texts) = self.shards[self.index[row]["shard"]], places_of(self.index[row])
        captions, about = captions_in(shard, *texts)
        labels = labels_from(about.get("labels"))
        captions = with_label_caption(captions, labels) if self.label_captions else captions
        number = int(np.searchsorted(self.usable, row))
        place, turned = self.chance(number, draw)
        pixels = np.array(self.framed(picture, place))  # (H, W, 3)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        return Sample(image.flip(2) if turned else image, captions, id_in(about, number), labels)

    def readable(self, index: int) -> tuple[int, Image.Image]:
        """Returns the row and the picture of an index; if that picture is damaged, those of the next intact one.

        Raises UserError after MAX_DAMAGED_IN_A_ROW damaged pictures in a row.
        """
        for step in range(min(len(self), MAX_DAMAGED_IN_A_ROW)):
            row = int(self.rows[(index + step) % len(self)])
            if row not in self.damaged:
                picture, reason = upright(self.member(row))
                if picture is not None:
                    return row, picture
                self.note_damage(row, reason)
        root = self.shards[0].parent
        raise UserError(f"{root}: {step + 1} pictures in a row can't be used; cgan prepare --check {root} names them")

    def member(self, row: int) -> Member:
        """Returns the picture of a row of the index, which is not opened."""
        shard, picture = self.shards[self.index[row]["shard"]], places_of(self.index[row])[0]
        return Member(shard, f"{shard} at byte {picture.start}", picture)

    def note_damage(self, row: int, reason: str) -> None:
        """Logs a damaged picture, once in each process, for the first MAX_WARNINGS of them."""
        self.damaged.add(row)
        if len(self.damaged) <= MAX_WARNINGS:
            so_far = f"{len(self.damaged)} so far"
            log.warning("%s: %s; the next picture replaces it (%s)", self.member(row).name, reason, so_far)

    def chance(self, number: int, draw: int) -> tuple[float, bool]:
        """Returns the position of the crop along the longer side, from 0 to 1, and whether the picture is flipped."""
        if self.crop == "center" and not self.flip:
            return 0.5, False
        place, coin = np.random.default_rng([self.seed, number, draw]).random(2).tolist()
        return place if self.crop == "random" else 0.5, self.flip and coin < 0.5

    def framed(self, picture: Image.Image, place: float) -> Image.Image:
        """Returns a picture as a square of the data set's resolution; one of that size is returned unchanged."""
        resolution = self.resolution
        return picture if picture.size == (resolution, resolution) else square(picture, resolution, place)

    def captions_of(self, index: int) -> list[str]:
        """Returns the captions of a picture without reading its pixels."""
        captions, about = self.texts_of(index)
        return with_label_caption(captions, labels_from(about.get("labels"))) if self.label_captions else captions

    def labels_of(self, index: int) -> tuple[str, ...]:
        """Returns the labels of a picture without reading its pixels: those under "labels" in its JSON."""
        return labels_from(self.texts_of(index)[1].get("labels"))

    def texts_of(self, index: int) -> tuple[list[str], dict]:
        """Returns the captions of a picture as they are stored, and its JSON."""
        row = self.index[self.rows[index]]
        return captions_in(self.shards[row["shard"]], *places_of(row)[1:])

    def with_label_captions(self) -> "ShardedPictures":
        """Returns the data set with the labels of each picture as one more caption of it."""
        more = copy.copy(self)
        more.label_captions = True
        return more

    def split(self, num_test: int, seed: int) -> tuple["ShardedPictures", "ShardedPictures"]:
        """Returns two data sets: the pictures without num_test randomly chosen ones, and the chosen ones.

        The choice depends on the seed alone. Raises UserError if no picture would be left for the first one.
        """
        if num_test >= len(self):
            raise UserError(f"data.test_images={num_test}: there are only {len(self)} pictures; keep some for training")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).numpy()
        return self.part(np.sort(order[num_test:])), self.part(np.sort(order[:num_test]))

    def part(self, indices: np.ndarray) -> "ShardedPictures":
        """Returns the data set of the pictures at some indices (N,)."""
        part = copy.copy(self)
        part.rows = self.rows[indices]
        return part
