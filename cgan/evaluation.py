"""How well a generator draws scenes: read by the judge, beside real scenes read by the same judge."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from cgan.data.scenes import Scene, Scenes, Split, describe, draw_scene, mentioned_in, sample_scene
from cgan.interfaces import TextEncoder
from cgan.joint import JointEncoder
from cgan.metrics.retrieval import RPrecision
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
    r_precision: float | None = None  # 1 of 100 by a joint encoder, where one is given
    r_precision_real: float | None = None  # of real scenes

    def metrics(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class SceneEvaluator:
    """evaluator(generator, text_encoder) -> SceneReport. Captions, noise and the real side are fixed by the seed.

    R-precision flatters generators that were trained against the joint encoder: give another one.
    """

    def __init__(
        self,
        judge: SceneJudge,
        resolution: int,
        num_images: int = 2000,
        seed: int = 1234,
        joint: JointEncoder | None = None,
    ) -> None:
        self.joint = joint
        self.judge, self.num_images, self.seed = judge, num_images, seed
        self.captions = {split: captions_of(split, num_images, seed) for split in ("seen", "heldout")}
        real, other = (Scenes(num_images, resolution, seed + i) for i in range(2))
        self.real, other = (self.features_of_real(scenes) for scenes in (real, other))
        self.floor = frechet_distance(other, self.real)
        self.r_precision_real = self.r_precision_of(self.real_pictures(resolution))
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

    def real_pictures(self, resolution: int) -> Tensor | None:
        """A real scene for each caption, float (N, 3, H, W); only R-precision needs them."""
        if self.joint is None:
            return None
        rng = np.random.default_rng([self.seed, 4])
        pictures = [draw_scene(scene_of(caption, rng), resolution, rng) for caption in self.captions["seen"]]
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1

    @torch.no_grad()
    def r_precision_of(self, images: Tensor | None) -> float | None:
        """Share of pictures (N, 3, H, W) of the seen captions that find theirs among 99 which contradict it."""
        if self.joint is None:
            return None
        captions, metric = self.captions["seen"], RPrecision()
        embedded = torch.cat([self.joint.embed_captions(captions[i : i + 256]) for i in range(0, len(captions), 256)])
        others = torch.from_numpy(contradicting(captions, 99, self.seed))  # (N, 99)
        for rows in torch.arange(len(captions)).split(256):
            pictures = self.joint.embed_images(resized(images[rows], self.joint.resolution))
            metric.update(pictures, embedded[rows], embedded[others[rows]])
        return float(metric.compute())

    @torch.inference_mode()
    def __call__(self, generator: Generator, text_encoder: TextEncoder) -> SceneReport:
        """Judge a generator in evaluation mode; pictures are rounded to bytes first, as users get them."""
        readings, accuracies, images = {}, {}, {}
        for split, captions in self.captions.items():
            images[split] = draw(generator, text_encoder, captions, self.seed)
            readings[split] = self.judge.read(images[split])
            accuracy = SceneAccuracy()
            accuracy.update(readings[split], torch.tensor([mentioned_in(caption) for caption in captions]))
            accuracies[split] = float(accuracy.compute())
        return SceneReport(
            scene_accuracy=accuracies["seen"],
            scene_accuracy_heldout=accuracies["heldout"],
            frechet_distance=frechet_distance(readings["seen"].features, self.real),
            frechet_floor=self.floor,
            diversity=self.diversity_of(generator, text_encoder) / self.real_diversity,
            r_precision=self.r_precision_of(images["seen"]),
            r_precision_real=self.r_precision_real,
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


def contradicting(captions: list[str], count: int, seed: int) -> np.ndarray:
    """For each caption the places of captions with which it can't be true together, (N, count), at random."""
    rng, said = np.random.default_rng([seed, 5]), np.array([mentioned_in(caption) for caption in captions])
    rows = []
    for mine in said:
        differs = ((said != mine) & (said >= 0) & (mine >= 0)).any(axis=1)
        candidates = np.flatnonzero(differs)
        rows.append(rng.choice(candidates, count, replace=len(candidates) < count))
    return np.stack(rows)


def resized(images: Tensor, resolution: int) -> Tensor:
    return images if images.shape[-1] == resolution else resize(images, [resolution, resolution], antialias=True)


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
