"""Pictures with captions from any reader, checked, resized, and written into tar shards.

What a shard holds depends on the list of pictures and on the options alone: so a preparation that was interrupted goes
on with the next shard, and ends in the same bytes as one that was not.
"""

import hashlib
import json
import os
import tarfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from multiprocessing import parent_process
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from torchvision.transforms import v2

from cgan.data.decoding import Stored, square, upright
from cgan.data.pictures import Entry, Skipped, stat_of, summary, with_captions
from cgan.data.shards import sidecar_of
from cgan.interfaces import UserError

AHEAD = 2  # shards whose pictures are made while an earlier one is written
LONGEST_SIDE = 65_000  # pixels; JPEG ends a little above
CHUNK = 8  # pictures that a worker gets at a time
UNFINISHED, MANIFEST = "unfinished.json", "manifest.json"


class Options(NamedTuple):
    """How pictures are stored; other options are another data set."""

    size: int
    crop: Literal["center", "random", "none"] = "center"  # none resizes the shorter side and keeps all of the picture
    format: Literal["jpg", "png"] = "jpg"
    quality: int = 95  # of JPEG
    shard_size: int = 1000  # pictures
    seed: int = 0  # of random crops


class Job(NamedTuple):
    """A picture, and where in its longer side a crop is taken, from 0 to 1."""

    picture: Path | Stored
    place: float


def stored(job: Job, options: Options) -> tuple[bytes, str]:
    """A picture as it is put into a shard; or nothing and the reason why it can't be."""
    picture, reason = upright(job.picture)
    if picture is None:
        return b"", reason
    if options.crop == "none" and options.size * max(picture.size) > LONGEST_SIDE * min(picture.size):
        return b"", f"too long to be stored at {options.size} px"
    return encoded(framed(picture, job.place, options), options), ""


def framed(picture: Image.Image, place: float, options: Options) -> Image.Image:
    if options.crop == "none":
        return v2.functional.resize(picture, [options.size], antialias=True)
    return square(picture, options.size, place)


def encoded(picture: Image.Image, options: Options) -> bytes:
    content = BytesIO()
    if options.format == "png":
        picture.save(content, "PNG")
    else:  # colours at full resolution: halved ones show in small pictures
        picture.save(content, "JPEG", quality=options.quality, subsampling=0)
    return content.getvalue()


def place_of(position: int, options: Options) -> float:
    """The middle, or what the seed says for the picture at this position of the list."""
    return 0.5 if options.crop != "random" else float(np.random.default_rng([options.seed, position]).random())


def prepare(
    entries: list[Entry], out: Path, options: Options, num_workers: int, advance: Callable[[int], None]
) -> dict:
    """Write the shards that are not there yet, and then the manifest, which is returned; raises UserError.

    `advance` hears how many pictures are done.
    """
    described, skipped = with_captions(entries)
    if not described:
        raise UserError(f"no picture with a caption; {summary(skipped) or 'the source has none'}")
    plan = {**options._asdict(), "pictures": len(described), "input": digest(described)}
    claim(out, plan)
    starts = range(0, len(described), options.shard_size)
    shards = [out / f"shard-{number:05d}.tar" for number in range(len(starts))]
    missing = [number for number, shard in enumerate(shards) if not is_finished(shard)]
    jobs = [Job(entry.picture, place_of(i, options)) for i, entry in enumerate(described)]
    parts = [jobs[starts[number] : starts[number] + options.shard_size] for number in missing]
    advance(len(entries) - sum(len(part) for part in parts))
    with workers(num_workers) as pool:
        for number, contents in zip(missing, ahead(pool, partial(stored, options=options), parts), strict=True):
            write_shard(shards[number], described, starts[number], told(contents, advance), options.format)
    return write_manifest(out, plan, shards, skipped)


def digest(entries: list[Entry]) -> str:
    """Of names, sizes, captions and ids, in their order; the folder may have moved."""
    key = hashlib.sha256()
    for entry in entries:
        found = stat_of(entry.picture) if isinstance(entry.picture, Path) else None
        key.update(json.dumps([entry.picture.name, found and found.st_size, entry.captions, entry.image_id]).encode())
    return key.hexdigest()


def claim(out: Path, plan: dict) -> None:
    """Mark a folder as this preparation's; raises UserError where it is already something else."""
    for name in (UNFINISHED, MANIFEST):
        if (out / name).is_file():
            check_same(out, out / name, plan)
            break
    else:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: there is something else; give --out a new folder")
    out.mkdir(parents=True, exist_ok=True)
    for leftover in out.glob("*.tmp"):
        leftover.unlink()
    if not (out / MANIFEST).is_file():
        replace(out / UNFINISHED, json.dumps(plan).encode())


def check_same(out: Path, file: Path, plan: dict) -> None:
    try:
        found = dict(json.loads(file.read_text()))
    except (ValueError, TypeError):
        found = {}
    for name, value in plan.items():
        if found.get(name) != value:
            other = f"with {name}={found.get(name)}" if name in Options._fields else "of other pictures or captions"
            raise UserError(f"{out}: was begun {other}; give --out a new folder, or delete this one")


def is_finished(shard: Path) -> bool:
    """The JSON beside a shard is written last."""
    try:
        return json.loads(sidecar_of(shard).read_text())["bytes"] == shard.stat().st_size
    except (OSError, ValueError, KeyError):
        return False


@contextmanager
def workers(number: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one, however it ends; raises UserError when one of them is killed."""
    pool = ProcessPoolExecutor(number, initializer=obey_parent)
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError(
            "a worker was killed, out of memory perhaps; run the same again, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def obey_parent() -> None:
    """Ctrl-C is the parent's to answer; where the parent is killed, its worker goes as well."""
    signal(SIGINT, SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


def ahead(pool: ProcessPoolExecutor, work: Callable, parts: list[list[Job]]) -> Iterator[Iterator]:
    """The results of each part, in order, while those after it are being worked on."""
    begun = deque()
    for part in parts:
        begun.append(pool.map(work, part, chunksize=CHUNK))
        if len(begun) > AHEAD:
            yield begun.popleft()
    yield from begun


def told(contents: Iterator, advance: Callable[[int], None]) -> Iterator:
    for content in contents:
        yield content
        advance(1)


def write_shard(shard: Path, entries: list[Entry], start: int, contents: Iterator, suffix: str) -> None:
    """A tar of pictures, each beside a JSON of its captions, and then a JSON about the tar; all of it or nothing."""
    unfinished = shard.with_suffix(".tar.tmp")
    index, skipped, num_captions = [], [], 0
    with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
        for position, (content, reason) in enumerate(contents, start=start):
            entry = entries[position]
            if reason:
                skipped.append(entry.skipped(reason))
                continue
            text = json.dumps({"captions": entry.captions, "image_id": entry.image_id, "name": entry.picture.name})
            picture_place = add(tar, f"{position:09d}.{suffix}", content)
            json_place = add(tar, f"{position:09d}.json", text.encode())
            index.append([*picture_place, *json_place, 0, 0])
            num_captions += len(entry.captions)
    with unfinished.open("rb") as file:
        sha256, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
        os.fsync(file.fileno())
    os.replace(unfinished, shard)
    about = {"samples": len(index), "captions": num_captions, "bytes": size, "sha256": sha256}
    replace(sidecar_of(shard), json.dumps({**about, "skipped": skipped, "index": index}).encode())


def add(tar: tarfile.TarFile, name: str, content: bytes) -> tuple[int, int]:
    """Put a file of no time and nobody, so that bytes repeat, at the end of a tar; where it starts, and its size."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    start = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, BytesIO(content))
    return start, len(content)


def replace(file: Path, content: bytes) -> None:
    """Write a file, all of it or nothing."""
    unfinished = file.with_name(f"{file.name}.tmp")
    with unfinished.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(unfinished, file)


def write_manifest(out: Path, plan: dict, shards: list[Path], skipped: list[Skipped]) -> dict:
    """What is in a finished folder; raises UserError when that is nothing."""
    about = [about_shard(shard) for shard in shards]
    skipped = skipped + [Skipped(*item) for shard in about for item in shard.pop("skipped")]
    totals = {name: sum(shard[name] for shard in about) for name in ("samples", "captions", "bytes")}
    if totals["samples"] == 0:
        raise UserError(f"{out}: no usable picture; {summary(skipped)}")
    manifest = plan | totals | {"skipped": skipped, "shards": about}
    replace(out / MANIFEST, json.dumps(manifest, indent=1).encode())
    (out / UNFINISHED).unlink(missing_ok=True)
    return manifest


def about_shard(shard: Path) -> dict:
    """What stands beside a shard, but for its index, which may be long."""
    about = json.loads(sidecar_of(shard).read_text())
    return {"name": shard.name} | {name: value for name, value in about.items() if name != "index"}
