"""The cost of a GAN's training step and of sampling: seconds, floating-point operations and memory."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from cgan.benchmarks.meters import KeptMemory, Parts, clock, flops_counted, nbytes, replace, seconds_side_by_side
from cgan.data.caption_table import CaptionTable, caption_ids
from cgan.interfaces import Batch, TextFeatures, silent
from cgan.models.layers import LowPass
from cgan.training import step
from cgan.training.gan import TextToImageGAN
from cgan.training.known_text import encode_all

WORDS = "a the one some red old wide calm dog hill boat lamp near under beside with stands shines and slowly".split()
ELSE = "else"  # of the step: what joins its parts
PARTS_OF_NETWORKS = {  # the parts of a step, by the network that needs them
    "both": ("text encoding", "frozen features", "generator forward"),
    "discriminator": ("discriminator forward", "penalty", "discriminator backward", "discriminator optimizer"),
    "generator": ("generator loss", "generator backward", "generator optimizer", "average"),
    "neither": ("logging", ELSE),
}


def made_up_captions(count: int, seed: int = 0) -> list[str]:
    """Returns captions of four to twelve words each; the same seed gives the same captions."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(4, 12))) for _ in range(count)]


def random_batch(batch_size: int, resolution: int, device: torch.device | str = "cpu", seed: int = 0) -> Batch:
    """Returns noise images (B, 3, resolution, resolution) in [-1, 1] with random captions, each with its own id."""
    images = torch.rand(batch_size, 3, resolution, resolution, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    captions = made_up_captions(batch_size, seed)
    return Batch(images.to(device), captions, torch.arange(batch_size, device=device))


def as_loaded(gan: TextToImageGAN, batches: list[Batch]) -> list[Batch]:
    """Returns batches with all that a loader adds to them, and gives the GAN the features of their captions.

    So a step does what it does in a training whose captions are encoded ahead.
    """
    table, device = CaptionTable([caption] for batch in batches for caption in batch.captions), gan.device
    gan.known_text = encode_all(gan.text_encoder, table.texts, device, gan.uses_words, silent)
    return [
        batch._replace(caption_ids=caption_ids(batch.captions), caption_rows=table.rows_of(batch.captions)).to(device)
        for batch in batches
    ]


# ------------------------------------------------------------------------------------------------ the step


def watch_step(parts: Parts, gan: TextToImageGAN, optimizers: Callable[[], list]) -> None:
    """Split the training step of a GAN into the parts of PARTS_OF_NETWORKS."""

    def optimizer_name(optimizer: Optimizer, *_) -> str:
        return ("generator optimizer", "discriminator optimizer")[optimizers().index(optimizer)]

    parts.watch(gan, "training_step", ELSE)
    parts.watch(gan.text_encoder, "forward", "text encoding")
    parts.watch(step, "frozen_features", "frozen features")
    parts.watch(step, "generate_fakes", "generator forward")
    parts.watch(gan, "discriminator_loss", "discriminator forward")
    parts.watch(step, "gradient_penalty", "penalty")
    parts.watch(gan, "generator_loss", "generator loss")
    parts.watch(gan, "update", optimizer_name)
    parts.watch(gan, "manual_backward", lambda _: parts.inside[-1].replace("optimizer", "backward"))
    parts.watch(gan, "average_generator", "average")
    parts.watch(gan, "log_all", "logging")


class BareLoop:
    """Runs the training step of a GAN by PyTorch alone, with the simplest replacement of Lightning's part."""

    def __init__(self, gan: TextToImageGAN, optimizers: list[Optimizer], precision: str = "32-true") -> None:
        self.gan, self.optimizers, self.half = gan, optimizers, precision == "bf16-mixed"
        gan.progress = 1.0  # the discriminator takes part
        self.stand_ins = {
            "optimizers": lambda: optimizers,
            "exclude_from_global_step": lambda _: None,
            "manual_backward": lambda loss: loss.backward(),
            "log_all": lambda _: None,
            "follow_schedule": lambda: None,
        }

    @classmethod
    def of(cls, gan: TextToImageGAN, precision: str = "32-true") -> "BareLoop":
        """Returns the loop of a GAN with the optimizers that its training has."""
        return cls(gan.train(), [chosen["optimizer"] for chosen in gan.configure_optimizers()], precision)

    def __call__(self, batch: Batch) -> None:
        with self.entered(), torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self.half):
            self.gan.training_step(batch, 0)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Replaces Lightning's methods of the GAN within the block, and restores them afterwards."""
        undo = [replace(self.gan, name, method) for name, method in self.stand_ins.items()]
        try:
            yield
        finally:
            for back in undo:
                back()


def seconds_of_steps(bare: BareLoop, batch: Batch, num_steps: int, limit: float = float("inf")) -> float:
    """Returns the median seconds of a step, after one that warms up.

    At least one step is measured; no further one starts when `limit` seconds are over.
    """
    now, seconds = clock(batch.images.device), []
    bare(batch)
    begun = time.monotonic()
    while not seconds or (len(seconds) < num_steps and time.monotonic() - begun < limit):
        start = now()
        bare(batch)
        seconds.append(now() - start)
    return median(seconds)


class StepCost(NamedTuple):
    """The counted cost of one training step of a GAN."""

    flops: dict[str, float]  # of each part
    kept: int  # bytes that autograd keeps for backward passes, at their most
    weights: int  # bytes of all networks
    gradients: int  # bytes, of generator and discriminator
    optimizers: int  # bytes of their states

    @property
    def memory(self) -> int:
        """The sum of all bytes; working space is not counted."""
        return self.kept + self.weights + self.gradients + self.optimizers


def cost_of_step(bare: BareLoop, batch: Batch) -> StepCost:
    """Run one training step, and return its cost."""
    gan, weights = bare.gan, [*bare.gan.parameters(), *bare.gan.buffers()]
    with flops_counted() as flops, KeptMemory(weights) as kept, bare.entered():
        parts = Parts(flops)
        watch_step(parts, gan, lambda: bare.optimizers)
        try:
            with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=bare.half):
                gan.training_step(batch, 0)
        finally:
            parts.unwatch()
    moving = [w for o in bare.optimizers for group in o.param_groups for w in group["params"]]
    states = [x for o in bare.optimizers for state in o.state.values() for x in state.values()]
    return StepCost(dict(parts.totals), kept.peak, nbytes(weights), nbytes(moving), nbytes(states))


def without_numbers(gan: TextToImageGAN, num_words: int = 8) -> TextToImageGAN:
    """Returns a GAN on device "meta", whose step is counted but not computed, without its frozen text encoder."""
    empty, dim = partial(torch.zeros, device="meta"), gan.text_encoder.dim

    def features(captions: list[str]) -> TextFeatures:
        shape = len(captions), num_words
        return TextFeatures(empty(len(captions), dim), empty(*shape, dim), empty(*shape, dtype=torch.bool))

    gan = gan.to("meta")
    gan.text_encoder.forward = features
    gan.average_generator = lambda num_images: None  # it reads how many images were seen
    return gan


@contextmanager
def in_float32() -> Iterator[None]:
    """Disables torch.autocast within the block, as device "meta" does not support it."""
    back = replace(torch, "autocast", lambda *_, **__: nullcontext())
    try:
        yield
    finally:
        back()


# ------------------------------------------------------------------------------------------------ sampling


class SamplingCost(NamedTuple):
    """The cost of a generator's forward pass, and of its convolutions and linear layers alone on the same shapes."""

    seconds: float
    layers_seconds: float
    flops: float

    @property
    def fraction(self) -> float:
        """The speed of the whole, as a share of what the device can do in such layers."""
        return self.layers_seconds / self.seconds


@torch.no_grad()
def cost_of_sampling(gan: TextToImageGAN, batch_size: int, rounds: int) -> SamplingCost:
    """Returns the cost of the averaged generator, on random noise and captions."""
    generator, device = gan.generator_ema, gan.device
    text = gan.text_encoder(made_up_captions(batch_size))
    noise = torch.randn(batch_size, generator.config.noise_dim, device=device)
    forward = partial(generator, noise, text)
    layers = layers_of(generator, forward)
    with flops_counted() as flops:
        forward()
        count = flops()
    seconds, layers_seconds = seconds_side_by_side([forward, lambda: [layer() for layer in layers]], rounds, device)
    return SamplingCost(seconds, layers_seconds, count)


def layers_of(network: nn.Module, forward: Callable[[], object]) -> list[Callable[[], Tensor]]:
    """Returns each convolution and linear layer that a forward pass calls, on the input that it gets there."""
    calls = []
    convolve: Callable[..., Tensor] = F.conv2d  # no overload of it takes both kinds of padding

    def note(layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        (x,) = inputs
        if isinstance(layer, LowPass):
            calls.append(partial(layer, x))
        elif isinstance(layer, nn.Conv2d):
            calls.append(partial(convolve, x, layer.weight, layer.bias, layer.stride, layer.padding))
        else:
            assert isinstance(layer, nn.Linear)  # no others have the hook
            calls.append(partial(F.linear, x, layer.weight, layer.bias))

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear | LowPass)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    forward()
    for hook in hooks:
        hook.remove()
    return calls


@torch.no_grad()
def seconds_of_sampling(gan: TextToImageGAN, batch_size: int, rounds: int) -> float:
    """Returns the seconds from captions to images, by the averaged generator."""
    captions = made_up_captions(batch_size)

    def sample() -> Tensor:
        noise = torch.randn(batch_size, gan.config.generator.noise_dim, device=gan.device)
        return gan.generator_ema(noise, gan.text_encoder(captions))

    return seconds_side_by_side([sample], rounds, gan.device)[0]


def matmul_peak(device: torch.device, rounds: int = 3) -> float:
    """Returns the floating-point operations a second that a device reaches in one large square product."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device)
    return 2 * size**3 / seconds_side_by_side([lambda: a @ b], rounds, device)[0]
