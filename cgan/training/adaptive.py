"""Adaptive discriminator augmentation (ADA, Karras et al. 2020): its probability follows the overfitting.

A discriminator that knows its training pictures by heart is sure of them and not of other real pictures. Where some
are held out, overfitting is r_v = (E[D(train)] - E[D(held out)]) / (E[D(train)] - E[D(fake)]); otherwise it is
r_t = E[sign(D(train))] (equation 1). Every few steps the probability takes a small step up where it is above the
target, and one down where it is below.
"""

from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn

from cgan.config import GANConfig, RunConfig
from cgan.data.sources import build_dataset
from cgan.interfaces import TextEncoder, UserError
from cgan.models.augment import draw_augmentation
from cgan.pixels import as_floats
from cgan.sharding import num_processes
from cgan.training import step

EVERY = 4  # steps of the discriminator between changes, as in the paper
LARGEST = 0.8  # probability; up to it augmentations do not leak into generated pictures (section 2.2)
MOST_HELD_OUT = 512  # pictures, which lie on the device
FEWEST_HELD_OUT = 16  # pictures, below which the mean logit of held-out ones says nothing
OBSERVED = ("logits/real", "logits/fake", "logits/sign")
WITHOUT_HELD_OUT = ("warning: gan.adaptive_augmentation=true: without held-out pictures it follows the sign of the "
                    "discriminator's logits, which can stay below 0 all along; set data.test_images=160 or so"
                    )  # fmt: skip


class HeldOut(NamedTuple):
    """Real pictures that are never trained on, with one caption each."""

    images: Tensor  # (N, 3, H, W) uint8
    sentences: Tensor  # (N, D)


class AdaptiveAugmentation(nn.Module):
    """Holds the probability of augmentations, a scalar on the device, and moves it by what the discriminator says.

    Nothing here waits for the device. Without held_out pictures it follows the mean sign of real logits.
    Raises UserError for a configuration in which there is nothing to adapt or to follow.
    """

    probability: Tensor  # ()
    sums: Tensor  # (4,) of OBSERVED and of the held-out logit, since the last change

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        if not config.augmentation:
            raise UserError("gan.adaptive_augmentation=true: gan.augmentation is empty; give [translation,cutout]")
        self.config = config
        self.held_out: HeldOut | None = None
        self.num_steps = 0  # of the discriminator
        self.register_buffer("probability", torch.zeros(()), persistent=False)
        self.register_buffer("sums", torch.zeros(len(OBSERVED) + 1), persistent=False)

    def observe(self, scalars: step.Scalars) -> None:
        """Adds the means of a step of the discriminator; scalars without them, of the generator, are ignored."""
        if OBSERVED[0] in scalars:
            self.sums[: len(OBSERVED)] += torch.stack([scalars[name].float() for name in OBSERVED])

    @torch.no_grad()
    def follow(self, networks: step.Networks, num_images: int) -> step.Scalars:
        """Counts a step of num_images of this process, and every EVERY of them changes the probability.

        Returns what is to be logged: the probability and the overfitting; empty in steps without a change.
        """
        self.num_steps += 1
        if self.num_steps % EVERY:
            return {}
        if self.held_out is not None:
            self.sums[-1] = EVERY * self.logit_of(networks, self.held_out, num_images)
        if num_processes() > 1:
            distributed.all_reduce(self.sums)
        overfitting = self.overfitting()
        change = EVERY * num_images * num_processes() / self.config.adaptive_images
        self.probability += change * (overfitting - self.config.adaptive_target).sign()
        self.probability.clamp_(0, LARGEST)
        self.sums.zero_()
        return {"augmentation/probability": self.probability.clone(), "augmentation/overfitting": overfitting}

    def overfitting(self) -> Tensor:
        """Returns r_v with held-out pictures, otherwise r_t, of the sums; the target itself where it is not finite."""
        real, fake, sign, held_out = (self.sums / (EVERY * num_processes())).unbind()
        found = sign
        if self.held_out is not None:
            gap = real - fake  # a discriminator that can't tell them apart does not overfit either
            found = torch.where(gap > 0, (real - held_out) / gap.clamp(min=1e-6), torch.zeros_like(gap))
        return found.nan_to_num(nan=self.config.adaptive_target)

    def logit_of(self, networks: step.Networks, held_out: HeldOut, num_images: int) -> Tensor:
        """Returns the mean logit of the next held-out pictures, num_images or all."""
        device, count = self.probability.device, len(held_out.images)
        if held_out.images.device != device:
            held_out = self.held_out = HeldOut(*(x.to(device) for x in held_out))
        size = min(num_images, count)
        chosen = (torch.arange(size, device=device) + self.num_steps // EVERY * size) % count
        images = as_floats(held_out.images[chosen]).contiguous(memory_format=torch.channels_last)
        draws = draw_augmentation(self.config.augmentation, size, device, self.probability)
        return step.held_out_logit(networks, images, held_out.sentences[chosen], draws)

    def state(self) -> dict[str, Tensor | int]:
        """Returns what an exact resume needs."""
        return {"probability": self.probability.clone(), "sums": self.sums.clone(), "num_steps": self.num_steps}

    def restore(self, state: dict) -> None:
        """Restores a state()."""
        self.probability.copy_(state["probability"])
        self.sums.copy_(state["sums"])
        self.num_steps = state["num_steps"]


def check_adaptive(config: RunConfig) -> None:
    """Raises UserError where adaptive augmentation has no sign of overfitting to follow."""
    if not config.gan.adaptive_augmentation or config.gan.adversarial != "relativistic":
        return
    if config.data.source == "custom" or config.data.test_images < FEWEST_HELD_OUT:
        raise UserError("gan.adaptive_augmentation=true: with gan.adversarial=relativistic only differences of logits "
                        f"mean something; set data.test_images={10 * FEWEST_HELD_OUT} or so")  # fmt: skip


def held_out_pictures(config: RunConfig, text_encoder: TextEncoder) -> HeldOut | None:
    """Returns pictures that data.test_images keeps out of training; None where there are too few of them."""
    if config.data.source == "custom" or config.data.test_images < FEWEST_HELD_OUT:
        return None
    test = build_dataset(config.data, "test")
    samples = [test[i] for i in range(min(MOST_HELD_OUT, len(test)))]
    with torch.no_grad():
        parts = [text_encoder([sample.captions[0] for sample in samples[i : i + 64]]).sentence.cpu()
                 for i in range(0, len(samples), 64)]  # fmt: skip
    return HeldOut(torch.stack([sample.image for sample in samples]), torch.cat(parts))
