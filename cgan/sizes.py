"""The sizes of a GAN and its joint encoder, and the learning rates that fit a size: defaults that depend on settings.

The recipe was tuned for size tiny in batches of 32. Larger networks take smaller steps and larger batches larger
ones, by one rule, so that a configuration names a size at most. What a user gives is never changed.
"""

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Any, Literal

import torch

from cgan.auto_precision import chosen_precision
from cgan.workers import num_cores

Size = Literal["auto", "tiny", "small", "base", "large"]
SIZES: dict[str, dict[str, int]] = {  # parameters at 64 px, generator and discriminator: see docs/recipes.md
    "tiny": {
        "gan.generator.width": 16, "gan.generator.max_channels": 256, "gan.generator.noise_dim": 64,
        "gan.generator.latent_prior_dim": 384, "gan.discriminator.width": 8, "gan.discriminator.max_channels": 64,
        "gan.discriminator.head_resolution": 4, "joint.image.width": 32, "joint.image.embedding_dim": 128,
        "joint.text.dim": 128, "joint.decoder.width": 8, "joint.decoder.max_channels": 128,
        "joint.decoder.hidden_dim": 192, "joint.text.embedding_dim": 64, "joint.text.max_words": 32,
        "trainer.batch_size": 32, "trainer.joint_batch_size": 128,
    },
    "small": {
        "gan.generator.width": 24, "gan.generator.max_channels": 384, "gan.generator.noise_dim": 96,
        "gan.generator.latent_prior_dim": 384, "gan.discriminator.width": 16, "gan.discriminator.max_channels": 128,
        "gan.discriminator.head_resolution": 8, "joint.image.width": 48, "joint.image.embedding_dim": 192,
        "joint.text.dim": 192, "joint.decoder.width": 12, "joint.decoder.max_channels": 192,
        "joint.decoder.hidden_dim": 256, "joint.text.embedding_dim": 96, "joint.text.max_words": 32,
        "trainer.batch_size": 32, "trainer.joint_batch_size": 128,
    },
    "base": {
        "gan.generator.width": 48, "gan.generator.max_channels": 512, "gan.generator.noise_dim": 128,
        "gan.generator.latent_prior_dim": 512, "gan.discriminator.width": 32, "gan.discriminator.max_channels": 512,
        "gan.discriminator.head_resolution": 8, "joint.image.width": 64, "joint.image.embedding_dim": 256,
        "joint.text.dim": 256, "joint.decoder.width": 16, "joint.decoder.max_channels": 256,
        "joint.decoder.hidden_dim": 384, "joint.text.embedding_dim": 128, "joint.text.max_words": 40,
        "trainer.batch_size": 128, "trainer.joint_batch_size": 256,
    },
    "large": {
        "gan.generator.width": 64, "gan.generator.max_channels": 1024, "gan.generator.noise_dim": 256,
        "gan.generator.latent_prior_dim": 768, "gan.discriminator.width": 64, "gan.discriminator.max_channels": 1024,
        "gan.discriminator.head_resolution": 8, "joint.image.width": 64, "joint.image.embedding_dim": 512,
        "joint.text.dim": 512, "joint.decoder.width": 32, "joint.decoder.max_channels": 512,
        "joint.decoder.hidden_dim": 512, "joint.text.embedding_dim": 300, "joint.text.max_words": 40,
        "trainer.batch_size": 256, "trainer.joint_batch_size": 512,
    },
}  # fmt: skip
FAST_BATCH = 64  # of size tiny in bfloat16: on two cores it takes 1.4 times as long as a batch of 32
DERIVED = {  # keys whose default follows from other settings than gan.size, and how
    "trainer.batch_size": "by gan.size, and 64 for size tiny in bfloat16",
    "gan.learning_rate": "less for wider generators, more for batches above 32",
    "gan.discriminator_learning_rate": "less for wider discriminators, more for batches above 32",
    "gan.ema_half_life": "more for batches above 32",
    "gan.adversarial_from": "0.75 for scenes, 0.5 for other data",
    "gan.matching_from": "half of gan.adversarial_from",
    "gan.augmentation": "none for scenes, translation and cutout for other data",
    "gan.picture_augmentation": "flip with data.flip, but for shards, which are mirrored as they are read",
    "joint.learning_rate": "less where pretrained weights are finetuned",
    "joint.matrix_learning_rate": "0 where pretrained weights are finetuned",
    "joint.temperature": "0.01 for a pretrained CLIP",
    "joint.picture_weight": "0 for a GAN's joint encoder and for CLIP",
    "joint.caption_weight": "0 for a GAN's joint encoder and for CLIP",
    "gan.generator.noise_dim": "at least 96 for scenes of two or three objects",
    "gan.generator.latent_prior_dim": "at least 384 for scenes of two or three objects",
    "gan.generator.latent_prior": "word_flow for scenes of two or three objects",
    "gan.generator.latent_prior_guidance": "1, which is none, for scenes of one object",
}
RATE, EMA = 1e-3, 10_000  # of Adam, for size tiny; images of the averaged generator's half-life
TUNED_BATCH, LARGEST_FACTOR = 32, 1.5  # up to which rates stay, and the most by which a larger batch raises them
MANY_CORES = 8  # from which a processor trains size small
Lookup = Callable[[str], Any]  # the value of a dotted key


def size_of_machine() -> str:
    """Returns the size for this machine: base on a GPU, small on more than 8 processor cores, tiny on fewer."""
    if torch.cuda.is_available():
        return "base"
    return "small" if num_cores() > MANY_CORES else "tiny"


def derived_defaults(value_of: Lookup, given: set[str]) -> dict[str, Any]:
    """Returns the settings that follow from others, by dotted key: widths, batch sizes, rates, what a task needs.

    value_of gives the present value of a key, and `given` holds the keys that the user has set; those are left out.
    """
    size = value_of("gan.size")
    found: dict[str, Any] = {"gan.size": size_of_machine() if size == "auto" else size}
    found |= {key: value for key, value in SIZES[found["gan.size"]].items() if key not in given}

    def final(key: str) -> Any:
        return found[key] if key in found else value_of(key)

    of_gan = (batch, several_objects, guidance, rates, adversary, matching)
    for rule in (*of_gan, joint_rates, decoders, augmentation, mirrored):
        found |= {key: value for key, value in rule(final).items() if key not in given}
    return found


def origin_of_derived(key: str, value: object, size: str) -> str:
    """Returns what a derived value of a key follows from, in words, where gan.size is `size`."""
    if key == "gan.size":
        return "by the hardware"
    return f"gan.size={size}" if SIZES[size].get(key) == value else DERIVED[key]


def batch(value_of: Lookup) -> Mapping[str, int]:
    """Returns a larger batch for size tiny in bfloat16, which then sees far more pictures in the same time.

    Small batches learn more by each picture at first. Larger ones were not measured in float32.
    """
    if value_of("gan.size") != "tiny" or chosen_precision(value_of("trainer.precision")) != "bf16-mixed":
        return {}
    return {"trainer.batch_size": FAST_BATCH}


def several_objects(value_of: Lookup) -> Mapping[str, int | str]:
    """Returns the noise and the prior of scenes with several objects, which need more room in the latent.

    Their prior attends to words, as a sentence alone hardly tells which colour is whose.
    """
    if value_of("data.level") == "one":
        return {}
    wider = {"gan.generator.noise_dim": 96, "gan.generator.latent_prior_dim": 384}
    found = {key: max(value, value_of(key)) for key, value in wider.items()}
    return found | {"gan.generator.latent_prior": "word_flow"}


def guidance(value_of: Lookup) -> Mapping[str, float]:
    """Returns no guidance for scenes of one object, whose prior follows captions as it is: it would cost variety."""
    alone = value_of("data.source") == "scenes" and value_of("data.level") == "one"
    return {"gan.generator.latent_prior_guidance": 1.0} if alone else {}


def rates(value_of: Lookup) -> Mapping[str, float]:
    """Returns the GAN's rates and its half-life: Adam's by the width and the batch, Muon's steps fit any width.

    A rate falls with the square root of the width, and grows with that of the batch from 32 on, up to 1.5 times.
    """
    tiny, batch = SIZES["tiny"], value_of("trainer.batch_size")
    by_batch = min(max(1.0, sqrt(batch / TUNED_BATCH)), LARGEST_FACTOR)
    rates = {
        key: rounded(RATE * by_batch * min(1.0, sqrt(tiny[width] / value_of(width))))
        for key, width in (
            ("gan.learning_rate", "gan.generator.width"),
            ("gan.discriminator_learning_rate", "gan.discriminator.width"),
        )
    }
    return rates | {"gan.ema_half_life": float(max(EMA, batch * EMA // TUNED_BATCH))}


def adversary(value_of: Lookup) -> Mapping[str, float]:
    """Returns when the discriminator joins: late for scenes, where it soon adds more to edges than it should."""
    return {"gan.adversarial_from": 0.75 if value_of("data.source") == "scenes" else 0.5}


def matching(value_of: Lookup) -> Mapping[str, float]:
    """Returns when the matching term joins: half-way to the discriminator, when shapes are there for it to name."""
    return {"gan.matching_from": value_of("gan.adversarial_from") / 2}


def joint_rates(value_of: Lookup) -> Mapping[str, float]:
    """Returns the joint encoder's rates: small ones where pretrained weights are finetuned, without Muon."""
    if value_of("joint.encoders") == "clip":
        return {"joint.learning_rate": 1e-5, "joint.matrix_learning_rate": 0.0, "joint.temperature": 0.01}
    if value_of("joint.image.weights") is not None:
        return {"joint.learning_rate": 2e-4, "joint.matrix_learning_rate": 0.0}
    return {}


def decoders(value_of: Lookup) -> Mapping[str, float]:
    """Returns the weights of reconstruction: a GAN's joint encoder has no decoders, nor has a pretrained CLIP."""
    without = value_of("task") == "gan" or value_of("joint.encoders") == "clip"
    return {"joint.picture_weight": 0.0, "joint.caption_weight": 0.0} if without else {}


def augmentation(value_of: Lookup) -> Mapping[str, list[str]]:
    """Returns the augmentation of what the discriminator sees: none for scenes, of which there are plenty."""
    return {"gan.augmentation": [] if value_of("data.source") == "scenes" else ["translation", "cutout"]}


def mirrored(value_of: Lookup) -> Mapping[str, list[str]]:
    """Returns the change of the GAN's pictures that data.flip asks for; shards are mirrored when they are read."""
    return (
        {"gan.picture_augmentation": ["flip"]} if value_of("data.flip") and value_of("data.source") != "shards" else {}
    )


def rounded(rate: float) -> float:
    """Returns a rate with two significant digits, as it is written into config.yaml."""
    return float(f"{rate:.2g}")
