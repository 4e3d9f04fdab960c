"""How well a generator draws scenes: read by the judge, beside real scenes read by the same judge."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from cgan.data.scenes import Scene, Scenes, Split, describe, draw_scene, mentioned_in, sample_scene
from cgan.interfaces import TextEncoder
from cgan.metrics.scenes import (
    Reading,
    SceneAccuracy,
    SceneJudge,
    frechet_distance,
    intra_caption_diversity,
)
from cgan.networks.generator import Generator

SEEDS_PER_CAPTION = 8


@dataclass
class SceneReport:
    """The numbers of a generator; distances are Fréchet distances on the judge's features."""

    scene_accuracy: float  # of captions of seen combinations
    scene_accuracy_heldout: float
    frechet_distance: float  # to real scenes
    frechet_floor: float  # of other real scenes to them
    diversity: float  # of pictures of one caption, relative to real scenes of that caption

    def metrics(self) -> dict[str, float]:
        return asdict(self)


class SceneEvaluator:
    """evaluator(generator, text_encoder) -> SceneReport. Captions, noise and the real side are fixed by the seed."""

    def __init__(self, judge: SceneJudge, resolution: int, num_images: int = 2000, seed: int = 1234) -> None:
        self.judge, self.num_images, self.seed = judge, num_images, seed
        self.captions = {split: captions_of(split, num_images, seed) for split in ("seen", "heldout")}
        real, other = (Scenes(num_images, resolution, seed + i) for i in range(2))
        self.real, other = (self.features_of_real(scenes) for scenes in (real, other))
        self.floor = frechet_distance(other, self.real)
        self.repeated = captions_of("seen", max(2, num_images // 64), seed + 2)
        self.real_diversity = intra_caption_diversity(self.real_repetitions(resolution))

    def features_of_real(self, scenes: Scenes) -> Tensor:
        images = torch.from_numpy(np.array(scenes.pictures)).permute(0, 3, 1, 2)
        return self.judge.read(images / 127.5 - 1).features

    def real_repetitions(self, resolution: int) -> Tensor:
        """Features of several real scenes of each repeated caption, (captions, scenes of each, F)."""
        rng = np.random.default_rng([self.seed, 3])
        pictures = [
            draw_scene(scene_of(caption, rng), resolution, rng)
            for caption in self.repeated
            for _ in range(SEEDS_PER_CAPTION)
        ]
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return self.judge.read(images / 127.5 - 1).features.unflatten(0, (-1, SEEDS_PER_CAPTION))

    @torch.inference_mode()
    def __call__(self, generator: Generator, text_encoder: TextEncoder) -> SceneReport:
        """Judge a generator in evaluation mode; pictures are rounded to bytes first, as users get them."""
        readings, accuracies = {}, {}
        for split, captions in self.captions.items():
            readings[split] = self.judge.read(draw(generator, text_encoder, captions, self.seed))
            accuracy = SceneAccuracy()
            accuracy.update(readings[split], torch.tensor([mentioned_in(caption) for caption in captions]))
            accuracies[split] = float(accuracy.compute())
        return SceneReport(
            scene_accuracy=accuracies["seen"],
            scene_accuracy_heldout=accuracies["heldout"],
            frechet_distance=frechet_distance(readings["seen"].features, self.real),
            frechet_floor=self.floor,
            diversity=self.diversity_of(generator, text_encoder) / self.real_diversity,
        )

    def diversity_of(self, generator: Generator, text_encoder: TextEncoder) -> float:
        captions = [caption for caption in self.repeated for _ in range(SEEDS_PER_CAPTION)]
        reading: Reading = self.judge.read(draw(generator, text_encoder, captions, self.seed))
        return intra_caption_diversity(reading.features.unflatten(0, (-1, SEEDS_PER_CAPTION)))


def captions_of(split: Split, count: int, seed: int) -> list[str]:
    rng = np.random.default_rng([seed, split == "heldout"])
    return [describe(sample_scene(rng, split), rng) for _ in range(count)]


def scene_of(caption: str, rng: np.random.Generator) -> Scene:
    """A random seen scene that the caption describes."""
    mentioned = mentioned_in(caption)
    while True:
        scene = sample_scene(rng, "seen")
        if all(wanted in (-1, value) for wanted, value in zip(mentioned, scene, strict=True)):
            return scene


def draw(generator: Generator, text_encoder: TextEncoder, captions: list[str], seed: int) -> Tensor:
    """A picture of each caption, float (N, 3, H, W) in [-1, 1] in steps of a byte, on the CPU."""
    device = next(generator.parameters()).device
    noise = torch.randn(len(captions), generator.config.noise_dim, generator=torch.Generator().manual_seed(seed))
    images = []
    for start in range(0, len(captions), 64):
        some = slice(start, start + 64)
        drawn = generator(noise[some].to(device), text_encoder(captions[some]))
        images.append(((drawn.float().cpu() + 1) * 127.5).round() / 127.5 - 1)
    return torch.cat(images)
