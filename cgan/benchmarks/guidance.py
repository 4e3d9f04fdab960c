"""Measures what truncation, best of several and negative captions gain in accuracy and cost in diversity."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cgan.benchmarks.race_report import TextTable, number
from cgan.data.scenes.captions import mentioned_in
from cgan.evaluation.loop import resized
from cgan.evaluation.scenes import SEEDS_PER_CAPTION, captions_of, scenes_of
from cgan.figures.plots import Line, Plot, figure_of, save_figure
from cgan.files import write_json, write_text
from cgan.interfaces import Report, TextFeatures, UserError, silent
from cgan.metrics.scenes import SceneAccuracy, distances_within, load_scene_classifier
from cgan.models.joint import JointEncoder
from cgan.pixels import as_bytes, as_floats
from cgan.ranges import check_seed
from cgan.resources import STARTER_JOINT
from cgan.sampling.guidance import away_from
from cgan.sampling.pipeline import TextToImage

AMOUNTS = {"truncation": (0.25, 0.5, 0.75, 1.0), "best of": (1, 2, 4, 8), "away from the mean": (0.0, 0.25, 0.5, 1.0)}
NUM_MEAN = 500  # captions whose mean is the negative one
BATCH = 32

Generate = Callable[[list[str], Tensor], Tensor]  # captions and noise (B, Z) -> images (B, 3, H, W)


class Point(NamedTuple):
    """The accuracy and diversity of images by one technique."""

    technique: str
    amount: float
    accuracy: float  # of captions of seen combinations
    diversity: float  # of pictures of one caption, relative to real scenes


@torch.no_grad()
def measure_guidance(
    checkpoint: Path, *, joint: Path | None = None, num_images: int = 1000, seed: int = 1234, report: Report = silent
) -> list[Point]:
    """Measure every amount of every technique on scenes of one object, on the CPU.

    checkpoint: a .ckpt or .safetensors file. joint: the joint encoder that chooses the best; the starter weights when
    absent. num_images: captions, at least 8; diversity takes an eighth as many images. seed: of captions and noise.
    report: is called with a line for each point. Raises UserError.
    """
    if num_images < 8:
        raise UserError(f"num_images={num_images}: take at least 8, better 1000")
    check_seed(f"seed={seed}", seed, spread=2)
    pipe, encoder = TextToImage.load(checkpoint), JointEncoder.load(joint or STARTER_JOINT)
    metrics, points = GuidanceMetrics(pipe.generator.resolution, num_images, seed), []
    for technique, amount, generate in ways_of(pipe, encoder):
        points.append(Point(technique, amount, *metrics(generate, pipe.generator.config.noise_dim)))
        report(f"{technique} {amount:g}: {points[-1].accuracy:.3f}, {points[-1].diversity:.3f}")
    return points


# ------------------------------------------------------------------------------------------------ ways


def ways_of(pipe: TextToImage, joint: JointEncoder) -> Iterator[tuple[str, float, Generate]]:
    """Yields the name of each technique, an amount of it, and how to generate images by it."""
    mean = F.normalize(pipe.text_encoder(captions_of("seen", NUM_MEAN, seed=0)).sentence, dim=1).mean(dim=0)
    for amount in AMOUNTS["truncation"]:
        yield "truncation", amount, partial(truncated, pipe, amount)
    for amount in AMOUNTS["best of"]:
        yield "best of", amount, partial(best_of, pipe, joint, amount)
    for amount in AMOUNTS["away from the mean"]:
        yield "away from the mean", amount, partial(pushed, pipe, mean, amount)


def truncated(pipe: TextToImage, amount: float, captions: list[str], noise: Tensor) -> Tensor:
    """Returns images (B, 3, H, W) of captions, from noise (B, Z) times the amount."""
    return pipe.generator(noise * amount, pipe.text_encoder(captions))


def best_of(pipe: TextToImage, joint: JointEncoder, num: int, captions: list[str], noise: Tensor) -> Tensor:
    """Returns the candidate of each caption that the joint encoder ranks first; noise (B, Z) gives the first one."""
    more = torch.randn(num - 1, *noise.shape, generator=torch.Generator().manual_seed(int(noise.abs().sum() * 1e4)))
    text, wanted, found = pipe.text_encoder(captions), joint.embed_captions(captions), []
    for some in (noise, *more):
        images = pipe.generator(some, text)
        found.append((images, (joint.embed_images(resized(images, joint.resolution)) * wanted).sum(dim=1)))
    images, scores = (torch.stack(column) for column in zip(*found, strict=True))  # (num, B, ...), (num, B)
    return images[scores.argmax(dim=0), torch.arange(len(captions))]


def pushed(pipe: TextToImage, mean: Tensor, strength: float, captions: list[str], noise: Tensor) -> Tensor:
    """Returns images (B, 3, H, W) of captions that are moved away from the mean sentence (D,)."""
    text: TextFeatures = pipe.text_encoder(captions)
    return pipe.generator(noise, away_from(text, mean, strength))


# ------------------------------------------------------------------------------------------------ measures


class GuidanceMetrics:
    """Calls to it return accuracy and relative diversity of generated images; all use the same captions and noise."""

    def __init__(self, resolution: int, num_images: int, seed: int) -> None:
        self.classifier, self.seed = load_scene_classifier(), seed
        self.captions = captions_of("seen", num_images, seed)
        different = captions_of("seen", max(2, num_images // 64), seed + 2)
        self.repeated = [caption for caption in different for _ in range(SEEDS_PER_CAPTION)]
        real = scenes_of(self.repeated, resolution, [seed, 3])
        self.real = self.spread(self.classifier.read(as_floats(real.load(torch.arange(real.count)))).features)

    def __call__(self, generate: Generate, noise_dim: int) -> tuple[float, float]:
        accuracy, mentioned = SceneAccuracy(), torch.tensor([mentioned_in(caption) for caption in self.captions])
        accuracy.update(self.reading(generate, self.captions, noise_dim), mentioned)
        spread = self.spread(self.reading(generate, self.repeated, noise_dim).features)
        return float(accuracy.compute()), spread / self.real

    def reading(self, generate: Generate, captions: list[str], noise_dim: int):
        """Returns what the scene classifier reads in a generated picture of each caption, after rounding to bytes."""
        noise = torch.randn(len(captions), noise_dim, generator=torch.Generator().manual_seed(self.seed))
        parts = [generate(captions[i : i + BATCH], noise[i : i + BATCH]) for i in range(0, len(captions), BATCH)]
        return self.classifier.read(as_floats(as_bytes(torch.cat(parts))))

    def spread(self, features: Tensor) -> float:
        """Returns the mean distance of two images of one caption, from features (N, F) ordered as self.repeated."""
        return float(distances_within(features.unflatten(0, (-1, SEEDS_PER_CAPTION))).mean())


# ------------------------------------------------------------------------------------------------ report


def write_guidance(points: list[Point], settings: dict, out: Path) -> TextTable:
    """Write guidance.json, table.md and guidance.png into a folder; returns the table.

    settings: what guidance.json says beside the points. In the plot a line for each technique goes from little to much
    of it.
    """
    write_json(out / "guidance.json", settings | {"points": [point._asdict() for point in points]})
    header = ["technique", "amount", "scene accuracy", "diversity"]
    rows = [[p.technique, f"{p.amount:g}", number(p.accuracy), number(p.diversity)] for p in points]
    note = "Diversity: distance of two images of one caption, by the scene classifier, relative to real scenes."
    table = TextTable(header, rows, note)
    write_text(out / "table.md", table.markdown())
    save_figure(figure_of([curves_of(points)]), out / "guidance.png")
    return table


def curves_of(points: list[Point]) -> Plot:
    """Returns a plot of accuracy over diversity with a line for each technique."""
    lines = []
    for technique in AMOUNTS:
        mine = [point for point in points if point.technique == technique]
        heights = [point.accuracy for point in mine]
        lines.append(Line(technique, [point.diversity for point in mine], heights, heights, heights))
    return Plot("scene accuracy", "diversity, relative to real scenes", lines)
