"""How well generated scenes of two objects match their captions, according to their own classifier."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from cgan.data.scenes.attributes import Split
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.two_objects import TWO, describe_pair, mentioned_in_pair, sample_pair
from cgan.evaluation.loop import Pictures, device_of, measure, of_dataset, of_generator, real_features
from cgan.interfaces import TextEncoder
from cgan.metrics.features import PrecomputedFeatures, SceneClassifierFeatures
from cgan.metrics.quality import PictureQuality
from cgan.metrics.scenes import SceneClassifier
from cgan.metrics.two_objects import NUM_VALUES, PARTS, TwoObjectAccuracy
from cgan.models.generators.base import Generator
from cgan.pixels import as_floats
from cgan.workers import Progress, silent

NAMES = [*PARTS, *(f"{part}_heldout" for part in PARTS), "judge/frechet_distance", "judge/kernel_distance"]


class PairReading(WrapperMetric):
    """The accuracies of images, and their distances from real ones by features of the same classifier pass."""

    full_state_update = False

    def __init__(self, classifier: SceneClassifier, quality: PictureQuality | None = None) -> None:
        super().__init__()
        self.classifier, self.accuracy, self.quality = classifier, TwoObjectAccuracy(), quality

    def update(self, images: Tensor, captions: list[str], ids: Tensor) -> None:
        """Adds images, uint8 (B, 3, H, W), with one caption each; B may be 0."""
        reading = self.classifier.read(as_floats(images))
        values = [mentioned_in_pair(caption) for caption in captions]
        mentioned = torch.tensor(values, dtype=torch.int64, device=images.device).view(-1, len(NUM_VALUES))
        self.accuracy.update(reading, mentioned)
        if self.quality is not None:
            self.quality.update(reading.features, ids)

    def compute(self) -> dict[str, Tensor]:
        """Returns the accuracies and, with `quality`, the distances, by name."""
        return self.accuracy.compute() | (self.quality.compute() if self.quality else {})

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self.accuracy.reset()
        if self.quality is not None:
            self.quality.reset()


class TwoObjectEvaluator:
    """evaluator(generator, text_encoder) -> values by NAMES; the seed fixes captions, noise and real scenes."""

    def __init__(
        self,
        classifier: SceneClassifier,
        resolution: int,
        num_images: int = 2000,
        seed: int = 1234,
        truncation: float = 1.0,
    ) -> None:
        self.classifier, self.resolution, self.num_images, self.seed = classifier, resolution, num_images, seed
        self.truncation = truncation
        splits: tuple[Split, ...] = ("seen", "heldout")
        self.captions: dict[Split, list[str]] = {split: pair_captions(split, num_images, seed) for split in splits}
        self.real: Tensor | None = None

    @torch.no_grad()
    def __call__(
        self, generator: Generator, text_encoder: TextEncoder, progress: Progress = silent
    ) -> dict[str, float]:
        """Evaluates a generator in evaluation mode; images are rounded to bytes first, as users get them."""
        pictures: dict[Split, Pictures] = {
            split: of_generator(generator, text_encoder, captions, self.seed, self.truncation)
            for split, captions in self.captions.items()
        }
        return self.measured(pictures, device_of(generator), progress)

    def of_real(self, device: torch.device, progress: Progress = silent) -> dict[str, float]:
        """Returns the values of real scenes with their own captions, other scenes than those of the distances."""
        pictures: dict[Split, Pictures] = {}
        for split in self.captions:
            scenes = Scenes(self.num_images, self.resolution, self.seed + 1, split, level=TWO)
            pictures[split] = of_dataset(scenes, captions=[scenes.captions_of(i)[0] for i in range(len(scenes))])
        return self.measured(pictures, device, progress)

    def measured(self, pictures: dict[Split, Pictures], device: torch.device, progress: Progress) -> dict[str, float]:
        """Returns the values of the images of both splits; names of held-out combinations end in _heldout."""
        values = {}
        for split, metric in self.metrics(device).items():
            found = measure(
                pictures[split], MetricCollection({"reading": metric}, compute_groups=False), device, progress
            )
            values |= found if split == "seen" else {f"{name}_heldout": value for name, value in found.items()}
        return values

    def metrics(self, device: torch.device) -> dict[Split, Metric]:
        """Returns the metric of each split; features of real scenes are computed once for all calls."""
        if self.real is None:
            scenes = of_dataset(Scenes(self.num_images, self.resolution, self.seed, level=TWO))
            self.real = real_features(SceneClassifierFeatures(self.classifier), scenes, device)
        quality = PictureQuality(
            PrecomputedFeatures("judge", self.classifier.config.feature_dim), self.real, ("fid", "kid")
        )
        return {"seen": PairReading(self.classifier, quality), "heldout": PairReading(self.classifier)}


def pair_captions(split: Split, count: int, seed: int) -> list[str]:
    """Returns `count` captions of random scenes of two objects; the same seed gives the same captions."""
    rng = np.random.default_rng([seed, split == "heldout", 2])
    return [describe_pair(sample_pair(rng, split), rng) for _ in range(count)]
