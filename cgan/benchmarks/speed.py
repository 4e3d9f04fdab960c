"""The speed and the memory of a GAN's training and sampling on this machine, on random images and captions."""

import platform
import resource
import tempfile
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from cgan.auto_precision import chosen_precision
from cgan.benchmarks.counts import CountedSteps, counted, counts_report, graphs_of
from cgan.benchmarks.meters import Parts, clock, seconds_side_by_side
from cgan.benchmarks.step_cost import (
    PARTS_OF_NETWORKS,
    BareLoop,
    StepCost,
    as_loaded,
    cost_of_sampling,
    cost_of_step,
    made_up_captions,
    matmul_peak,
    random_batch,
    seconds_of_sampling,
    seconds_of_steps,
    watch_step,
)
from cgan.config import RunConfig, uses_joint_encoder
from cgan.data.sources import check_data
from cgan.figures.sheets import CAPTIONS
from cgan.interfaces import Batch, Report, UserError, silent
from cgan.machine import processor
from cgan.models.text.lstm import Vocabulary
from cgan.training.build import build_gan, build_joint
from cgan.training.callbacks.fault_tolerance import fault_tolerance_callbacks
from cgan.training.callbacks.progress import ProgressLine
from cgan.training.callbacks.samples import SampleGridCallback
from cgan.training.gan import TextToImageGAN
from cgan.training.gan_run import compile_losses
from cgan.training.loggers import loggers
from cgan.training.trainer import silence_lightning, trainer_of
from cgan.version import __version__

WARM_UP, ROUND = 5, 20  # steps; a round holds one at which Lightning logs
LOOP = "loop and callbacks"
SAMPLED_AT_ONCE = 1, 8, 64


def prepared(config: RunConfig) -> RunConfig:
    """Returns the configuration with one process, without data or outside weights; raises UserError for task=joint."""
    if config.task != "gan":
        raise UserError(f"task={config.task}: the speed is that of a GAN; give a configuration of task=gan")
    check_data(replace(config.data, source="scenes", crop="center", flip=False, split=None, test_split=None))
    image = replace(config.joint.image, weights=None)
    trainer = replace(config.trainer, devices="1", num_nodes=1, wandb="disabled", minutes=None)
    trainer.precision = chosen_precision(trainer.precision)
    return replace(config, joint=replace(config.joint, image=image), trainer=trainer)


def present_device() -> torch.device:
    """Returns the GPU if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def random_gan(config: RunConfig, device: torch.device) -> TextToImageGAN:
    """Returns the GAN of a configuration with random weights, on an untrained joint encoder of the configured size."""
    torch.manual_seed(config.seed)
    vocabulary = Vocabulary.of(made_up_captions(1000))
    needed = uses_joint_encoder(config)
    joint = build_joint(config, vocabulary).eval() if needed else None
    gan = build_gan(config, joint)
    gan.config = replace(gan.config, adversarial_from=0.0, matching_from=None, latent_prior_alone_from=1.0)
    return gan.to(device)


def compile_as_configured(gan: TextToImageGAN, config: RunConfig) -> bool:
    """Compiles a GAN where a training of this configuration would; returns whether that is so."""
    compile_losses(gan, config.trainer.compile, silent)
    return bool(gan.functions.compiled)


# ------------------------------------------------------------------------------------------------ in training


class SideBySide(pl.Callback):
    """Runs a bare loop's step before each of Lightning's, on the same networks, and notes the seconds of both."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.left: float | None = None  # the time at which the last bare step ended
        self.lightning: list[float] = []  # seconds of steps
        self.bare: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, gan: TextToImageGAN) -> None:
        """Makes the clock and the bare loop, which shares networks and optimizers with the training."""
        self.now, self.step = clock(gan.device), BareLoop(gan, trainer.optimizers, self.precision)

    def on_train_batch_start(self, trainer: pl.Trainer, gan: TextToImageGAN, batch: Batch, batch_idx: int) -> None:
        """Notes the seconds of Lightning's last step, then runs and times a bare step."""
        start = self.now()
        if self.left is not None:
            self.lightning.append(start - self.left)  # all that has happened since the bare step before
        self.step(batch)
        self.left = self.now()
        self.bare.append(self.left - start)

    def results(self, batch_size: int) -> dict:
        """Returns the medians, and Lightning's overhead as a share of the bare step, without the steps that warm up."""
        lightning, bare = self.lightning[WARM_UP:], self.bare[WARM_UP:-1]
        starts = range(0, len(bare), ROUND)
        rounds = [sum(lightning[i : i + ROUND]) / sum(bare[i : i + ROUND]) - 1 for i in starts]
        return {
            "seconds": median(lightning),
            "images_per_second": batch_size / median(lightning),
            "images_per_second_bare": batch_size / median(bare),
            "lightning_overhead": median(rounds),
            "lightning_overhead_rounds": rounds,
        }


class Split(pl.Callback):
    """Measures the seconds of each part of a step, after WARM_UP steps."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.parts: Parts | None = None  # None until the first steps are over

    def on_train_batch_start(self, trainer: pl.Trainer, gan: TextToImageGAN, batch: Batch, batch_idx: int) -> None:
        """Starts to measure after WARM_UP steps, and stops num_steps later."""
        if batch_idx == WARM_UP:
            self.parts = Parts(clock(gan.device))
            watch_step(self.parts, gan, gan.both_optimizers)
            self.parts.enter(LOOP)
        if self.parts is not None and batch_idx == WARM_UP + self.num_steps:
            self.parts.leave()
            self.parts.unwatch()

    def seconds(self) -> dict[str, float]:
        """Returns the mean seconds of each part of a step."""
        assert self.parts is not None  # the training has had more steps than those that warm up
        return {name: total / self.num_steps for name, total in self.parts.totals.items()}


def train(config: RunConfig, gan: TextToImageGAN, batches: list[Batch], num_steps: int, watcher: pl.Callback) -> None:
    """Train for num_steps and one more, with the callbacks and metrics.csv of a training, and with a watcher."""
    batch_size = config.trainer.batch_size
    with tempfile.TemporaryDirectory() as folder:
        line = ProgressLine("GAN", batch_size)
        noise_dim = config.gan.generator.noise_dim
        grid = SampleGridCallback(Path(folder) / "samples", list(CAPTIONS), noise_dim, config.trainer.sample_every)
        callbacks = [grid, line, *fault_tolerance_callbacks(config, Path(folder)), watcher]
        csv = loggers(config, Path(folder))
        trainer = trainer_of(config.trainer, num_steps + 1, None, config.seed, csv, callbacks, num_optimizers=2)
        steps = list(islice(cycle(batches), num_steps + 1))
        whole = {"batch_size": None, "collate_fn": lambda batch: batch}
        loader = DataLoader(steps, **whole)  # pyright: ignore[reportArgumentType]  # a list serves as well
        trainer.fit(gan, loader)
    gan.to(batches[0].images.device).train()


# ------------------------------------------------------------------------------------------------ all there is


def measure_speed(config: RunConfig, num_steps: int = 60, report: Report = silent) -> dict:
    """Measure the training step, its parts, memory and sampling of a configuration, JSON-able.

    config: as `prepared` returns it. num_steps: of training, beside as many by a bare loop. report: is called with a
    line about each stage. Times are in seconds, memory in bytes, operations are floating-point operations.
    """
    silence_lightning()
    device, rounds = present_device(), min(num_steps, 10)
    before = peak_memory(device)
    gan, batch_size = random_gan(config, device), config.trainer.batch_size
    report("the parts of a step, not compiled")
    size = batch_size, config.data.resolution, device
    batches = as_loaded(gan, [random_batch(*size, seed) for seed in range(4)])
    split = Split(rounds)
    train(config, gan, batches, WARM_UP + rounds, split)
    peak = peak_memory(device) - before
    bare = BareLoop.of(gan, config.trainer.precision)
    batch = batches[0]
    cost = cost_of_step(bare, batch)
    compiled = compile_as_configured(gan, config)
    graphs = graphs_of(partial(bare, batch)) if compiled else None
    report(f"{num_steps} steps of {batch_size} images by Lightning and bare")
    side, counts = SideBySide(config.trainer.precision), CountedSteps(WARM_UP)
    train(config, gan, batches, WARM_UP + num_steps, side)
    train(config, gan, batches, WARM_UP + counts.num_steps, counts)
    step = side.results(batch_size) | parts_of(split.seconds(), cost)
    step["counts"] = counts.report(step["seconds"])
    step |= {"compiled": compiled, "graphs": graphs and graphs._asdict()}
    report("sampling")
    found = sampling_of(gan, bare, step, rounds)
    if config.gan.adversarial_from > 0:
        gan.config = replace(gan.config, adversarial_from=2.0, matching_from=None)
        step["images_per_second_before_adversary"] = batch_size / seconds_of_steps(bare, batch, rounds)
    result = {"parameters": parameters(gan), "step": step, "memory": {"peak": peak} | memory_of(cost)}
    return circumstances(config) | result | found


def sampling_of(gan: TextToImageGAN, bare: BareLoop, step: dict, rounds: int) -> dict:
    """Returns the device's peak FLOP/s, and the images per second of sampling one and several at a time."""
    with torch.autocast(gan.device.type, torch.bfloat16, enabled=bare.half):
        peaks = peaks_of(gan, step, rounds)
    rates = {str(n): n / seconds_of_sampling(gan, n, rounds) for n in SAMPLED_AT_ONCE}
    return {"peak": peaks, "sampling": {"latency": 1 / rates["1"], "images_per_second": rates}}


def compare_speed(config: RunConfig, other: RunConfig, num_steps: int = 60) -> dict:
    """Returns the training steps of two configurations, measured in turns, JSON-able; `ratio` is first over second.

    Each is compiled if its trainer.compile says so, as its author would run it.
    """
    return circumstances(config) | side_by_side(config, other, num_steps)


def side_by_side(config: RunConfig, other: RunConfig, num_steps: int) -> dict:
    """Returns the speeds of two configurations' training steps, run in turns by bare PyTorch loops."""
    device, works, compiled, graphs = present_device(), [], [], []
    for chosen in (config, other):
        gan = random_gan(chosen, device)
        compiled.append(compile_as_configured(gan, chosen))
        loop = BareLoop.of(gan, chosen.trainer.precision)
        batch = random_batch(chosen.trainer.batch_size, chosen.data.resolution, device)
        works.append(partial(loop, as_loaded(gan, [batch])[0]))
        graphs.append(graphs_of(works[-1])._asdict() if compiled[-1] else None)
    seconds = seconds_side_by_side(works, num_steps, device)
    sizes = [chosen.trainer.batch_size for chosen in (config, other)]
    first, second = (size / each for size, each in zip(sizes, seconds, strict=True))
    counts = [counts_report(counted(work, device), each) for work, each in zip(works, seconds, strict=True)]
    weights = [parameters(work.func.gan) for work in works]
    found = {"images_per_second": [first, second], "ratio": first / second, "parameters": weights}
    return found | {"compiled": compiled, "graphs": graphs, "counts": counts}


def parts_of(seconds: dict[str, float], cost: StepCost) -> dict:
    """Returns the shares of the step's time and its floating-point operations, by part and by network."""
    total = sum(seconds.values())
    names = [*dict.fromkeys(name for parts in PARTS_OF_NETWORKS.values() for name in parts if name in seconds), LOOP]
    flops = {name: cost.flops.get(name, 0) for name in names}
    by_network = {who: sum(flops.get(name, 0) for name in parts) for who, parts in PARTS_OF_NETWORKS.items()}
    return {
        "split": {name: seconds[name] / total for name in names},
        "split_seconds": {name: seconds[name] for name in names},
        "flops": sum(flops.values()),
        "flops_of_parts": flops,
        "flops_of_players": by_network,
    }


def memory_of(cost: StepCost) -> dict[str, int]:
    """Returns the counted bytes of a step by what they hold, and their sum."""
    counted = {name: getattr(cost, name) for name in ("kept", "weights", "gradients", "optimizers")}
    return counted | {"counted": cost.memory}


def peaks_of(gan: TextToImageGAN, step: dict, rounds: int) -> dict[str, float]:
    """Returns the FLOP/s of matrix products and of the generator's layers, and the shares that steps reach of them."""
    matmul, largest = matmul_peak(gan.device), cost_of_sampling(gan, SAMPLED_AT_ONCE[-1], rounds)
    layers, reached = largest.flops / largest.layers_seconds, step["flops"] / step["seconds"]
    return {
        "matmul_flops_per_second": matmul,
        "layers_flops_per_second": layers,
        "step_flops_per_second": reached,
        "step_of_matmul": reached / matmul,
        "step_of_layers": reached / layers,
        "generator_of_matmul": largest.flops / largest.seconds / matmul,
        "generator_of_layers": largest.fraction,
    }


def parameters(gan: TextToImageGAN) -> dict[str, int]:
    """Returns the number of weights of each network."""
    names = "generator", "discriminator", "posterior", "text_encoder", "image_encoder"
    networks = {name: getattr(gan, name) for name in names}
    return {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items() if net is not None}


def peak_memory(device: torch.device) -> int:
    """Returns the peak memory until now, in bytes: of the GPU's tensors, or without a GPU of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# ------------------------------------------------------------------------------------------------ protocol


def circumstances(config: RunConfig) -> dict:
    """Returns the date, device, versions and settings of a measurement."""
    device = present_device()
    return {
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {"cgan": __version__, "torch": torch.__version__, "pytorch-lightning": version("pytorch-lightning")},
        "precision": config.trainer.precision,
        "resolution": config.data.resolution,
        "batch_size": config.trainer.batch_size,
        "config": asdict(config),
    }
