"""Writes the image files of sampling requests, each as soon as it is sampled, with its settings as metadata."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cgan.errors import UserError
from cgan.figures.sheets import save_animation, save_png
from cgan.files import check_writable, check_writable_file
from cgan.models.weights_hash import hash_tensors
from cgan.sampling.interpolation import frames
from cgan.sampling.naming import OutputPaths, cleaned
from cgan.sampling.pipeline import Score, TextToImage
from cgan.sampling.request import SamplingRequest
from cgan.sampling.weights import label
from cgan.version import __version__

ANIMATIONS = (".gif", ".mp4")


def versions() -> dict[str, str]:
    """Returns the versions that pictures depend on, as image files store them."""
    return {"cgan": __version__, "torch": torch.__version__}


def provenance(pipe: TextToImage, checkpoint: Path, joint: dict[str, str] | None = None) -> dict[str, Any]:
    """Returns the weights and versions that an image file stores; joint is a Reranker's `about`."""
    facts = {"checkpoint": {"file": label(checkpoint), "sha256": pipe.sha256}, **versions(), "joint": joint}
    return facts | ({"posterior": {"sha256": hash_tensors(pipe.inverter().tensors())}} if pipe.sources else {})


def sample_pictures(
    pipe: TextToImage, requests: Sequence[SamplingRequest], score: Score | None = None
) -> Iterator[np.ndarray]:
    """Yields the pictures of all requests, one after another, uint8 (H, W, 3).

    All requests share the settings of the first. score, such as a Reranker, chooses among best_of candidates.
    """
    first = requests[0]
    if first.layout == "interpolation":
        yield from frames(pipe, first.captions, (first.seeds[0], first.seeds[1]), first.steps, first.truncation)
        return
    pairs = [(caption, seed) for request in requests for caption in request.captions for seed in request.seeds]
    if score is None:
        captions, seeds = [caption for caption, _ in pairs], [seed for _, seed in pairs]
        yield from pipe.stream(captions, seeds, first.truncation, first.batch_size)
    else:
        for caption, seed in pairs:
            yield pipe.best_of([caption], [seed], first.best_of, score, first.truncation)[0]


def write_pictures(
    pipe: TextToImage,
    requests: Sequence[SamplingRequest],
    paths: OutputPaths,
    about: dict[str, Any],
    score: Score | None = None,
) -> Iterator[tuple[Path, SamplingRequest]]:
    """Writes a file for each request, and yields its path and the request as soon as it is there.

    about is kept in each file beside its request; see `provenance`. Raises UserError where a file can't be written.
    """
    pictures = sample_pictures(pipe, requests, score)
    for request in requests:
        path, text = paths.of(request.captions, request.seeds[0]), request.to_json(**about)
        try:
            if paths.suffix in ANIMATIONS:
                save_animation(pictures, path, text)
            else:
                save_png(request.page(pictures), path, text)
        except OSError as error:
            raise UserError(f"{path}: can't be written ({error.strerror or error}); give another place") from None
        yield path, request


def check_output(paths: OutputPaths) -> None:
    """Raises UserError where the files can't be written, before anything is sampled."""
    if paths.named is not None:
        check_writable_file(paths.named, "give another place")
    else:
        check_writable(paths.folder, "give another place")


def vocabulary_warnings(pipe: TextToImage, captions: list[str], most: int = 3) -> list[str]:
    """Returns warnings about words that were not in the training captions, and about captions without known words."""
    captions = list(dict.fromkeys(captions))
    unknown, unread = pipe.unknown_words(captions), pipe.without_known_words(captions)
    warnings = [unknown_words(unknown)] if unknown else []
    if unread:
        shown = ", ".join(f"'{caption[:40]}'" for caption in unread[:most])
        more = f" and {len(unread) - most} more captions" if len(unread) > most else ""
        warnings.append(f"no known word in {shown}{more}; the picture shows nothing of it")
    return warnings


def unknown_words(words: list[str], most: int = 10) -> str:
    """Returns a warning that lists words that were not in the training captions."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    listed = ", ".join(f"'{word[:40]}'" for word in words[:most])
    return f"unknown words (not in the training captions): {listed}{more}"


def differences(picture: Path, before: dict[str, Any], request: SamplingRequest, now: dict[str, Any]) -> Iterator[str]:
    """Yields why a picture that is sampled again will differ from its file.

    before and now are the facts in the file and those of the new picture, each with its request's fields.
    """
    for part, option in (("checkpoint", "--checkpoint"), ("joint", "--joint"), ("posterior", "--posterior")):
        was, current = (facts.get(part) or {} for facts in (before, now))
        if was.get("sha256") != current.get("sha256"):
            others = f"{shortened(was)}; these are {shortened(current)}"
            yield f"{picture} was sampled with other weights, {others}, so the picture differs; give them by {option}"
    batch_size, device = before.get("batch_size", 1), before.get("device", "cpu")
    if batch_size > 1 or device != request.device:
        how = f"on {device} in batches of {batch_size}, now on {request.device} one by one"
        yield f"{picture} was sampled {how}; it is the same up to rounding"


def shortened(weights: dict[str, Any]) -> str:
    """Returns a file's name and the beginning of its hash, made printable."""
    return cleaned(f"{str(weights.get('file'))[:100]} ({str(weights.get('sha256'))[:12]})")
