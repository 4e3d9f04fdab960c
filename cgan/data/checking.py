"""Checks data sets and reports each fault with its place: shards by hashes and samples, other data sets by files."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cgan.data.decoding import Stored, upright
from cgan.data.listing import files_below, is_picture
from cgan.data.pictures import Entry, with_captions
from cgan.data.preparation import CHUNK, FEWER_WORKERS, MANIFEST, UNFINISHED, check_prepared
from cgan.data.readers.folder import read_folder
from cgan.data.records import printable
from cgan.data.shards import is_tar, listed_in, sidecar_of
from cgan.data.sources import DataConfig, read_entries
from cgan.data.tars import Member, captions_in, is_sample, places_among, samples_of, scanned
from cgan.data.text_files import read_json
from cgan.interfaces import UserError
from cgan.workers import Progress, ProgressCounter, in_parallel, num_cores, silent

MEND = "delete it and run the same cgan prepare again"


def check_dataset(
    source: Path | DataConfig, *, num_workers: int | None = None, progress: Progress = silent
) -> Iterator[str]:
    """Yields a line for each fault of a folder of shards, a folder of pictures, or the data set of a configuration.

    `progress` is called with the numbers of checked shards or pictures and of all of them. Raises UserError if nothing
    can be read.
    """
    num_workers = num_cores() if num_workers is None else num_workers
    if isinstance(source, DataConfig):
        check_prepared(source)
        entries = read_entries(source, source.split)
    elif any(map(is_tar, source.iterdir())) or (source / MANIFEST).is_file() or (source / UNFINISHED).is_file():
        yield from check_shards(source, num_workers, progress)
        return
    else:
        entries = read_folder(source)
        yield from unmentioned(source, entries)
    yield from check_entries(entries, num_workers, progress)


def check_shards(root: Path, num_workers: int, progress: Progress) -> Iterator[str]:
    """Yields the faults of a folder of tar shards, written by cgan prepare or by other programs."""
    if (root / UNFINISHED).is_file():
        yield f"{root}: the preparation has not ended; run the same cgan prepare again, it goes on where it stopped"
    listed = {}
    if (root / MANIFEST).is_file():
        try:
            listed = listed_in(root / MANIFEST)
        except UserError as error:
            yield str(error)
    shards = sorted(file for file in root.iterdir() if is_tar(file))
    compressed = sorted(file for file in root.iterdir() if file.name.lower().endswith((".tar.gz", ".tgz", ".tar.xz")))
    yield from (f"{file}: compressed, so it is not read; unpack it into a .tar" for file in compressed)
    yield from (f"{root / name}: missing; run the same cgan prepare again" for name in set(listed) - names_of(shards))
    yield from (
        f"{root / name}: not in {MANIFEST}; delete it" for name in sorted(names_of(shards) - set(listed)) if listed
    )
    jobs = [(shard, listed.get(shard.name)) for shard in shards]
    with in_parallel(faults_of_shard, jobs, 1, num_workers, FEWER_WORKERS) as found:
        for faults in ProgressCounter(progress, len(shards)).each(found):
            yield from faults


def names_of(files: list[Path]) -> set[str]:
    """Returns the names of files, without their folders."""
    return {file.name for file in files}


def faults_of_shard(job: tuple[Path, dict | None]) -> list[str]:
    """Returns the faults of a tar; if the manifest lists it, its hash and its index are checked as well."""
    shard, listed = job
    faults = []
    if listed is not None:
        with shard.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != listed["sha256"]:
                faults.append(f"{shard}: its bytes are not those that were written (SHA-256 differs); {MEND}")
    try:
        samples = [(key, parts) for key, parts in samples_of(shard) if is_sample(parts)]
        if not samples:
            faults.append(f"{shard}: holds no picture with a caption")
        for key, parts in samples:
            faults += [f"{shard}, sample {printable(key)}: {fault}" for fault in faults_of_sample(shard, parts)]
        times = Counter(key for key, _ in samples)
        faults += [f"{shard}, sample {printable(key)}: is there {n} times" for key, n in times.items() if n > 1]
        if listed is not None and not faults and not is_indexed(shard):
            faults.append(f"{sidecar_of(shard)}: does not fit its tar; {MEND}")
    except UserError as error:
        faults.append(str(error))
    return faults


def is_indexed(shard: Path) -> bool:
    """Returns whether the JSON beside a shard holds the positions of its samples."""
    try:
        return read_json(sidecar_of(shard))["index"] == scanned(shard)
    except (UserError, KeyError, TypeError):
        return False


def faults_of_sample(shard: Path, parts: dict) -> Iterator[str]:
    """Yields the faults of one sample of a shard."""
    picture, *texts = places_among(parts)
    try:
        if not captions_in(shard, *texts)[0]:
            yield "no caption"
    except UserError as error:
        yield f"captions that can't be read ({str(error).removeprefix(str(shard)).lstrip()})"
    if "picture" not in parts:
        yield "no picture"
    else:
        content, reason = upright(Member(shard, shard.name, picture))
        if content is None:
            yield f"the picture is {reason}"


def check_entries(entries: list[Entry], num_workers: int, progress: Progress) -> Iterator[str]:
    """Yields the faults of pictures that a reader found."""
    described, skipped = with_captions(entries)
    yield from (f"{name}: {reason}" for name, reason in skipped)
    counted = ProgressCounter(progress, len(entries), len(skipped))
    pictures = [entry.picture for entry in described]
    num_usable = 0
    with in_parallel(reason_against, pictures, CHUNK, num_workers, FEWER_WORKERS) as reasons:
        for picture, reason in zip(pictures, reasons, strict=True):
            if reason:
                yield f"{printable(str(picture.name if isinstance(picture, Stored) else picture))}: {reason}"
            num_usable += not reason
            counted.add()
    if num_usable == 0:
        yield "no usable picture is left"


def reason_against(picture: Path | Stored) -> str:
    """Returns why a picture can't be used; an empty text if it can."""
    return upright(picture)[1]


def unmentioned(root: Path, entries: list[Entry]) -> Iterator[str]:
    """Yields the pictures of a folder that its captions do not mention."""
    known = {entry.picture for entry in entries}
    for file in files_below(root):
        if is_picture(file) and file not in known:
            yield f"{printable(str(file))}: no line of the captions names it"
