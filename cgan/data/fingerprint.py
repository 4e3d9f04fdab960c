"""Fingerprints of data sets, by which a resumed training notices that its pictures or captions have changed."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from cgan.data.pictures import CaptionedPictures
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.drawing import DRAWING_VERSION
from cgan.data.shards import ShardedPictures

NUM_DECODED = 32  # pictures that are compared; names, ids and captions are all compared


class Fingerprint(NamedTuple):
    """Identifies the contents of a data set; no part of it depends on the folder that the pictures are in."""

    num_pictures: int
    captions: str  # SHA-256 of names, ids and captions; of shards, of what is where in which
    pictures: str  # SHA-256 of some pictures at the training's resolution


def fingerprint_of(dataset) -> Fingerprint:
    """Returns the fingerprint of a data set; decodes NUM_DECODED of its pictures."""
    indices = sorted({i * len(dataset) // NUM_DECODED for i in range(NUM_DECODED)})
    pictures = digest(dataset[i].image.numpy().tobytes() for i in indices)
    return Fingerprint(len(dataset), digest(contents(dataset)), pictures)


def contents(dataset) -> Iterator[bytes]:
    """Yields the bytes that identify a data set's names, ids and captions, piece by piece."""
    if isinstance(dataset, Scenes):
        yield as_bytes([DRAWING_VERSION, len(dataset), dataset.seed, dataset.level.name])
    elif isinstance(dataset, ShardedPictures):
        yield as_bytes([(shard.name, shard.stat().st_size) for shard in dataset.shards])
        for rows in np.array_split(dataset.rows, max(1, len(dataset.rows) // 100_000)):
            yield np.ascontiguousarray(dataset.index[rows]).tobytes()
    elif isinstance(dataset, CaptionedPictures):
        for entry in dataset.entries:
            yield as_bytes([entry.picture.name, entry.image_id, entry.captions])
    else:
        yield from (as_bytes(dataset.captions_of(index)) for index in range(len(dataset)))


def as_bytes(content: object) -> bytes:
    """Returns a value as JSON, encoded in UTF-8.

    Surrogates in file names that are not UTF-8 become their bytes again.
    """
    return json.dumps(content, default=str).encode(errors="surrogateescape")


def digest(pieces: Iterable[bytes]) -> str:
    """Returns the SHA-256 of concatenated pieces, as 64 hexadecimal digits."""
    result = hashlib.sha256()
    for piece in pieces:
        result.update(piece)
    return result.hexdigest()


def differences(before: Fingerprint, now: Fingerprint) -> str | None:
    """Returns a short description of how a data set has changed; None if it is the same."""
    if before.num_pictures != now.num_pictures:
        return f"{before.num_pictures} pictures before, {now.num_pictures} now"
    if before.captions != now.captions:
        return f"{now.num_pictures} pictures as before, but others, in another order, or with other captions"
    if before.pictures != now.pictures:
        return f"{now.num_pictures} pictures of the same names and captions as before, but they look different"
    return None


def all_captions(dataset, most: int = 20_000) -> list[str]:
    """Returns the captions of a data set, or of at most `most` pictures spread evenly over it."""
    count = min(most, len(dataset))
    return [caption for i in range(count) for caption in dataset.captions_of(i * len(dataset) // count)]
