"""The evaluation of a checkpoint on scenes of two objects, by their own classifier alone."""

import math
from dataclasses import asdict, replace

import torch

from cgan.data.sources import DataConfig
from cgan.evaluation.images import counted
from cgan.evaluation.loop import of_generator
from cgan.evaluation.protocol import EvaluationReport, device_name, versions
from cgan.evaluation.scenes import FEWEST, NUM_SCENES
from cgan.evaluation.settings import EvaluationSettings
from cgan.evaluation.two_objects import TwoObjectEvaluator
from cgan.interfaces import UserError
from cgan.metrics.scenes import SceneClassifier, load_scene_classifier
from cgan.models.weights_hash import hash_weights
from cgan.resources import PAIR_CLASSIFIER
from cgan.sampling.pipeline import TextToImage
from cgan.workers import Progress


def evaluate_two_objects(settings: EvaluationSettings, data: DataConfig, progress: Progress) -> EvaluationReport:
    """Measures the images that a checkpoint generates for captions of two objects; raises UserError."""
    check(settings)
    assert settings.checkpoint is not None  # check has raised UserError without one
    pipe = TextToImage.from_pretrained(settings.checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    if not settings.sets_resolution:
        data = replace(data, resolution=pipe.generator.resolution)
    classifier, count = pair_classifier(), settings.num_images or NUM_SCENES
    evaluator = TwoObjectEvaluator(classifier, data.resolution, count, settings.seed, settings.truncation)
    metrics = evaluator(pipe.generator, pipe.text_encoder, progress)
    anchors = {"real_of_captions": known(evaluator.of_real(pipe.device, progress))} if settings.anchors else {}
    about = protocol(pipe, classifier, evaluator, settings)
    about["reference"] = {"source": "scenes", "level": "two", "num_images": count, "data": asdict(data)}
    return EvaluationReport(known(metrics), anchors, about)


def check(settings: EvaluationSettings) -> None:
    """Raises UserError for settings that scenes of two objects do not allow."""
    unfit = set(settings.metrics or ()) - {"scenes"}
    if unfit:
        raise UserError(f"metrics: {', '.join(sorted(unfit))} is not for data.level=two; give scenes, or leave it out")
    idle = "captions", "inception", "resize", "clip", "joint"
    settings.refuse_unused(idle, "with data.level=two, which its own classifier measures")
    if settings.checkpoint is None:
        raise UserError("images with data.level=two: only a checkpoint's images are measured; give one")
    if settings.num_images is not None and settings.num_images < FEWEST:
        raise UserError(f"num_images={settings.num_images}: take at least {FEWEST}, better {NUM_SCENES}")


def pair_classifier() -> SceneClassifier:
    """Returns the classifier of scenes of two objects in the package; raises UserError if it is missing."""
    if not PAIR_CLASSIFIER.is_file():
        hint = "the scene classifier of two objects is not there; train it by `cgan judge --level two`"
        raise UserError(f"{PAIR_CLASSIFIER}: {hint}")
    return load_scene_classifier(PAIR_CLASSIFIER)


def known(values: dict[str, float]) -> dict[str, float]:
    """Returns the values without NaN, such as the share of right relations if no image shows both objects."""
    return {name: value for name, value in values.items() if not math.isnan(value)}


def protocol(
    pipe: TextToImage, classifier: SceneClassifier, evaluator: TwoObjectEvaluator, settings: EvaluationSettings
) -> dict:
    """Returns all that is needed to reproduce the values, JSON-able."""
    seen = evaluator.captions["seen"]
    pictures = of_generator(pipe.generator, pipe.text_encoder, seen, settings.seed, settings.truncation)
    hashes = {name: hash_weights(getattr(pipe, name)) for name in ("generator", "text_encoder")}
    return {
        "versions": versions(),
        "device": device_name(pipe.device),
        "pictures": {"source": str(settings.checkpoint), **pictures.about, "num_images": len(seen), "weights": hashes},
        "captions": {split: counted(captions) for split, captions in evaluator.captions.items()},
        "networks": {"judge": hash_weights(classifier)},
        "seed": settings.seed,
    }
