"""The evaluation of a checkpoint on scenes of several objects, by the classifier of their level alone."""

import math
from dataclasses import asdict, replace

import torch

from cgan.data.sources import DataConfig
from cgan.evaluation.images import counted
from cgan.evaluation.loop import of_generator
from cgan.evaluation.multi_object import MultiLevel, MultiObjectEvaluator, classifier_of
from cgan.evaluation.protocol import EvaluationReport, device_name, versions
from cgan.evaluation.scenes import FEWEST, NUM_SCENES
from cgan.evaluation.settings import EvaluationSettings
from cgan.interfaces import UserError
from cgan.metrics.names import SCENE_FEATURES
from cgan.metrics.scenes import SceneClassifier
from cgan.models.weights_hash import hash_weights
from cgan.sampling.pipeline import TextToImage
from cgan.workers import Progress


def evaluate_multi_object(
    level: MultiLevel, settings: EvaluationSettings, data: DataConfig, progress: Progress
) -> EvaluationReport:
    """Measures the images that a checkpoint generates for captions of several objects; raises UserError."""
    check(settings, level)
    assert settings.checkpoint is not None  # check has raised UserError without one
    pipe = TextToImage.from_pretrained(settings.checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    if not settings.sets_resolution:
        data = replace(data, resolution=pipe.generator.resolution)
    classifier, count = classifier_of(level), settings.num_images or NUM_SCENES
    evaluator = MultiObjectEvaluator(
        level, classifier, data.resolution, count, settings.seed, settings.truncation, data.language
    )
    metrics = evaluator(pipe.generator, pipe.text_encoder, progress)
    anchors = {"real_of_captions": known(evaluator.of_real(pipe.device, progress))} if settings.anchors else {}
    about = protocol(pipe, classifier, evaluator, settings)
    about["reference"] = {"source": "scenes", "level": level, "num_images": count, "data": asdict(data)}
    return EvaluationReport(known(metrics), anchors, about)


def check(settings: EvaluationSettings, level: MultiLevel) -> None:
    """Raises UserError for settings that scenes of several objects do not allow."""
    unfit = set(settings.metrics or ()) - {"scenes"}
    if unfit:
        names = ", ".join(sorted(unfit))
        raise UserError(f"metrics: {names} is not for data.level={level}; give scenes, or leave it out")
    idle = "captions", "inception", "resize", "clip", "joint"
    settings.refuse_unused(idle, f"with data.level={level}, which its own classifier measures")
    if settings.checkpoint is None:
        raise UserError(f"images with data.level={level}: only a checkpoint's images are measured; give one")
    if settings.num_images is not None and settings.num_images < FEWEST:
        raise UserError(f"num_images={settings.num_images}: take at least {FEWEST}, better {NUM_SCENES}")


def known(values: dict[str, float]) -> dict[str, float]:
    """Returns the values without NaN, such as the share of right relations if no image shows both objects."""
    return {name: value for name, value in values.items() if not math.isnan(value)}


def protocol(
    pipe: TextToImage, classifier: SceneClassifier, evaluator: MultiObjectEvaluator, settings: EvaluationSettings
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
        "networks": {SCENE_FEATURES: hash_weights(classifier)},
        "seed": settings.seed,
    }
