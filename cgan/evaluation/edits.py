"""Evaluates edits of scenes: one attribute changed in the caption, judged by the scene classifier.

The truth is known, so that an edit is right if the new attribute is there, and keeps what it should if every other
attribute is that of the source. The baseline is a new picture of the same caption.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cgan.data.scenes.attributes import ATTRIBUTES, Scene, Split, sample_scene
from cgan.data.scenes.drawing import draw_scene
from cgan.data.scenes.edits import NAMES, SceneEdit, describe_all, describe_edit, edit_scene
from cgan.interfaces import Report, UserError, silent
from cgan.metrics.scenes import Reading, SceneClassifier, load_scene_classifier
from cgan.pixels import as_floats
from cgan.sampling.mixing import mixed
from cgan.sampling.pipeline import TextToImage

FEWEST = 8  # scenes
BATCH_SIZE = 100


@dataclass
class EditScores:
    """What the classifier sees in edited pictures, shares in [0, 1]."""

    edit_accuracy: float  # recognisable, and with the new attribute
    kept_attributes: float  # every other attribute is that of the source
    kept: dict[str, float]  # each other attribute by itself

    @classmethod
    def of(cls, reading: Reading, wanted: Tensor, attribute: str) -> "EditScores":
        """Returns the scores of a reading of B pictures; wanted (B, attributes) are those after the edit."""
        column, right = NAMES.index(attribute), reading.values == wanted  # (B, attributes)
        others = [i for i in range(len(NAMES)) if i != column]
        return cls(
            share(right[:, column] & reading.recognisable),
            share(right[:, others].all(dim=1)),
            {NAMES[i]: share(right[:, i]) for i in others},
        )


@dataclass
class Redrawing:
    """How well pictures are redrawn by their own captions, with all of the picture kept."""

    l1: float  # mean absolute difference to the source, in 0 to 255
    l1_resampled: float  # of a new picture of the same caption
    agreement: float  # share of pictures in which the classifier sees all of the source's attributes
    recognisable: float


@dataclass
class EditReport:
    """The scores by changed attribute, of edits and of new pictures of the same captions, and redrawings."""

    num_scenes: int
    keep: float
    edited: dict[str, EditScores]
    resampled: dict[str, EditScores]
    redrawn: Redrawing


class Edits(NamedTuple):
    """Scenes as pictures, and their edits by one attribute."""

    sources: Tensor  # (N, 3, H, W) uint8
    scenes: list[Scene]
    edits: dict[str, list[SceneEdit]]  # by attribute
    captions: dict[str, list[str]]  # of the edited scenes
    own: list[str]  # of the sources, with all attributes


def edits_for(num_scenes: int, resolution: int, seed: int, split: Split = "heldout") -> Edits:
    """Returns random scenes of a split and an edit of each attribute of each; the seed determines all of them."""
    rng = np.random.default_rng([seed, split == "heldout", 7])
    scenes = [sample_scene(rng, split) for _ in range(num_scenes)]
    pictures = np.stack([draw_scene(scene, resolution, rng) for scene in scenes])
    edits = {name: [edit_scene(scene, name, rng) for scene in scenes] for name in ATTRIBUTES}
    captions = {name: [describe_edit(edit, rng) for edit in some] for name, some in edits.items()}
    own = [describe_all(scene, rng) for scene in scenes]
    return Edits(torch.from_numpy(pictures).permute(0, 3, 1, 2), scenes, edits, captions, own)


def evaluate_edits(
    pipe: TextToImage,
    num_scenes: int = 500,
    keep: float = 1.0,
    seed: int = 1234,
    split: Split = "heldout",
    classifier: SceneClassifier | None = None,
    report: Report = silent,
) -> EditReport:
    """Returns how well a pipeline edits scenes by captions; report gets a line for each attribute.

    A caption names the object, the new attribute, and others with the chance that captions of scenes have: what it
    does not name must come from the picture. Raises UserError for too few scenes, for values out of range, and for
    weights without a posterior.
    """
    if num_scenes < FEWEST:
        raise UserError(f"{num_scenes} scenes are too few to evaluate edits; take at least {FEWEST}, better 500")
    classifier = (classifier or load_scene_classifier()).to(pipe.device)
    data = edits_for(num_scenes, pipe.generator.resolution, seed, split)
    draw, seeds = partial(drawn, pipe, data.sources), list(range(num_scenes))
    edited, resampled = {}, {}
    for name, edits in data.edits.items():
        report(f"{name}: drawing {num_scenes} edits")
        wanted = torch.tensor([edit.after for edit in edits], device=pipe.device)
        for scores, kept in ((edited, keep), (resampled, 0.0)):
            reading = classifier.read(as_floats(draw(data.captions[name], seeds, kept)))
            scores[name] = EditScores.of(reading, wanted, name)
    return EditReport(num_scenes, keep, edited, resampled, redrawing(data, draw, seeds, classifier))


def redrawing(data: Edits, draw: partial, seeds: list[int], classifier: SceneClassifier) -> Redrawing:
    """Returns how well sources are redrawn by their own captions; draw(captions, seeds, keep) gives pictures."""
    redrawn, fresh = draw(data.own, seeds, 1.0), draw(data.own, seeds, 0.0)
    reading, sources = classifier.read(as_floats(redrawn)), data.sources.to(redrawn.device)
    scenes = torch.tensor(data.scenes, device=redrawn.device)
    return Redrawing(
        l1(redrawn, sources),
        l1(fresh, sources),
        share((reading.values == scenes).all(dim=1)),
        share(reading.recognisable),
    )


def drawn(pipe: TextToImage, sources: Tensor, captions: list[str], seeds: list[int], keep: float) -> Tensor:
    """Returns pictures of captions (N, 3, H, W), uint8, each from its source, of which `keep` stays."""
    parts = []
    for start in range(0, len(captions), BATCH_SIZE):
        some = slice(start, start + BATCH_SIZE)
        text, noise = pipe.encode(captions[some]), pipe.noise(seeds[some])
        if keep > 0:
            start, sentence = pipe.found(sources[some], text)
            text = text._replace(sentence=torch.lerp(text.sentence, sentence, keep))
            noise = mixed(noise, start, keep)
        parts.append(torch.from_numpy(pipe.generate(noise, text)).permute(0, 3, 1, 2))
    return torch.cat(parts).to(pipe.device)


def share(hits: Tensor) -> float:
    """Returns the share of hits (B,) bool that are True."""
    return float(hits.double().mean())


def l1(images: Tensor, others: Tensor) -> float:
    """Returns the mean absolute difference of uint8 images of one shape, in 0 to 255."""
    return float((images.float() - others.float()).abs().mean())
