"""Writes data sets as tar shards: pictures with captions from any reader, checked and resized.

The bytes of a shard depend only on the list of pictures and on the options. So an interrupted preparation that is
resumed with its next shard writes the same bytes as one that was never interrupted.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from torchvision.transforms import v2

from cgan.data.decoding import Stored, square, upright
from cgan.data.pictures import Entry, Skipped, stat_of, summary, with_captions
from cgan.data.shards import sidecar_of
from cgan.data.sources import DataConfig, check_data, read_entries
from cgan.files import TEMPORARY, cannot_write, make_folder, one_at_a_time, remove_abandoned, replacing, write_bytes
from cgan.interfaces import UserError
from cgan.workers import Progress, ProgressCounter, in_parallel, num_cores, silent

AHEAD = 2  # shards whose pictures are made while an earlier one is written
LONGEST_SIDE = 65_000  # pixels; JPEG ends a little above
CHUNK = 8  # pictures that a worker gets at a time
UNFINISHED, MANIFEST, LOCK = "unfinished.json", "manifest.json", ".cgan-prepare.lock"
EARLIER = re.compile(r"(shard-\d+\.(tar|json)|unfinished\.json|manifest\.json)\.tmp")  # names of earlier versions
AGAIN = "run the same again, and it goes on"
ELSEWHERE = "give --out a folder that can be written"
PATIENCE = 1.0  # seconds that the workers of a killed preparation have to end
FEWER_WORKERS = "run the same again, with fewer --workers"


class ShardOptions(NamedTuple):
    """How pictures are stored; a folder of shards has one set of options."""

    size: int  # pixels of the shorter side
    crop: Literal["center", "random", "none"] = "center"  # none resizes the shorter side and keeps all of the picture
    format: Literal["jpg", "png"] = "jpg"
    quality: int = 95  # of JPEG
    shard_size: int = 1000  # pictures
    seed: int = 0  # of random crops


class Job(NamedTuple):
    """A picture to store, and the position of its crop along the longer side, from 0 to 1."""

    picture: Path | Stored
    place: float


class Prepared(NamedTuple):
    """The description of a finished folder of shards."""

    folder: Path
    size: int  # pixels of the shorter side
    num_pictures: int
    num_captions: int
    num_shards: int
    num_bytes: int
    skipped: list[Skipped]  # pictures left out, with the reason


def prepare(
    source: DataConfig | list[Entry],
    out: Path,
    *,
    size: int | None = None,
    crop: Literal["center", "random", "none"] = "center",
    format: Literal["jpg", "png"] = "jpg",
    quality: int = 95,
    shard_size: int = 1000,
    seed: int = 0,
    num_workers: int | None = None,
    progress: Progress = silent,
) -> Prepared:
    """Writes the pictures of a data set into tar shards in the folder `out`, or goes on with an interrupted one.

    source is a configuration's data section, which also gives the defaults of size and seed, or a list of Entries.
    size, in pixels, is that of the shorter side; crop="none" keeps all of a picture. quality, of JPEG, is from 1 to
    100; shard_size counts pictures; seed is that of random crops; num_workers is every core by default. `progress`
    receives how many pictures are done, of how many.

    Raises UserError for values out of range, where `out` holds something else, and for what can't be read or written.
    """
    if isinstance(source, DataConfig):
        check_prepared(source)
        size, seed = size or source.resolution, source.seed
    if size is None or not 8 <= size <= 4096:
        raise UserError(f"--size {size}: give 8 to 4096 pixels")
    if not 1 <= quality <= 100:
        raise UserError(f"--quality {quality}: give 1 to 100")
    num_workers = num_cores() if num_workers is None else num_workers
    if shard_size < 1 or num_workers < 1:
        raise UserError("--shard-size and --workers: give at least 1")
    options = ShardOptions(size, crop, format, quality, shard_size, seed)
    try:
        entries = read_entries(source, source.split) if isinstance(source, DataConfig) else source
        manifest = write_shards(entries, out, options, num_workers, progress)
    except OSError as error:
        what, why = error.filename or "the data", error.strerror or str(error)
        raise UserError(f"{what}: can't be read ({why}); {AGAIN}") from error
    counts = manifest["samples"], manifest["captions"], len(manifest["shards"]), manifest["bytes"]
    return Prepared(out, size, *counts, [Skipped(*item) for item in manifest["skipped"]])


def check_prepared(config: DataConfig) -> None:
    """Raises UserError for a configuration whose data can't be prepared or checked."""
    check_data(config)
    if config.source == "scenes":
        raise UserError("data.source=scenes: drawn by code, nothing to prepare; give a CONFIG.yaml of other pictures")


def encode_picture(job: Job, options: ShardOptions) -> tuple[bytes, str]:
    """Returns a picture as it is put into a shard, and no reason; or nothing and the reason why it can't be."""
    picture, reason = upright(job.picture)
    if picture is None:
        return b"", reason
    if options.crop == "none" and options.size * max(picture.size) > LONGEST_SIDE * min(picture.size):
        return b"", f"too long to be stored at {options.size} px"
    return encoded(framed(picture, job.place, options), options), ""


def framed(picture: Image.Image, place: float, options: ShardOptions) -> Image.Image:
    """Returns a picture resized and, unless all of it is kept, cropped to a square."""
    if options.crop == "none":
        return v2.functional.resize(picture, [options.size], antialias=True)  # pyright: ignore (typed for tensors alone)
    return square(picture, options.size, place)


def encoded(picture: Image.Image, options: ShardOptions) -> bytes:
    """Returns a picture as the bytes of a PNG or JPEG."""
    content = BytesIO()
    if options.format == "png":
        picture.save(content, "PNG")
    else:  # colours at full resolution: halved ones show in small pictures
        picture.save(content, "JPEG", quality=options.quality, subsampling=0)
    return content.getvalue()


def place_of(position: int, options: ShardOptions) -> float:
    """Returns where along its longer side a picture is cropped, 0 to 1: 0.5, or random but determined by the seed."""
    return 0.5 if options.crop != "random" else float(np.random.default_rng([options.seed, position]).random())


def write_shards(
    entries: list[Entry], out: Path, options: ShardOptions, num_workers: int, progress: Progress
) -> dict[str, Any]:
    """Writes the shards that are not there yet, and then the manifest, which it returns; raises UserError."""
    described, skipped = with_captions(entries)
    if not described:
        raise UserError(f"no picture with a caption; {summary(skipped) or 'the source has none'}")
    plan = {**options._asdict(), "pictures": len(described), "input": digest(described)}
    check_claim(out, plan)
    make_folder(out, ELSEWHERE)
    with one_at_a_time(out / LOCK, partial(raise_busy, out), ELSEWHERE, PATIENCE):
        claim(out, plan)
        starts = range(0, len(described), options.shard_size)
        shards = [out / f"shard-{number:05d}.tar" for number in range(len(starts))]
        missing = {shard: start for shard, start in zip(shards, starts, strict=True) if not is_finished(shard)}
        positions = [i for start in missing.values() for i in range(len(described))[start : start + options.shard_size]]
        jobs = [Job(described[i].picture, place_of(i, options)) for i in positions]
        counted = ProgressCounter(progress, len(entries), len(entries) - len(jobs))
        work, ahead = partial(encode_picture, options=options), AHEAD * options.shard_size // CHUNK
        with in_parallel(work, jobs, CHUNK, num_workers, FEWER_WORKERS, ahead) as contents:
            for shard, start in missing.items():
                part = islice(contents, min(options.shard_size, len(described) - start))
                write_shard(shard, described, start, counted.each(part), options.format)
        return write_manifest(out, plan, shards, skipped)


def raise_busy(out: Path) -> None:
    """Raises UserError, since another process writes into the folder."""
    raise UserError(f"{out}: another cgan prepare is writing into it; wait for it, or give --out another folder")


def digest(entries: list[Entry]) -> str:
    """Returns a hash of names, sizes, captions, ids and labels, in their order; the folder may have moved."""
    key = hashlib.sha256()
    for entry in entries:
        found = stat_of(entry.picture) if isinstance(entry.picture, Path) else None
        about = [entry.picture.name, found and found.st_size, entry.captions, entry.image_id]
        key.update(json.dumps([*about, entry.labels] if entry.labels else about).encode())
    return key.hexdigest()


def check_claim(out: Path, plan: dict[str, Any]) -> None:
    """Raises UserError where a folder is already something else, or can't be looked into."""
    try:
        for name in (UNFINISHED, MANIFEST):
            if (out / name).is_file():
                return check_same(out, out / name, plan)
        if out.exists() and (not out.is_dir() or not all(is_passing(file.name) for file in out.iterdir())):
            raise UserError(f"{out}: there is something else; give --out a new folder")
    except OSError as error:
        raise cannot_write(out, error, ELSEWHERE) from error


def is_passing(name: str) -> bool:
    """Returns whether a file exists only while shards are written, or was left by a killed process."""
    return name == LOCK or TEMPORARY.match(name) is not None


def claim(out: Path, plan: dict[str, Any]) -> None:
    """Marks a folder as this preparation's, which alone writes into it from now on; raises UserError."""
    check_claim(out, plan)  # another one may have begun and ended meanwhile
    remove_abandoned(out)
    for leftover in out.glob("*.tmp"):
        if EARLIER.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)
    if not (out / MANIFEST).is_file():
        write_bytes(out / UNFINISHED, json.dumps(plan).encode(), AGAIN)


def check_same(out: Path, file: Path, plan: dict[str, Any]) -> None:
    """Raises UserError where a folder was begun with other pictures or options."""
    try:
        found = dict(json.loads(file.read_bytes()))
    except (ValueError, TypeError):
        raise UserError(f"{file}: damaged; give --out a new folder, or delete this one") from None
    for name, value in plan.items():
        if found.get(name) != value:
            other = (
                f"with {name}={found.get(name)}" if name in ShardOptions._fields else "of other pictures or captions"
            )
            raise UserError(f"{out}: was begun {other}; give --out a new folder, or delete this one")


def is_finished(shard: Path) -> bool:
    """Returns whether a shard is complete: its JSON, which is written last, exists and describes it."""
    try:
        about = about_shard(shard)
        return about["bytes"] == shard.stat().st_size and about.keys() >= {"samples", "captions", "sha256", "skipped"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write_shard(shard: Path, entries: list[Entry], start: int, contents: Iterator, suffix: str) -> None:
    """Writes a tar of pictures, each beside a JSON of its captions, and then a JSON about the tar; or nothing."""
    index, skipped, num_captions = [], [], 0
    with replacing(shard, AGAIN) as unfinished:
        with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
            for position, (content, reason) in enumerate(contents, start=start):
                entry = entries[position]
                if reason:
                    skipped.append(entry.skipped(reason))
                    continue
                picture_place = add(tar, f"{position:09d}.{suffix}", content)
                json_place = add(tar, f"{position:09d}.json", description_of(entry))
                index.append([*picture_place, *json_place, 0, 0])
                num_captions += len(entry.captions)
        with unfinished.open("rb") as file:
            sha256, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
    about = {"samples": len(index), "captions": num_captions, "bytes": size, "sha256": sha256}
    write_bytes(sidecar_of(shard), json.dumps({**about, "skipped": skipped, "index": index}).encode(), AGAIN)


def description_of(entry: Entry) -> bytes:
    """Returns the JSON beside a picture: its captions, id and name, and its labels where it has some."""
    about = {"captions": entry.captions, "image_id": entry.image_id, "name": entry.picture.name}
    return json.dumps(about | ({"labels": entry.labels} if entry.labels else {})).encode()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> tuple[int, int]:
    """Appends a file to a tar, without time and owner so that bytes repeat.

    Returns its first byte and its size in bytes.
    """
    member = tarfile.TarInfo(name)
    member.size = len(content)
    start = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, BytesIO(content))
    return start, len(content)


def write_manifest(out: Path, plan: dict[str, Any], shards: list[Path], skipped: list[Skipped]) -> dict[str, Any]:
    """Writes and returns what is in a finished folder; raises UserError when that is nothing."""
    about = [about_shard(shard) for shard in shards]
    skipped = skipped + [Skipped(*item) for shard in about for item in shard.pop("skipped")]
    totals = {name: sum(shard[name] for shard in about) for name in ("samples", "captions", "bytes")}
    if totals["samples"] == 0:
        raise UserError(f"{out}: no usable picture; {summary(skipped)}")
    manifest = plan | totals | {"skipped": skipped, "shards": about}
    write_bytes(out / MANIFEST, json.dumps(manifest, indent=1).encode(), AGAIN)
    remove_abandoned(out)  # of workers that were still ending when this preparation began
    (out / UNFINISHED).unlink(missing_ok=True)
    return manifest


def about_shard(shard: Path) -> dict[str, Any]:
    """Returns the JSON beside a shard, without its index, which may be long."""
    about = json.loads(sidecar_of(shard).read_text())
    return {"name": shard.name} | {name: value for name, value in about.items() if name != "index"}
