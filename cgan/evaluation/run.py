"""Evaluation as one call: the images of a checkpoint or of a folder against real images and their captions."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cgan.config import load_config
from cgan.evaluation.image_report import ImageEvaluation
from cgan.evaluation.multi_object_report import evaluate_multi_object
from cgan.evaluation.protocol import EvaluationReport
from cgan.evaluation.settings import EvaluationSettings, evaluation_settings
from cgan.interfaces import Report, silent
from cgan.workers import Progress


def evaluate(
    checkpoint: Path | str | None = None,
    *,
    images: Path | str | None = None,
    reference: Path | str | None = None,
    data: Sequence[str] = (),
    resolution: int | None = None,
    num_images: int | None = None,
    captions: Path | str | None = None,
    metrics: Sequence[str] | None = None,
    inception: Path | str | None = None,
    resize: Literal["torch-fidelity", "clean"] = "torch-fidelity",
    clip: str | None = None,
    joint: Path | str | None = None,
    anchors: bool = False,
    seed: int = 1234,
    truncation: float = 1.0,
    report: Report = silent,
    progress: Progress = silent,
) -> EvaluationReport:
    """Measures the images that a checkpoint generates, or the images of a folder, on a GPU if there is one.

    checkpoint: a .ckpt or .safetensors file, a run directory, an exported folder or a name on the hub.
    images: a folder of images, in place of a checkpoint; its captions are used where each image has one.
    reference: a folder of real images, in place of a data set's.
    data: the data set, as load_config takes it: names of YAML files and key=value. The built-in scenes when empty.
    resolution: pixels to which the images of folders are cropped and resized; not resized when absent.
    num_images: number of captions; 2000 of each split of scenes, else 5000, when absent.
    captions: a file of ids of COCO captions; the seed chooses captions when absent.
    metrics: some of cgan.metrics.names.NAMES, whose weights may be downloaded; all but mifid that can run when absent.
    inception: the file of Inception's weights; that in torch's cache when absent. resize: the way to its 299 pixels.
    clip: the CLIP of clip_score, a folder or a name on the hub.
    joint: the joint encoder of r_precision, a file or a run directory; on scenes the starter weights when absent.
    anchors: also measure real images, and for each caption the nearest training image.
    seed: of captions and noise, from 0 to 2**32 - 1. truncation: factor of the noise.
    report: gets a line about each metric that is left out. progress: gets the numbers of images done and in all.

    Raises UserError for a mistake in the arguments, and for files that are missing or damaged.
    """
    settings = evaluation_settings(
        checkpoint=checkpoint, images=images, reference=reference, data=tuple(data), resolution=resolution,
        num_images=num_images, captions=captions, metrics=metrics, inception=inception, resize=resize, clip=clip,
        joint=joint, anchors=anchors, seed=seed, truncation=truncation,
    )  # fmt: skip
    return evaluate_by(settings, report, progress)


def evaluate_by(settings: EvaluationSettings, report: Report, progress: Progress) -> EvaluationReport:
    """Evaluates scenes of several objects by the classifier of their level, all other images by ImageEvaluation."""
    start, config = time.monotonic(), load_config(list(settings.data)).data
    if settings.reference is None and config.source == "scenes" and config.level != "one":
        result = evaluate_multi_object(config.level, settings, config, progress)
    else:
        result = ImageEvaluation(settings, config, report, progress).run()
    result.protocol["seconds"] = round(time.monotonic() - start, 1)
    return result
