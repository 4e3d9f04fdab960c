"""cgan benchmark guidance: what truncation, best of several and negative captions win in fit and cost in variety."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cgan.benchmarks.race_report import markdown, number, print_table
from cgan.data.scenes.captions import mentioned_in
from cgan.evaluation.loop import resized
from cgan.evaluation.scenes import SEEDS_PER_CAPTION, captions_of, scenes_of
from cgan.figures.plots import Line, Plot, figure_of, save_figure
from cgan.files import check_writable, write_json, write_text
from cgan.interfaces import TextFeatures, UserError
from cgan.metrics.scenes import SceneAccuracy, distances_within, load_judge
from cgan.pixels import as_bytes, as_floats
from cgan.ranges import check_seed
from cgan.resources import STARTER_JOINT
from cgan.sampling.guidance import away_from
from cgan.sampling.pipeline import TextToImage
from cgan.training.joint import JointEncoder

AMOUNTS = {"truncation": (0.25, 0.5, 0.75, 1.0), "best of": (1, 2, 4, 8), "away from the mean": (0.0, 0.25, 0.5, 1.0)}
NUM_MEAN = 500  # captions whose mean is the negative one
BATCH = 32

Draw = Callable[[list[str], Tensor], Tensor]  # captions and noise (B, Z) -> images (B, 3, H, W)


class Point(NamedTuple):
    """What pictures drawn in one way reach."""

    technique: str
    amount: float
    accuracy: float  # of captions of seen combinations
    diversity: float  # of pictures of one caption, relative to real scenes


@torch.no_grad()
def measure_guidance(options: argparse.Namespace) -> None:
    """Measure all ways, then write and print the table; raises UserError."""
    if options.num_images < 8:
        raise UserError(f"--num-images={options.num_images}: take at least 8, better 1000")
    check_seed(f"--seed={options.seed}", options.seed, spread=2)
    check_writable(options.out, "give another --out")
    pipe, joint = TextToImage.load(options.checkpoint), JointEncoder.load(options.joint or STARTER_JOINT)
    yardstick, points = Yardstick(pipe.generator.resolution, options.num_images, options.seed), []
    for technique, amount, draw in ways_of(pipe, joint):
        points.append(Point(technique, amount, *yardstick(draw, pipe.generator.config.noise_dim)))
        print(f"{technique} {amount:g}: {points[-1].accuracy:.3f}, {points[-1].diversity:.3f}", flush=True)
    write_report(points, options)


# ------------------------------------------------------------------------------------------------ ways


def ways_of(pipe: TextToImage, joint: JointEncoder) -> Iterator[tuple[str, float, Draw]]:
    mean = F.normalize(pipe.text_encoder(captions_of("seen", NUM_MEAN, seed=0)).sentence, dim=1).mean(dim=0)
    for amount in AMOUNTS["truncation"]:
        yield "truncation", amount, partial(truncated, pipe, amount)
    for amount in AMOUNTS["best of"]:
        yield "best of", amount, partial(best_of, pipe, joint, amount)
    for amount in AMOUNTS["away from the mean"]:
        yield "away from the mean", amount, partial(pushed, pipe, mean, amount)


def truncated(pipe: TextToImage, amount: float, captions: list[str], noise: Tensor) -> Tensor:
    return pipe.generator(noise * amount, pipe.text_encoder(captions))


def best_of(pipe: TextToImage, joint: JointEncoder, num: int, captions: list[str], noise: Tensor) -> Tensor:
    """Of each caption the candidate that the joint encoder finds nearest; the noise itself gives the first one."""
    more = torch.randn(num - 1, *noise.shape, generator=torch.Generator().manual_seed(int(noise.abs().sum() * 1e4)))
    text, wanted, found = pipe.text_encoder(captions), joint.embed_captions(captions), []
    for some in (noise, *more):
        images = pipe.generator(some, text)
        found.append((images, (joint.embed_images(resized(images, joint.resolution)) * wanted).sum(dim=1)))
    images, scores = (torch.stack(column) for column in zip(*found, strict=True))  # (num, B, ...), (num, B)
    return images[scores.argmax(dim=0), torch.arange(len(captions))]


def pushed(pipe: TextToImage, mean: Tensor, strength: float, captions: list[str], noise: Tensor) -> Tensor:
    text: TextFeatures = pipe.text_encoder(captions)
    return pipe.generator(noise, away_from(text, mean, strength))


# ------------------------------------------------------------------------------------------------ measures


class Yardstick:
    """yardstick(draw, noise_dim) -> accuracy and relative diversity; all ways draw from the same captions and noise."""

    def __init__(self, resolution: int, num_images: int, seed: int) -> None:
        self.judge, self.seed = load_judge(), seed
        self.captions = captions_of("seen", num_images, seed)
        different = captions_of("seen", max(2, num_images // 64), seed + 2)
        self.repeated = [caption for caption in different for _ in range(SEEDS_PER_CAPTION)]
        real = scenes_of(self.repeated, resolution, [seed, 3])
        self.real = self.spread(self.judge.read(as_floats(real.load(torch.arange(real.count)))).features)

    def __call__(self, draw: Draw, noise_dim: int) -> tuple[float, float]:
        accuracy, mentioned = SceneAccuracy(), torch.tensor([mentioned_in(caption) for caption in self.captions])
        accuracy.update(self.reading(draw, self.captions, noise_dim), mentioned)
        spread = self.spread(self.reading(draw, self.repeated, noise_dim).features)
        return float(accuracy.compute()), spread / self.real

    def reading(self, draw: Draw, captions: list[str], noise_dim: int):
        """What the judge sees in a picture of each caption, rounded to bytes first."""
        noise = torch.randn(len(captions), noise_dim, generator=torch.Generator().manual_seed(self.seed))
        parts = [draw(captions[i : i + BATCH], noise[i : i + BATCH]) for i in range(0, len(captions), BATCH)]
        return self.judge.read(as_floats(as_bytes(torch.cat(parts))))

    def spread(self, features: Tensor) -> float:
        return float(distances_within(features.unflatten(0, (-1, SEEDS_PER_CAPTION))).mean())


# ------------------------------------------------------------------------------------------------ report


def write_report(points: list[Point], options: argparse.Namespace) -> None:
    """guidance.json, table.md and guidance.png, where a line for each technique goes from little to much of it."""
    asked = {"checkpoint": str(options.checkpoint), "num_images": options.num_images, "seed": options.seed}
    write_json(options.out / "guidance.json", asked | {"points": [point._asdict() for point in points]})
    header = ["technique", "amount", "scene accuracy", "diversity"]
    rows = [[p.technique, f"{p.amount:g}", number(p.accuracy), number(p.diversity)] for p in points]
    note = "Diversity: distance of two pictures of one caption, by the judge, relative to real scenes."
    write_text(options.out / "table.md", markdown(header, rows, note))
    save_figure(figure_of([curves_of(points)]), options.out / "guidance.png")
    print_table(header, rows, note)
    print(f"in {options.out}: guidance.json table.md guidance.png")


def curves_of(points: list[Point]) -> Plot:
    lines = []
    for technique in AMOUNTS:
        mine = [point for point in points if point.technique == technique]
        heights = [point.accuracy for point in mine]
        lines.append(Line(technique, [point.diversity for point in mine], heights, heights, heights))
    return Plot("scene accuracy", "diversity, relative to real scenes", lines)
