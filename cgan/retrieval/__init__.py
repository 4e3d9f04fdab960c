"""Retrieval by a joint encoder: of pictures by a caption or a picture, and of captions by a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cgan.data.pictures import decode
from cgan.figures.contact_sheet import MAX_PICTURES, THUMBNAIL, contact_sheet
from cgan.figures.sheets import save_png
from cgan.files import check_writable_file
from cgan.interfaces import Report, UserError
from cgan.retrieval.embedding import (
    caption_pictures,
    embed_captions,
    embed_picture,
    joint_checkpoint_of,
    opened_joint,
)
from cgan.retrieval.index import DamagedIndex, EmbeddingIndex, File, Origin, open_index, pictures_in
from cgan.retrieval.search import nearest
from cgan.workers import Progress, silent

__all__ = [
    "DamagedIndex",
    "EmbeddingIndex",
    "File",
    "Origin",
    "Ranking",
    "caption_pictures",
    "embed_captions",
    "embed_picture",
    "joint_checkpoint_of",
    "nearest",
    "open_index",
    "opened_joint",
    "pictures_in",
    "retrieve",
    "write_sheet",
]


class Ranking(NamedTuple):
    """The results of one query, best first."""

    title: str  # the caption, or what picture was looked for
    scores: np.ndarray  # (K,), inner products or, with co-attention, matching scores
    found: Sequence[Path | str]  # K pictures or captions


def retrieve(
    captions: Sequence[str] = (),
    *,
    image: Path | None = None,
    images: Path | None = None,
    candidate_captions: Sequence[str] | None = None,
    top: int = 10,
    checkpoint: Path | None = None,
    index: Path | None = None,
    report: Report = silent,
    progress: Progress = silent,
) -> list[Ranking]:
    """Ranks the pictures of the folder `images` by captions and by `image`, and candidate captions by `image`.

    Each ranking has at most `top` results. checkpoint is a joint encoder or a run directory, by default the newest
    run's or the starter weights. The embeddings of pictures are stored in `index`, a .safetensors file, by default in
    the cache. `report` is called with messages about unknown words and skipped pictures, `progress` with the numbers of
    encoded pictures and of all of them.

    Raises UserError for arguments that do not fit together, and for files that can't be read.
    """
    check_query(captions, image, images, candidate_captions, top, index)
    path = joint_checkpoint_of(checkpoint)
    joint, rankings = opened_joint(path), []
    for word in joint.text.unknown_words(list(captions)):
        report(f"unknown word (not in the training captions): '{word}'")
    if candidate_captions is not None and image is not None:
        choices = list(dict.fromkeys(candidate_captions))  # one that stands twice is found once
        scores, rows = nearest(embed_picture(joint, image), embed_captions(joint, choices), top)
        rankings.append(Ranking(f"captions of {image.name}", scores[0], [choices[row] for row in rows[0]]))
    if images is not None:
        pictures = open_index(joint, path, images, index, report, progress)
        found = {caption: pictures.search_caption(joint, caption, top) for caption in captions}
        if image is not None:
            scores, rows = pictures.search(embed_picture(joint, image), top)
            found[f"pictures like {image.name}"] = scores[0], rows[0]
        for title, (scores, rows) in found.items():
            rankings.append(Ranking(title, scores, [images / pictures.files[row].name for row in rows]))
    return rankings


def check_query(
    captions: Sequence[str],
    image: Path | None,
    images: Path | None,
    candidate_captions: Sequence[str] | None,
    top: int,
    index: Path | None,
) -> None:
    """Raises UserError for mistakes that can be found before anything is loaded."""
    if not captions and image is None:
        raise UserError('nothing to look for; give a caption, for instance "a red car", or --image FILE')
    if any(not caption.strip() for caption in captions):
        raise UserError('a caption is empty; give one to look for, for instance "a red car"')
    if candidate_captions is not None and image is None:
        raise UserError("--captions: no picture to fit them to; give --image FILE")
    if images is None and (captions or candidate_captions is None):
        raise UserError("nowhere to look; give --images DIR, the folder to search, or --image with --captions FILE")
    if top < 1:
        raise UserError(f"--top={top}: must be at least 1; 10 is a good start")
    if index is not None and index.suffix != ".safetensors":
        raise UserError(f"--index={index}: give it a name that ends in .safetensors")
    if index is not None:
        check_writable_file(index, "give another --index")


def write_sheet(path: Path, title: str, scores: np.ndarray, pictures: Sequence[Path]) -> None:
    """Writes a contact sheet of the first MAX_PICTURES pictures as a PNG; raises CannotWrite."""
    thumbnails = [decode((picture, THUMBNAIL))[0] for picture in pictures[:MAX_PICTURES]]
    save_png(contact_sheet(thumbnails, scores, title), path)
