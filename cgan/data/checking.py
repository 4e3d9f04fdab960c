"""What is wrong with a data set, in plain words and where: shards by hashes and samples, others by their files."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from cgan.data.folder import SUFFIXES
from cgan.data.pictures import Entry, Stored, upright, with_captions
from cgan.data.preparation import CHUNK, FEWER_WORKERS, MANIFEST, UNFINISHED
from cgan.data.shards import Member, captions_in, listed_in, places_among, samples_of, scanned, sidecar_of
from cgan.interfaces import UserError
from cgan.workers import in_parallel

MEND = "delete it and run the same cgan prepare again"


def check_shards(root: Path, num_workers: int, advance: Callable[[int], None]) -> Iterator[str]:
    """The faults of a folder of tar shards, cgan prepare's or others; `advance` hears how many shards are done."""
    if (root / UNFINISHED).is_file():
        yield f"{root}: the preparation has not ended; run the same cgan prepare again, it goes on where it stopped"
    listed = {}
    if (root / MANIFEST).is_file():
        try:
            listed = listed_in(root / MANIFEST)
        except UserError as error:
            yield str(error)
    shards = sorted(root.glob("*.tar"))
    yield from (f"{root / name}: missing; run the same cgan prepare again" for name in set(listed) - names_of(shards))
    yield from (
        f"{root / name}: not in {MANIFEST}; delete it" for name in sorted(names_of(shards) - set(listed)) if listed
    )
    jobs = [(shard, listed.get(shard.name)) for shard in shards]
    with in_parallel(faults_of_shard, jobs, 1, num_workers, FEWER_WORKERS) as found:
        for faults in found:
            yield from faults
            advance(1)


def names_of(files: list[Path]) -> set[str]:
    return {file.name for file in files}


def faults_of_shard(job: tuple[Path, dict | None]) -> list[str]:
    """Of a tar and, where the manifest knows it, of its hash and its index."""
    shard, listed = job
    faults = []
    if listed is not None:
        with shard.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != listed["sha256"]:
                faults.append(f"{shard}: its bytes are not those that were written (SHA-256 differs); {MEND}")
    try:
        for key, parts in samples_of(shard).items():
            faults += [f"{shard}, sample {key}: {fault}" for fault in faults_of_sample(shard, parts)]
        if listed is not None and not faults and not is_indexed(shard):
            faults.append(f"{sidecar_of(shard)}: does not fit its tar; {MEND}")
    except UserError as error:
        faults.append(str(error))
    return faults


def is_indexed(shard: Path) -> bool:
    """Whether the JSON beside a shard says where its samples are."""
    try:
        return json.loads(sidecar_of(shard).read_text())["index"] == scanned(shard)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def faults_of_sample(shard: Path, parts: dict) -> Iterator[str]:
    picture, *texts = places_among(parts)
    if not captions_in(shard, *texts)[0]:
        yield "no caption"
    if "picture" not in parts:
        yield "no picture"
    else:
        content, reason = upright(Member(shard, shard.name, picture))
        if content is None:
            yield f"the picture is {reason}"


def check_entries(entries: list[Entry], num_workers: int, advance: Callable[[int], None]) -> Iterator[str]:
    """The faults of pictures that a reader found; `advance` hears how many pictures are done."""
    described, skipped = with_captions(entries)
    yield from (f"{name}: {reason}" for name, reason in skipped)
    advance(len(skipped))
    pictures = [entry.picture for entry in described]
    with in_parallel(reason_against, pictures, CHUNK, num_workers, FEWER_WORKERS) as reasons:
        for picture, reason in zip(pictures, reasons, strict=True):
            if reason:
                yield f"{picture.name if isinstance(picture, Stored) else picture}: {reason}"
            advance(1)


def reason_against(picture: Path | Stored) -> str:
    """Why a picture can't be used; empty when it can."""
    return upright(picture)[1]


def unmentioned(root: Path, entries: list[Entry]) -> Iterator[str]:
    """The pictures of a folder that its captions do not speak of."""
    known = {entry.picture for entry in entries}
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() in SUFFIXES and file not in known:
            yield f"{file}: no line of the captions names it"
