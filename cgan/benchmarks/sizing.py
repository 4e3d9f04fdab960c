"""Measures or predicts the cost of smaller and larger sizes of a configuration."""

from dataclasses import replace
from typing import NamedTuple

import torch

from cgan.benchmarks.speed import memory_of, present_device, random_gan
from cgan.benchmarks.step_cost import (
    BareLoop,
    cost_of_step,
    in_float32,
    random_batch,
    seconds_of_steps,
    without_numbers,
)
from cgan.config import RunConfig
from cgan.data.sources import RESOLUTIONS

PATIENCE = 20.0  # seconds for the steps of one size
SHORT = {"cpu": 1e11, "cuda": 1e14}  # floating-point operations of a step that is short
PLANNED, FACTORS = (64, 128, 256, 512), (1, 2)


def scaled(config: RunConfig, factor: float) -> RunConfig:
    """Returns the configuration with generator and discriminator `factor` times as wide at every resolution."""

    def wider(part):
        return replace(part, width=round(part.width * factor), max_channels=round(part.max_channels * factor))

    gan = config.gan
    gan = replace(gan, generator=wider(gan.generator), discriminator=wider(gan.discriminator))
    return replace(config, gan=gan)


def at_resolution(config: RunConfig, resolution: int) -> RunConfig:
    """Returns the configuration with images of another resolution, in pixels."""
    return replace(config, data=replace(config.data, resolution=resolution))


def with_batch(config: RunConfig, batch_size: int) -> RunConfig:
    """Returns the configuration with another batch size."""
    return replace(config, trainer=replace(config.trainer, batch_size=batch_size))


# ------------------------------------------------------------------------------------------------ measured


def variants(config: RunConfig, what: str) -> dict[str, RunConfig]:
    """Returns smaller and larger configurations, by their names in a table."""
    match what:
        case "resolution":
            return {f"{size} px": at_resolution(config, size) for size in RESOLUTIONS}
        case "width":
            found = [scaled(config, factor) for factor in (0.5, 1, 2, 4)]
            return {f"width {one.gan.generator.width}": one for one in found}
        case _:
            sizes = [max(2, round(config.trainer.batch_size * factor)) for factor in (0.25, 0.5, 1, 2, 4)]
            return {f"batch {size}": with_batch(config, size) for size in sizes}


def measure_sizes(config: RunConfig, what: str, num_steps: int) -> list[dict]:
    """Returns the speed and the cost of the bare loop at several sizes; what: "resolution", "width" or "batch"."""
    device, rows = present_device(), []
    for name, one in variants(config, what).items():
        batch = random_batch(one.trainer.batch_size, one.data.resolution, device)
        bare = BareLoop.of(random_gan(one, device), one.trainer.precision)
        cost = cost_of_step(bare, batch)
        seconds, flops = seconds_of_steps(bare, batch, num_steps, PATIENCE), sum(cost.flops.values())
        row = {"size": name, "images_per_second_bare": len(batch.images) / seconds}
        row |= {"flops_per_image": flops / len(batch.images), "flops_per_second": flops / seconds}
        rows.append(row | memory_of(cost))
    return rows


# ------------------------------------------------------------------------------------------------ predicted


class Line(NamedTuple):
    """A cost that grows linearly with the batch: a part for each picture and a part for each step."""

    each: float
    once: float

    def at(self, batch_size: int) -> float:
        """Returns the cost of a batch of that size."""
        return self.once + self.each * batch_size


class Size(NamedTuple):
    """The parameters, FLOP and bytes of one size of a GAN, counted without computing anything."""

    parameters: int
    flops: Line
    memory: Line  # bytes, in float32


def size_of(config: RunConfig, batches: tuple[int, int] = (2, 4)) -> Size:
    """Returns the size of a configuration, counted on a training step of two small batches without computing."""
    resolution = config.data.resolution
    gan = without_numbers(random_gan(config, torch.device("cpu")))
    with in_float32():
        bare = BareLoop.of(gan)
        few, more = (cost_of_step(bare, random_batch(count, resolution, "meta")) for count in batches)
    return Size(
        sum(p.numel() for p in gan.parameters() if p.requires_grad),
        line(batches, [sum(cost.flops.values()) for cost in (few, more)]),
        line(batches, [few.memory, more.memory]),
    )


def line(batches: tuple[int, int], costs: list[float]) -> Line:
    """Returns the line through the costs of two batches."""
    each = (costs[1] - costs[0]) / (batches[1] - batches[0])
    return Line(each, costs[0] - each * batches[0])


def flops_per_second(config: RunConfig, size: Size, num_steps: int) -> tuple[float, int]:
    """Returns the FLOP/s of this device in the configuration's training step, and the batch size of that step."""
    device = present_device()
    count = int(min(config.trainer.batch_size, max(2, SHORT[device.type] // size.flops.each)))
    batch = random_batch(count, config.data.resolution, device)
    bare = BareLoop.of(random_gan(config, device), config.trainer.precision)
    return size.flops.at(count) / seconds_of_steps(bare, batch, num_steps, PATIENCE), count


class Row(NamedTuple):
    """One size of a GAN."""

    resolution: int
    width: int
    parameters: int
    flops_per_image: float
    memory: float  # bytes, in float32, of a step of the configuration's batch
    memory_per_image: float
    images_per_second: float


class Plan(NamedTuple):
    """A row for each size; speeds follow from the FLOP/s of the configuration's own step at measured_batch images."""

    rows: list[Row]
    batch_size: int
    flops_per_second: float
    measured_batch: int


def plan_sizes(config: RunConfig, num_steps: int) -> Plan:
    """Count what each size takes, and predict its speed from some measured steps of the configuration's own size."""
    own, batch_size = size_of(config), config.trainer.batch_size
    rate, measured_batch = flops_per_second(config, own, num_steps)
    rows = []
    for resolution in sorted({*PLANNED, config.data.resolution}):
        for factor in FACTORS:
            one = scaled(at_resolution(config, resolution), factor)
            size = size_of(one)
            flops, memory = size.flops.at(batch_size) / batch_size, size.memory.at(batch_size)
            numbers = flops, memory, size.memory.each, rate / flops
            rows.append(Row(resolution, one.gan.generator.width, size.parameters, *numbers))
    return Plan(rows, batch_size, rate, measured_batch)
