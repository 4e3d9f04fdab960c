"""The allowed ranges of all numbers in a configuration, checked before anything is rendered or trained."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from cgan.errors import UserError

LARGEST_SEED = 2**32 - 1  # PyTorch's generator on the CPU heeds no more bits of a seed


class Range(NamedTuple):
    """The numbers from low to high; with `above` low itself is excluded, with `below` high itself."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    even: bool = False
    note: str = ""  # behind the rule, in brackets

    def __contains__(self, value: float) -> bool:
        if not math.isfinite(value) or (self.even and value % 2):
            return False
        too_low = value <= self.low if self.above else value < self.low
        return not too_low and not (value >= self.high if self.below else value > self.high)

    def __str__(self) -> str:
        if self.above or self.below or self.high == math.inf:
            rule = f"{'above' if self.above else 'at least'} {self.low:,}"
            rule += "" if self.high == math.inf else f" and {'below' if self.below else 'at most'} {self.high:,}"
        else:
            rule = f"from {self.low:,} to {self.high:,}"
        return f"{'even and ' if self.even else ''}{rule}{self.note and f' ({self.note})'}"


class Choice(NamedTuple):
    """A set of allowed numbers."""

    values: tuple[int, ...]

    def __contains__(self, value: float) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


COUNT, POSITIVE, NOT_NEGATIVE = Range(1), Range(0, above=True), Range(0)
SHARE, BETA, EVERY = Range(0, 1), Range(0, 1, below=True), Range(0, note="0: never")
SEED = Range(0, LARGEST_SEED)
RESOLUTION = Choice((32, 64, 128, 256, 512))

TRAINER = {
    **dict.fromkeys(("joint_images", "images", "joint_batch_size", "batch_size", "num_nodes"), COUNT),
    **dict.fromkeys(("evaluation_images", "keep_checkpoints"), COUNT),
    **dict.fromkeys(("sample_every", "evaluate_every", "checkpoint_every"), EVERY),
    **dict.fromkeys(("joint_minutes", "minutes", "gradient_clip"), POSITIVE),
    "num_workers": NOT_NEGATIVE,
}
JOINT = {
    **dict.fromkeys(("image.embedding_dim", "text.embedding_dim", "text.max_words"), COUNT),
    "image.width": Range(2),  # half of it is a width as well
    "text.dim": Range(2, even=True),  # a half for each direction of the LSTM
    **dict.fromkeys(("decoder.width", "decoder.max_channels", "decoder.word_dim", "decoder.hidden_dim"), COUNT),
    **dict.fromkeys(("coattention_weight", "contrastive_weight", "picture_weight", "caption_weight"), NOT_NEGATIVE),
    **dict.fromkeys(("margin", "learning_rate", "matrix_learning_rate"), NOT_NEGATIVE),
    **dict.fromkeys(("labels_weight", "adversarial_weight"), NOT_NEGATIVE),
    **dict.fromkeys(("text.word_dropout", "warm_up", "decay_from"), SHARE),
    **dict.fromkeys(("temperature", "labels_temperature"), POSITIVE),
}
GAN = {
    **dict.fromkeys(("generator.noise_dim", "generator.style_dim", "generator.width", "generator.max_channels"), COUNT),
    **dict.fromkeys(("generator.latent_prior_dim", "discriminator.head_dim", "discriminator.head_resolution"), COUNT),
    **dict.fromkeys(("discriminator.width", "discriminator.max_channels", "accumulate"), COUNT),
    **dict.fromkeys(("generator.patch", "discriminator.patch"), Choice((1, 2, 4, 8, 16))),
    **dict.fromkeys(("adversarial_weight", "adversarial_from", "mismatched_weight", "matching_weight"), NOT_NEGATIVE),
    **dict.fromkeys(("latent_prior_alone_from", "fake_weight", "matching_from"), NOT_NEGATIVE),
    **dict.fromkeys(("reconstruction_weight", "feature_weight", "kl_weight", "last_rate"), NOT_NEGATIVE),
    **dict.fromkeys(("penalty_weight", "last_penalty_weight", "generator.latent_prior_layers"), NOT_NEGATIVE),
    **dict.fromkeys(("learning_rate", "matrix_learning_rate", "latent_prior_learning_rate"), NOT_NEGATIVE),
    **dict.fromkeys(("reconstructed_fraction", "decay_from", "adaptive_target"), SHARE),
    **dict.fromkeys(("first_beta", "second_beta", "last_second_beta"), BETA),
    **dict.fromkeys(("ema_half_life", "ema_ramp_up", "adaptive_images"), POSITIVE),
    **dict.fromkeys(("discriminator_learning_rate", "discriminator_matrix_learning_rate"), NOT_NEGATIVE),
    "generator.latent_prior_guidance": NOT_NEGATIVE,
    "generator.low_pass": Range(0, 0.25),
}
DATA = {"resolution": RESOLUTION, "num_images": COUNT, "test_images": NOT_NEGATIVE, "seed": SEED}
RANGES: dict[str, Range | Choice] = {
    "seed": SEED,
    "text.max_words": COUNT,
    **{
        f"{section}.{key}": range_
        for section, keys in {"trainer": TRAINER, "joint": JOINT, "gan": GAN, "data": DATA}.items()
        for key, range_ in keys.items()
    },
}


def numbers_of(config: Any, prefix: str = "") -> Iterator[tuple[str, int | float]]:
    """Returns all numbers of nested dataclasses by their dotted keys, without those that are None."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from numbers_of(value, f"{prefix}{field.name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + field.name, value


def check_ranges(config: object, prefix: str = "") -> None:
    """Raises UserError for the first number of a configuration, or of a section of one, that is out of its range."""
    for key, value in numbers_of(config, prefix):
        check_number(f"{key}={value}", value, RANGES[key])


def check_number(what: str, value: float, allowed: Range | Choice) -> None:
    """Raises UserError if a number is out of its range; `what` begins the message, such as --seed -1."""
    if value not in allowed:
        raise UserError(f"{what}: must be {allowed}")


def check_seed(what: str, seed: int, spread: int = 0) -> None:
    """Raises UserError if a seed, or one of the `spread` seeds from it on, is not from 0 to 2**32 - 1."""
    check_number(what, seed, Range(0, LARGEST_SEED - spread))
