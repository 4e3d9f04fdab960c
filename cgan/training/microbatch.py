"""Prepares the input of a GAN's training step: images, captions, mismatched captions and all random numbers.

They are prepared for the whole batch and then split into micro-batches, so the losses themselves draw nothing. With
several processes, random numbers are drawn for the batch of all of them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cgan.config import GANConfig
from cgan.data.caption_table import caption_ids
from cgan.interfaces import Batch, TextFeatures
from cgan.models.augment import draw_augmentation
from cgan.models.float32 import inner_products
from cgan.sharding import local_shard, sharded_rand, sharded_randn
from cgan.training.distributed import all_gather_with_grad

SAME_MEANING = 0.8  # captions of a larger cosine may well mean the same
SOFTNESS = 0.1  # temperature of cosines, when captions of similar meaning are preferred
PRIOR_SAMPLES = 8  # latents of each image, by which a step trains the latent prior
WITHOUT_CAPTION = 0.1  # share of them that it learns without their captions, for guidance
WITHOUT_WORDS = 0.1  # share of them that it learns by sentences alone, as a reader completes sentences alone


class MicroBatch(NamedTuple):
    """A batch, or some rows of one, with everything in a step that no gradient reaches."""

    images: Tensor  # (B, 3, H, W) in [-1, 1]
    image_ids: Tensor  # (B,) int64
    text: TextFeatures
    noise: Tensor  # (B, Z)
    mismatched: Tensor  # (B, D): for each image the sentence of another one
    differs: Tensor  # (B,) bool: whether that is truly of another image


class DiscriminatorNoise(NamedTuple):
    """The random numbers of a discriminator's loss; those of augmentations are as draw_augmentation gives them."""

    real: list[Tensor]
    fake: list[Tensor]
    penalized_real: list[Tensor]
    penalized_fake: list[Tensor]
    direction: Tensor | None  # (B, 3, H, W), along which the finite penalty takes differences


class GeneratorNoise(NamedTuple):
    """The random numbers of a generator's loss; those of augmentations are as draw_augmentation gives them."""

    fake: list[Tensor]
    real: list[Tensor]  # for the relativistic loss alone
    latent: Tensor | None  # (8 B, Z), by which latents of the posterior are drawn, and from which the latent prior
    # carries noise to them; None without a posterior
    time: Tensor | None  # (8 B, 1) in [0, 1)
    told: Tensor | None  # (8 B, 2), 0 where the latent prior learns without sentences, or without words, else 1


def draw_discriminator_noise(
    config: GANConfig, images: Tensor, probability: Tensor | None = None
) -> DiscriminatorNoise:
    """Returns random numbers for discriminator_loss on images (B, 3, H, W); probability: of adaptive augmentation."""
    kinds, size, device = config.augmentation, len(images), images.device
    real, fake = (draw_augmentation(kinds, size, device, probability) for _ in range(2))
    if config.penalty_weight == 0:
        return DiscriminatorNoise(real, fake, [], [], None)
    penalized_real, penalized_fake = (draw_augmentation(kinds, size, device, probability) for _ in range(2))
    direction = sharded_randn(*images.shape, device=device) if config.penalty == "finite" else None
    return DiscriminatorNoise(real, fake, penalized_real, penalized_fake, direction)


def draw_generator_noise(
    config: GANConfig, noise: Tensor, adversarial: bool, probability: Tensor | None = None
) -> GeneratorNoise:
    """Returns random numbers for generator_loss, on the device of noise (B, Z); probability as above."""
    kinds, (size, dim), device = config.augmentation if adversarial else [], noise.shape, noise.device
    probability = probability if adversarial else None
    fake = draw_augmentation(kinds, size, device, probability)
    real = draw_augmentation(kinds, size, device, probability) if config.adversarial == "relativistic" else []
    if config.reconstruction_weight == 0:
        return GeneratorNoise(fake, real, None, None, None)
    latent = sharded_randn(size, PRIOR_SAMPLES, dim, device=device).flatten(0, 1)
    time, lottery = (sharded_rand(len(latent), 1, device=device) for _ in range(2))
    return GeneratorNoise(fake, real, latent, time, draw_told(config.generator.latent_prior_guidance, lottery))


def draw_told(guidance: float, lottery: Tensor) -> Tensor:
    """Returns by uniform random numbers (N, 1) what a latent prior is told in training, (N, 2): sentences, and words.

    1 is told and 0 is not. Whole captions are left out for guidance alone, which needs it.
    """
    without_caption = WITHOUT_CAPTION if guidance != 1 else 0.0
    told = [lottery >= without_caption, lottery >= without_caption + WITHOUT_WORDS]
    return torch.cat(told, dim=1).to(lottery.dtype)


def mismatched_sentences(config: GANConfig, batch: Batch, sentence: Tensor) -> tuple[Tensor, Tensor]:
    """Returns for each image the sentence of another one, (B, D), and whether it truly differs, (B,) bool.

    The others are those of all processes. batch and sentence (B, D) are of this process's images. Ids of captions are
    made here where the loader has not made them.
    """
    ids = batch.caption_ids
    if ids is None:
        ids = caption_ids(batch.captions).to(sentence.device)
    sentences, similarity = all_gather_with_grad(sentence), None
    if config.mismatched != "random":
        directions = F.normalize(sentences.float(), dim=1)
        similarity = inner_products(directions, directions)
    all_images, all_captions = (all_gather_with_grad(x) for x in (batch.image_ids, ids))
    found = mismatched_captions(all_images, all_captions, similarity, config.mismatched == "hard")
    index, differs = (local_shard(x) for x in found)
    return sentences[index], differs


def mismatched_captions(
    image_ids: Tensor, caption_ids: Tensor, similarity: Tensor | None = None, hard: bool = False
) -> tuple[Tensor, Tensor]:
    """Returns for each image the index of another one's caption, (B,), and whether it truly differs, (B,) bool.

    A caption of the same image, or one of the same words (equal caption_ids), never counts as mismatched. similarity
    (B, B) holds the cosines of the captions: with it, more similar captions are more likely to be chosen, or with
    `hard` the most similar one is, but never one whose cosine is above SAME_MEANING.
    """
    same = (image_ids[:, None] == image_ids) | (caption_ids[:, None] == caption_ids)
    lottery = torch.rand(same.shape, device=same.device)
    if similarity is not None:
        same = same | (similarity > SAME_MEANING)
        lottery = similarity if hard else similarity / SOFTNESS - (-lottery.log()).log()  # Gumbel: a draw by softmax
    best, index = lottery.masked_fill(same, -torch.inf).max(dim=1)
    return index, best > -torch.inf


def rows(tree: Any, chosen: slice) -> Any:
    """Returns the chosen rows of all tensors and lists in nested NamedTuples."""
    return type(tree)(*(rows(branch, chosen) for branch in tree)) if isinstance(tree, tuple) else tree[chosen]


def fixed_length(text: TextFeatures, max_words: int) -> TextFeatures:
    """Returns text features padded to max_words words, masked ones; longer ones are returned unchanged."""
    missing = max(0, max_words - text.words.shape[1])
    return TextFeatures(text.sentence, F.pad(text.words, (0, 0, 0, missing)), F.pad(text.mask, (0, missing)))


def split_microbatches(whole: MicroBatch, count: int) -> list[MicroBatch]:
    """Returns a batch in `count` micro-batches of equal size; the number of its rows must be a multiple of count."""
    size = len(whole.images) // count
    return [rows(whole, slice(start, start + size)) for start in range(0, len(whole.images), size)]
