"""Evaluates by the scene classifier how well generated scenes match their captions, compared with real scenes.

Every process generates its share of the images, and all of them return the same values.
"""

from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from cgan.data.scenes.attributes import ATTRIBUTES, Scene, Split, is_heldout, sample_scene
from cgan.data.scenes.captions import describe, mentioned_in
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.drawing import DRAWING_VERSION, draw_scene
from cgan.evaluation.loop import (
    JointNetwork,
    Pictures,
    device_of,
    digest,
    loaded,
    measure,
    of_dataset,
    of_generator,
    placed,
    real_features,
    shares,
)
from cgan.interfaces import TextEncoder, UserError
from cgan.metrics.features import PrecomputedFeatures, SceneClassifierFeatures
from cgan.metrics.matching import GeneratedRPrecision, embedded
from cgan.metrics.quality import PictureQuality, frechet_distance
from cgan.metrics.retrieval import RPrecision
from cgan.metrics.scenes import IntraCaptionDiversity, SceneAccuracy, SceneClassifier, distances_within
from cgan.models.generators.base import Generator
from cgan.models.joint import JointEncoder
from cgan.pixels import as_floats
from cgan.workers import Progress, silent

SEEDS_PER_CAPTION = 8
FEWEST, NUM_SCENES = 8, 2000  # images in an evaluation: at least, and of each split unless another number is given
NUM_REAL = 1000  # real scenes whose R-precision is measured: each is drawn for its caption


@dataclass
class SceneReport:
    """The metrics of a generator; distances are Fréchet distances of the scene classifier's features."""

    scene_accuracy: float  # of captions of seen combinations
    scene_accuracy_heldout: float
    frechet_distance: float  # to real scenes
    frechet_floor: float  # of other real scenes to them
    diversity: float  # of pictures of one caption, relative to real scenes of that caption
    r_precision: float | None = None  # 1 of 100 by a joint encoder, where one is given
    r_precision_real: float | None = None  # of real scenes
    others: dict[str, float] = field(default_factory=dict)  # judge/precision and so on, and further metrics

    def metrics(self) -> dict[str, float]:
        """Returns all values by name; absent ones are left out."""
        values = asdict(self)
        others = values.pop("others")
        return {name: value for name, value in (values | others).items() if value is not None}


class RealScenes(NamedTuple):
    """The same metrics of real scenes, and their features."""

    features: Tensor  # (N, F), the classifier's
    floor: float
    diversity: float
    r_precision: float | None


class SceneReading(WrapperMetric):
    """Computes the scene accuracy, and distances of the images from real ones, from one pass of the classifier."""

    full_state_update = False

    def __init__(self, classifier: SceneClassifier, quality: PictureQuality | None = None) -> None:
        super().__init__()
        self.classifier, self.accuracy, self.quality = classifier, SceneAccuracy(), quality

    def update(self, images: Tensor, captions: list[str], ids: Tensor) -> None:
        """Adds images, uint8 (B, 3, H, W), with one caption of scenes each; B may be 0."""
        with torch.autocast(images.device.type, enabled=False):
            reading = self.classifier.read(as_floats(images))
        values = [mentioned_in(caption) for caption in captions]
        mentioned = torch.tensor(values, dtype=torch.int64, device=images.device).view(-1, len(ATTRIBUTES))
        self.accuracy.update(reading, mentioned)
        if self.quality is not None:
            self.quality.update(reading.features, ids)

    def compute(self) -> dict[str, Tensor]:
        """Returns the scene accuracy in [0, 1] and, with `quality`, its values, by name."""
        return {"scene_accuracy": self.accuracy.compute()} | (self.quality.compute() if self.quality else {})

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self.accuracy.reset()
        if self.quality is not None:
            self.quality.reset()


class SceneEvaluator:
    """evaluator(generator, text_encoder) -> SceneReport; the seed determines captions, noise and real scenes.

    R-precision is too high for generators that were trained against the same joint encoder: pass another one.
    more: further metrics of the images of seen captions, which are updated with images, captions and ids.
    Raises UserError for fewer than FEWEST images.
    """

    def __init__(
        self,
        classifier: SceneClassifier,
        resolution: int,
        num_images: int = 2000,
        seed: int = 1234,
        joint: JointEncoder | None = None,
        more: dict[str, Metric] | None = None,
        truncation: float = 1.0,
    ) -> None:
        if num_images < FEWEST:
            raise UserError(f"{num_images} pictures are too few to evaluate; take at least {FEWEST}, better 2000")
        self.classifier, self.resolution, self.num_images, self.seed = classifier, resolution, num_images, seed
        splits: tuple[Split, ...] = ("seen", "heldout")
        self.captions: dict[Split, list[str]] = {split: captions_of(split, num_images, seed) for split in splits}
        self.repeated = captions_of("seen", max(2, num_images // 64), seed + 2)
        self.more, self.truncation = dict(more or {}), truncation
        self.choice = (
            contradicted_r_precision(JointNetwork(joint), self.captions["seen"], seed) if joint is not None else None
        )
        self.real: RealScenes | None = None

    # ------------------------------------------------------------------------------------------ real scenes

    def measure_real(self, device: torch.device) -> RealScenes:
        """Returns the metrics of real scenes, computed on a device; their features are stored in the cache."""
        classifier = SceneClassifierFeatures(self.classifier)
        scenes = (of_dataset(Scenes(self.num_images, self.resolution, self.seed + i)) for i in range(2))
        features, other = (real_features(classifier, pictures, device) for pictures in scenes)
        repetitions = real_features(classifier, scenes_of(self.repetitions(), self.resolution, [self.seed, 3]), device)
        diversity = distances_within(repetitions.unflatten(0, (-1, SEEDS_PER_CAPTION))).mean()
        floor = frechet_distance(other, features)
        return RealScenes(features, floor, float(diversity), self.r_precision_of_real(device))

    def repetitions(self) -> list[str]:
        """Returns each of the repeated captions SEEDS_PER_CAPTION times in a row."""
        return [caption for caption in self.repeated for _ in range(SEEDS_PER_CAPTION)]

    def r_precision_of_real(self, device: torch.device) -> float | None:
        """Returns the R-precision in [0, 1] of real scenes with their captions; None without a joint encoder."""
        if self.choice is None:
            return None
        network, captions = self.choice.network, self.captions["seen"]
        features = real_features(network, scenes_of(captions[:NUM_REAL], self.resolution, [self.seed, 4]), device)
        with placed(network, device):
            texts, others = embedded(network, captions).cpu(), self.choice.distractors.cpu()
        metric = RPrecision(sync_on_compute=False)  # every process has all of the features
        for rows in torch.arange(len(features)).split(256):
            metric.update(features[rows], texts[rows], texts[others[rows]])
        return float(metric.compute())

    # ------------------------------------------------------------------------------------------ a generator

    @torch.no_grad()
    def __call__(self, generator: Generator, text_encoder: TextEncoder, progress: Progress = silent) -> SceneReport:
        """Returns the metrics of a generator, which must be in evaluation mode.

        Its images are rounded to uint8 first.
        """
        device = device_of(generator)
        self.real = self.real or self.measure_real(device)
        values = {}
        for split, metrics in self.metrics().items():
            pictures = of_generator(generator, text_encoder, self.captions[split], self.seed, self.truncation)
            values[split] = measure(pictures, MetricCollection({**metrics}, compute_groups=False), device, progress)
        seen = values["seen"]
        return SceneReport(
            scene_accuracy=seen.pop("scene_accuracy"),
            scene_accuracy_heldout=values["heldout"]["scene_accuracy"],
            frechet_distance=seen.pop("judge/frechet_distance"),
            frechet_floor=self.real.floor,
            diversity=self.diversity_of(generator, text_encoder) / self.real.diversity,
            r_precision=seen.pop("r_precision", None),
            r_precision_real=self.real.r_precision,
            others=seen,
        )

    def metrics(self) -> dict[Split, dict[str, Metric]]:
        """Returns the metrics of the images of each split, by name."""
        assert self.real is not None  # __call__ measures real scenes first
        quality = PictureQuality(PrecomputedFeatures("judge", self.classifier.config.feature_dim), self.real.features)
        choice = {"r_precision": self.choice} if self.choice is not None else {}
        seen = {"reading": SceneReading(self.classifier, quality), **choice, **self.more}
        return {"seen": seen, "heldout": {"reading": SceneReading(self.classifier)}}

    def diversity_of(self, generator: Generator, text_encoder: TextEncoder) -> float:
        """Returns the mean distance, in the classifier's features, of two images generated from the same caption."""
        device = device_of(generator)
        pictures = of_generator(generator, text_encoder, self.repetitions(), self.seed, self.truncation)
        metric = IntraCaptionDiversity().to(device)
        with placed(self.classifier, device), torch.autocast(device.type, enabled=False):
            for captions in shares(len(self.repeated), batch=8):
                places = (captions[:, None] * SEEDS_PER_CAPTION + torch.arange(SEEDS_PER_CAPTION)).flatten()
                features = self.classifier.read(as_floats(loaded(pictures, places, device))).features
                metric.update(features.unflatten(0, (len(captions), SEEDS_PER_CAPTION)))
        return float(metric.compute())


def scenes_of(captions: list[str], resolution: int, seed: list[int]) -> Pictures:
    """Returns a real scene for each caption, at a resolution in pixels.

    The seed determines all that the caption leaves open.
    """

    def load(places: Tensor) -> Tensor:
        rngs = [np.random.default_rng([*seed, place]) for place in places.tolist()]
        scenes = [scene_of(captions[place], rng) for place, rng in zip(places.tolist(), rngs, strict=True)]
        pictures = [draw_scene(scene, resolution, rng) for scene, rng in zip(scenes, rngs, strict=True)]
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)

    source = {"source": "scenes", "drawing": DRAWING_VERSION, "seed": seed, "resolution": resolution}
    about = {**source, "captions": digest(captions), "num_images": len(captions)}
    return Pictures(len(captions), load, about, captions)


def contradicted_r_precision(network: JointNetwork, captions: list[str], seed: int) -> GeneratedRPrecision:
    """Returns the R-precision metric, 1 of 100, whose 99 wrong captions contradict the right one."""
    return GeneratedRPrecision(network, captions, torch.from_numpy(contradicting(captions, 99, seed)))


def captions_of(split: Split, count: int, seed: int) -> list[str]:
    """Returns `count` captions of random scenes of a split; the same seed gives the same captions."""
    rng = np.random.default_rng([seed, split == "heldout"])
    return [describe(sample_scene(rng, split), rng) for _ in range(count)]


def scene_of(caption: str, rng: np.random.Generator) -> Scene:
    """Returns a random scene with the attributes that the caption names, of a combination that is not held out."""
    mentioned = mentioned_in(caption)
    while True:
        drawn = (int(rng.integers(len(values))) for values in ATTRIBUTES.values())
        scene = Scene(*(one if value < 0 else value for value, one in zip(mentioned, drawn, strict=True)))
        if not is_heldout(scene):
            return scene


def contradicting(captions: list[str], count: int, seed: int) -> np.ndarray:
    """Returns for each caption the indices of random captions that contradict it, (N, count) int64."""
    rng, mentioned = np.random.default_rng([seed, 5]), np.array([mentioned_in(caption) for caption in captions])
    rows = []
    for mine in mentioned:
        differs = ((mentioned != mine) & (mentioned >= 0) & (mine >= 0)).any(axis=1)
        candidates = np.flatnonzero(differs)
        rows.append(rng.choice(candidates, count, replace=len(candidates) < count))
    return np.stack(rows)
