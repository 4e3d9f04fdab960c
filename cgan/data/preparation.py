"""Pictures with captions from any reader, checked, resized, and written into tar shards.

What a shard holds depends on the list of pictures and on the options alone: so a preparation that was interrupted goes
on with the next shard, and ends in the same bytes as one that was not.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from torchvision.transforms import v2

from cgan.data.decoding import Stored, square, upright
from cgan.data.pictures import Entry, Skipped, stat_of, summary, with_captions
from cgan.data.shards import sidecar_of
from cgan.files import TEMPORARY, cannot_write, make_folder, one_at_a_time, remove_abandoned, replacing, write_bytes
from cgan.interfaces import UserError
from cgan.workers import in_parallel

AHEAD = 2  # shards whose pictures are made while an earlier one is written
LONGEST_SIDE = 65_000  # pixels; JPEG ends a little above
CHUNK = 8  # pictures that a worker gets at a time
UNFINISHED, MANIFEST, LOCK = "unfinished.json", "manifest.json", ".cgan-prepare.lock"
EARLIER = re.compile(r"(shard-\d+\.(tar|json)|unfinished\.json|manifest\.json)\.tmp")  # names of earlier versions
AGAIN = "run the same again, and it goes on"
ELSEWHERE = "give --out a folder that can be written"
PATIENCE = 1.0  # seconds that the workers of a killed preparation have to end
FEWER_WORKERS = "run the same again, with fewer --workers"


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
    check_claim(out, plan)
    make_folder(out, ELSEWHERE)
    with one_at_a_time(out / LOCK, partial(say_busy, out), ELSEWHERE, PATIENCE):
        claim(out, plan)
        starts = range(0, len(described), options.shard_size)
        shards = [out / f"shard-{number:05d}.tar" for number in range(len(starts))]
        missing = {shard: start for shard, start in zip(shards, starts, strict=True) if not is_finished(shard)}
        places = [i for start in missing.values() for i in range(len(described))[start : start + options.shard_size]]
        jobs = [Job(described[i].picture, place_of(i, options)) for i in places]
        advance(len(entries) - len(jobs))
        work, ahead = partial(stored, options=options), AHEAD * options.shard_size // CHUNK
        with in_parallel(work, jobs, CHUNK, num_workers, FEWER_WORKERS, ahead) as contents:
            for shard, start in missing.items():
                part = islice(contents, min(options.shard_size, len(described) - start))
                write_shard(shard, described, start, told(part, advance), options.format)
        return write_manifest(out, plan, shards, skipped)


def say_busy(out: Path) -> None:
    raise UserError(f"{out}: another cgan prepare is writing into it; wait for it, or give --out another folder")


def digest(entries: list[Entry]) -> str:
    """Of names, sizes, captions and ids, in their order; the folder may have moved."""
    key = hashlib.sha256()
    for entry in entries:
        found = stat_of(entry.picture) if isinstance(entry.picture, Path) else None
        key.update(json.dumps([entry.picture.name, found and found.st_size, entry.captions, entry.image_id]).encode())
    return key.hexdigest()


def check_claim(out: Path, plan: dict) -> None:
    """Raise UserError where a folder is already something else, or can't be looked into."""
    try:
        for name in (UNFINISHED, MANIFEST):
            if (out / name).is_file():
                return check_same(out, out / name, plan)
        if out.exists() and (not out.is_dir() or not all(is_passing(file.name) for file in out.iterdir())):
            raise UserError(f"{out}: there is something else; give --out a new folder")
    except OSError as error:
        raise cannot_write(out, error, ELSEWHERE) from error


def is_passing(name: str) -> bool:
    """Whether a file is there only while a folder is written, unless the writer is killed."""
    return name == LOCK or TEMPORARY.match(name) is not None


def claim(out: Path, plan: dict) -> None:
    """Mark a folder as this preparation's, which alone writes into it from here on; raises UserError as check_claim."""
    check_claim(out, plan)  # another one may have begun and ended meanwhile
    remove_abandoned(out)
    for leftover in out.glob("*.tmp"):
        if EARLIER.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)
    if not (out / MANIFEST).is_file():
        write_bytes(out / UNFINISHED, json.dumps(plan).encode(), AGAIN)


def check_same(out: Path, file: Path, plan: dict) -> None:
    try:
        found = dict(json.loads(file.read_bytes()))
    except (ValueError, TypeError):
        raise UserError(f"{file}: damaged; give --out a new folder, or delete this one") from None
    for name, value in plan.items():
        if found.get(name) != value:
            other = f"with {name}={found.get(name)}" if name in Options._fields else "of other pictures or captions"
            raise UserError(f"{out}: was begun {other}; give --out a new folder, or delete this one")


def is_finished(shard: Path) -> bool:
    """Whether the JSON beside a shard, which is written last, is there and speaks of it."""
    try:
        about = about_shard(shard)
        return about["bytes"] == shard.stat().st_size and about.keys() >= {"samples", "captions", "sha256", "skipped"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def told(contents: Iterator, advance: Callable[[int], None]) -> Iterator:
    for content in contents:
        yield content
        advance(1)


def write_shard(shard: Path, entries: list[Entry], start: int, contents: Iterator, suffix: str) -> None:
    """A tar of pictures, each beside a JSON of its captions, and then a JSON about the tar; all of it or nothing."""
    index, skipped, num_captions = [], [], 0
    with replacing(shard, AGAIN) as unfinished:
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
    about = {"samples": len(index), "captions": num_captions, "bytes": size, "sha256": sha256}
    write_bytes(sidecar_of(shard), json.dumps({**about, "skipped": skipped, "index": index}).encode(), AGAIN)


def add(tar: tarfile.TarFile, name: str, content: bytes) -> tuple[int, int]:
    """Put a file of no time and nobody, so that bytes repeat, at the end of a tar; where it starts, and its size."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    start = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, BytesIO(content))
    return start, len(content)


def write_manifest(out: Path, plan: dict, shards: list[Path], skipped: list[Skipped]) -> dict:
    """What is in a finished folder; raises UserError when that is nothing."""
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


def about_shard(shard: Path) -> dict:
    """What stands beside a shard, but for its index, which may be long."""
    about = json.loads(sidecar_of(shard).read_text())
    return {"name": shard.name} | {name: value for name, value in about.items() if name != "index"}
