"""How many questions about scenes a joint encoder answers right: their attributes are known exactly."""

from collections import Counter
from pathlib import Path

import numpy as np
from torch import Tensor

from cgan.data.scenes.attributes import ATTRIBUTES, OBJECTS, Scene, Split
from cgan.data.scenes.captions import GROUND_WORDS, PLACE_WORDS
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.drawing import DRAWING_VERSION
from cgan.evaluation.protocol import EvaluationReport, device_name, versions
from cgan.interfaces import UserError
from cgan.models.joint import JointEncoder
from cgan.models.weights_hash import hash_weights
from cgan.pixels import as_floats
from cgan.ranges import check_seed
from cgan.retrieval import joint_checkpoint_of, opened_joint
from cgan.retrieval.asking import Asker
from cgan.workers import Progress, silent

BATCH = 100
QUESTIONS = {  # of each attribute; a question may state some of the others
    "object": ("what is this?", "what is {ground}?", "what is {position}?", "what is the {size} {colour} thing?"),
    "colour": ("what colour is it?", "what colour is the {object}?", "which colour is the {size} {object} {ground}?"),
    "size": ("how big is it?", "is the {object} small or big?", "what size is the {colour} {object}?"),
    "position": (
        "which side is it on?",
        "is the {object} on the left, in the centre or on the right?",
        "on which side is the {colour} {object}?",
    ),
    "ground": ("where is it?", "where is the {object}?", "what is the {colour} {object} standing on?"),
}


def evaluate_asking(
    checkpoint: Path | None = None,
    num_scenes: int = 500,
    seed: int = 1234,
    split: Split = "heldout",
    progress: Progress = silent,
) -> EvaluationReport:
    """Returns the share of questions answered right, of each attribute and of all: one of each for every scene.

    checkpoint is a joint encoder or a run directory, as in `ask`. Scenes are those of a split, by default of
    combinations that no training sees; the seed determines them and the wording of the questions. Metrics are
    right/colour and so on, right/all, doubted/true, the share of these questions whose statements, all of them true,
    were doubted, and doubted/false, that of "what colour is the cat?" where there is no cat. progress gets the numbers
    of scenes done and in all. Raises UserError.
    """
    if num_scenes < 1:
        raise UserError(f"num_images={num_scenes}: must be at least 1; 500 give a standard error below 0.01")
    check_seed(f"seed={seed}", seed)
    path = joint_checkpoint_of(checkpoint)
    asker = Asker(opened_joint(path))
    scenes = Scenes(num_scenes, asker.joint.resolution, seed, split)
    counts, rng = Counter(), np.random.default_rng([seed, 6])
    for start in range(0, num_scenes, BATCH):
        rows = list(range(start, min(start + BATCH, num_scenes)))
        vectors = asker.joint.image_vectors(as_floats(scenes.images_at(rows)))
        for row, vector in zip(rows, vectors, strict=True):
            counts += questioned(asker, vector[None], Scene(*scenes.attributes[row].tolist()), rng)
        progress(rows[-1] + 1, num_scenes)
    return EvaluationReport(shares_of(counts, num_scenes), {}, protocol_of(asker.joint, path, num_scenes, seed, split))


def questioned(asker: Asker, image: Tensor, scene: Scene, rng: np.random.Generator) -> Counter:
    """Returns which of one question for each attribute of a scene are answered right, and which are doubted."""
    counts = Counter()
    for attribute in QUESTIONS:
        answers = asker(image, question_of(attribute, scene, rng))
        counts[f"right/{attribute}"] += answers.best == value_in(scene, attribute)
        counts["doubted/true"] += bool(answers.doubts)
    counts["doubted/false"] += bool(asker(image, f"what colour is the {absent_object(scene, rng)}?").doubts)
    return counts


def shares_of(counts: Counter, num_scenes: int) -> dict[str, float]:
    """Returns counts as shares of the questions asked, and the share of all that were answered right."""
    shares = {f"right/{attribute}": counts[f"right/{attribute}"] / num_scenes for attribute in QUESTIONS}
    shares["right/all"] = sum(shares.values()) / len(QUESTIONS)
    shares["doubted/true"] = counts["doubted/true"] / (num_scenes * len(QUESTIONS))
    return shares | {"doubted/false": counts["doubted/false"] / num_scenes}


def protocol_of(joint: JointEncoder, path: Path, num_scenes: int, seed: int, split: Split) -> dict:
    """Returns what determines the values: the encoder, the scenes, the questions and the software."""
    encoder = {"joint": str(path), "weights": hash_weights(joint), "resolution": joint.resolution}
    scenes = {"num_scenes": num_scenes, "seed": seed, "split": split, "drawing": DRAWING_VERSION}
    about = {"versions": versions(), "device": device_name(joint.device), "questions": QUESTIONS}
    return {**about, "encoder": encoder, "scenes": scenes}


def value_in(scene: Scene, attribute: str) -> str:
    """Returns the name of a scene's value of an attribute, such as "night sky"."""
    return ATTRIBUTES[attribute][getattr(scene, attribute)]


def absent_object(scene: Scene, rng: np.random.Generator) -> str:
    """Returns a random object that is not in a scene."""
    return OBJECTS[(scene.object + rng.integers(1, len(OBJECTS))) % len(OBJECTS)]


def question_of(attribute: str, scene: Scene, rng: np.random.Generator) -> str:
    """Returns a random question about an attribute of a scene; all that it states of the others is true."""
    known = {name: value_in(scene, name) for name in ATTRIBUTES}
    known["ground"], known["position"] = GROUND_WORDS[scene.ground][0], PLACE_WORDS[scene.position][0]
    return QUESTIONS[attribute][rng.integers(len(QUESTIONS[attribute]))].format(**known)
