"""The real pictures that a drawn one is compared with: scenes, or those of a folder, embedded by a joint encoder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cgan.data.pictures import decode, with_captions
from cgan.data.readers.folder import NoCaptions, read_folder
from cgan.data.scenes.dataset import Scenes
from cgan.interfaces import Report, UserError
from cgan.models.joint import JointEncoder
from cgan.retrieval import open_index
from cgan.retrieval.embedding import BATCH_SIZE, embed_decoded
from cgan.workers import Progress, silent


class RealPictures(NamedTuple):
    """N real pictures in the latent of a joint encoder."""

    source: str  # in words
    embeddings: np.ndarray  # float32 (N, E)
    names: Sequence[str]
    pixels: Callable[[int], np.ndarray]  # of a row: uint8 (R, R, 3)
    captions: list[str]  # of the pictures, each once; empty where none are known
    attributes: np.ndarray | None  # int64 (N, 5) of scenes


def real_scenes(joint: JointEncoder, num: int, progress: Progress = silent) -> RealPictures:
    """Returns the first scenes of the built-in data set, as trainings see them by default."""
    if num < 1:
        raise UserError(f"num_images={num}: must be at least 1; 2000 is a good start")
    scenes, parts = Scenes(num, joint.resolution), []
    for start in range(0, num, BATCH_SIZE):
        progress(start, num)
        parts.append(embed_decoded(joint, list(scenes.pictures[start : start + BATCH_SIZE])))
    progress(num, num)
    captions = list(dict.fromkeys(caption for row in range(num) for caption in scenes.captions_of(row)))
    names = [f"scene {row}" for row in range(num)]
    pixels = scenes.pictures.__getitem__
    source = f"the first {num:,} training scenes"
    return RealPictures(source, np.concatenate(parts), names, pixels, captions, scenes.attributes)


def real_folder(
    joint: JointEncoder,
    checkpoint: Path,
    folder: Path,
    captions: Sequence[str] = (),
    report: Report = silent,
    progress: Progress = silent,
) -> RealPictures:
    """Returns the pictures of a folder, encoded once and kept in the cache; raises UserError if there are none.

    checkpoint is the joint encoder's file. captions are those to choose from where it can't write any, by default those
    beside the pictures, as a training reads them.
    """
    index = open_index(joint, checkpoint, folder, None, report, progress)

    def pixels(row: int) -> np.ndarray:
        picture, reason = decode((folder / index.files[row].name, joint.resolution))
        if picture is None:
            raise UserError(f"{folder / index.files[row].name}: {reason}; run the command again")
        return picture

    names = [file.name for file in index.files]
    if joint.caption_decoder is None and not captions:
        captions = captions_beside(folder)
    return RealPictures(str(folder), index.embeddings, names, pixels, list(dict.fromkeys(captions)), None)


def captions_beside(folder: Path) -> list[str]:
    """Returns the captions in a folder of pictures, none where there are none; raises UserError for damaged files."""
    try:
        entries = with_captions(read_folder(folder))[0]
    except NoCaptions:
        return []
    return [caption for entry in entries for caption in entry.captions]
