"""Computes the losses of a GAN's training step as pure functions of tensors, with a reconstruction path (CVAE-GAN).

Nothing is logged, moved to another device or drawn at random in here, and no network changes its mode.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.config import GANConfig
from cgan.interfaces import ImageEncoder, ImageFeatures, TextFeatures
from cgan.models.augment import augment
from cgan.models.autocast import converted_together
from cgan.models.coattention import CoAttention, padded
from cgan.models.discriminator import Discriminator
from cgan.models.float32 import inner_products
from cgan.models.generators.base import Generator
from cgan.models.layers import recomputed
from cgan.models.posterior import Posterior
from cgan.sharding import num_processes
from cgan.training import losses
from cgan.training.distributed import all_gather_local_first
from cgan.training.microbatch import PRIOR_SAMPLES, DiscriminatorNoise, GeneratorNoise, MicroBatch, rows

TEMPERATURE = 0.1  # of the matching terms

Scalars = dict[str, Tensor]  # what is to be logged, by its name


@dataclass(frozen=True)
class Networks:
    """The networks of a step, and the configuration of their losses. image_encoder and coattention are frozen."""

    config: GANConfig
    generator: Generator
    discriminator: Discriminator
    posterior: Posterior | None  # there is a reconstruction path where there is a posterior
    image_encoder: ImageEncoder | None
    coattention: CoAttention | None
    matching: bool  # whether fakes are compared with their captions in the latent of image_encoder
    autocast_encoder: ImageEncoder | None = None  # image_encoder with its weights in autocast's type, if there is one
    converted: Sequence[nn.Module] = ()  # layers of generator and posterior whose weights are converted all together

    @property
    def on_features(self) -> bool:
        """Whether the discriminator's heads use frozen feature maps."""
        return self.config.discriminator.form == "features"

    @property
    def uses_real_features(self) -> bool:
        """Whether a step uses frozen features of real images without augmentation."""
        if self.matching and self.config.matching == "relational":
            return True
        return (self.on_features and not self.config.augmentation) or self.posterior is not None


class Fakes(NamedTuple):
    """Images of the generator, the first of which reconstruct the real ones where there is a posterior."""

    images: Tensor  # (B, 3, H, W) in [-1, 1]
    maps: list[Tensor]  # their frozen feature maps; empty where none are used
    embedding: Tensor | None  # (B, E), by the frozen image encoder
    num_reconstructed: int
    moments: tuple[Tensor, Tensor] | None  # mean and log variance of the posterior, each (B, Z)
    real_maps: list[Tensor]  # frozen feature maps of the real images, each (B, C, H, W); empty where none are used
    real_embedding: Tensor | None  # (B, E) of the real images, by the frozen image encoder where it is used

    def detached(self) -> "Fakes":
        """Returns the same without a way for gradients back to the networks that computed them."""
        maps, embedding = [x.detach() for x in self.maps], self.embedding
        embedding = None if embedding is None else embedding.detach()
        real = self.real_maps, self.real_embedding
        return Fakes(self.images.detach(), maps, embedding, self.num_reconstructed, None, *real)


def frozen_features(networks: Networks, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
    """Returns the frozen feature maps, each (B, C, H, W), and the embedding (B, E) of images (B, 3, H, W)."""
    encoder = networks.image_encoder
    if encoder is None:
        return [], None
    if networks.autocast_encoder is not None and torch.is_autocast_enabled(images.device.type):
        encoder = networks.autocast_encoder
    found = cast(ImageFeatures, recomputed(encoder, images) if networks.config.recompute else encoder(images))
    return found.maps, found.embedding


# ------------------------------------------------------------------------------------------------ fakes


def generate_fakes(networks: Networks, batch: MicroBatch) -> Fakes:
    """Returns an image for each caption; the first ones are of latents that the posterior finds in the real images."""
    real: tuple[list[Tensor], Tensor | None] = [], None
    if networks.uses_real_features:
        with torch.no_grad():
            real = frozen_features(networks, batch.images)
    with converted_together(networks.converted, batch.images.device):
        if networks.posterior is None:
            images, num_reconstructed, moments = networks.generator(batch.noise, batch.text), 0, None
        else:
            fraction, size = networks.config.reconstructed_fraction, len(batch.noise)
            num_reconstructed = min(max(1, round(fraction * size)), size)
            moments = networks.posterior(batch.images, real[0], batch.text.sentence)
            latent = latents_of(networks.generator, batch, moments, num_reconstructed)
            images = networks.generator.synthesize(latent, batch.text)
    used = networks.matching or networks.uses_real_features
    maps, embedding = frozen_features(networks, images) if used else ([], None)
    return Fakes(images, maps, embedding, num_reconstructed, moments, *real)


def latents_of(generator: Generator, batch: MicroBatch, moments: tuple[Tensor, Tensor], count: int) -> Tensor:
    """Returns latents (B, Z): the first `count` from the posterior, the others from the latent prior."""
    (mean, log_variance), noise = moments, batch.noise
    latent = (mean + noise * (log_variance / 2).exp())[:count]
    if count == len(noise):
        return latent
    # no gradient of the images reaches the latent prior, which learns from the posterior alone
    fresh = generator.latent_prior(noise[count:], rows(batch.text, slice(count, None))).detach()
    return torch.cat([latent, fresh])


# ------------------------------------------------------------------------------------------------ discriminator


def discriminator_loss(
    networks: Networks, batch: MicroBatch, fakes: Fakes, noise: DiscriminatorNoise, penalty_weight: Tensor
) -> tuple[Tensor, Scalars]:
    """Returns the discriminator's loss: real against fake, mismatched captions, gradient penalty; and its terms.

    penalty_weight is a scalar on the device of the images, so that a new value does not compile the loss anew.
    """
    config, scalars = networks.config, {}
    with networks.discriminator.normalised():  # spectral norms are computed once, not at each use
        real, fake, mismatched = logits_of_pairs(networks, batch, fakes, noise)
        mismatched = mismatched[:, -len(networks.discriminator.heads) :]  # those that depend on the caption
        matched = real[:, -len(networks.discriminator.heads) :]
        mismatch = losses.mismatch_loss(config.adversarial, matched, mismatched, batch.differs)
        loss = losses.discriminator_loss(config.adversarial, real, fake, config.fake_weight)
        scalars |= {"loss/discriminator": loss.detach(), "loss/mismatched": mismatch.detach()}
        if config.adaptive_augmentation:
            scalars |= logit_means(real.detach().float(), fake.detach().float())
        loss = loss + config.mismatched_weight * mismatch
        if config.penalty_weight > 0:
            penalty = gradient_penalty(networks, batch, fakes, noise)
            scalars["loss/penalty"] = penalty.detach()
            loss = loss + penalty_weight * penalty
    return loss, scalars


def logit_means(real: Tensor, fake: Tensor) -> Scalars:
    """Returns what adaptive augmentation follows, of logits (B, heads): both means, and the mean sign of real ones."""
    return {"logits/real": real.mean(), "logits/fake": fake.mean(), "logits/sign": real.sign().mean()}


@torch.no_grad()
def held_out_logit(networks: Networks, images: Tensor, sentence: Tensor, draws: list[Tensor]) -> Tensor:
    """Returns the mean logit of real images (B, 3, H, W) that are never trained on, augmented as those that are."""
    with networks.discriminator.normalised():
        return networks.discriminator.logits(seen_features(networks, images, [], draws), sentence).float().mean()


def logits_of_pairs(
    networks: Networks, batch: MicroBatch, fakes: Fakes, noise: DiscriminatorNoise
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns logits, each (B, heads), of real images, of fakes, and of real images with mismatched captions.

    Real and fake images pass through the discriminator together, 2 B of them: half as many operations, and each weight
    is converted to autocast's type once.
    """
    images, sentence = torch.cat([batch.images, fakes.images.detach()]), batch.text.sentence
    maps, on_maps = [], networks.on_features and not networks.config.augmentation
    if on_maps:
        maps = [torch.cat([real, fake.detach()]) for real, fake in zip(fakes.real_maps, fakes.maps, strict=True)]
    draws = [torch.cat(pair) for pair in zip(noise.real, noise.fake, strict=True)]
    hidden = seen_features(networks, images, maps, draws)  # each (2 B, ...)
    hidden = [torch.cat([x, x[: len(sentence)]]) for x in hidden]
    real, fake, mismatched = networks.discriminator.logits(
        hidden, torch.cat([sentence, sentence, batch.mismatched])
    ).chunk(3)
    return real, fake, mismatched


def discriminator_loss_on_new_fakes(
    networks: Networks, batch: MicroBatch, noise: DiscriminatorNoise, penalty_weight: Tensor
) -> tuple[Tensor, Scalars]:
    """Returns discriminator_loss on fakes that are generated for it, without gradients, and not kept."""
    with torch.no_grad():
        fakes = generate_fakes(networks, batch)
    return discriminator_loss(networks, batch, fakes, noise, penalty_weight)


def seen_features(networks: Networks, images: Tensor, maps: list[Tensor], draws: list[Tensor]) -> list[Tensor]:
    """Returns the discriminator's features of images, augmented by random numbers, and of their frozen maps."""
    if networks.config.augmentation:
        return penalized_features(networks, augment(images, networks.config.augmentation, draws))
    return networks.discriminator.features(images, maps if networks.on_features else [])


def penalized_features(networks: Networks, images: Tensor) -> list[Tensor]:
    """Returns the discriminator's features of images that are augmented already; their frozen maps are computed."""
    maps = frozen_features(networks, images)[0] if networks.on_features else []
    return networks.discriminator.features(images, maps)


def gradient_penalty(networks: Networks, batch: MicroBatch, fakes: Fakes, noise: DiscriminatorNoise) -> Tensor:
    """Returns the penalty on the gradient of the logits by augmented images, through the frozen features as well.

    It is computed in float32, regardless of autocast.
    """
    config, sentence = networks.config, batch.text.sentence.float()

    def critic(images: Tensor, given: Tensor | None = None) -> Tensor:
        if given is None:
            given = sentence.repeat(len(images) // len(sentence), 1)
        return networks.discriminator.logits(penalized_features(networks, images), given)

    with torch.autocast(batch.images.device.type, enabled=False):
        real = augment(batch.images.float(), config.augmentation, noise.penalized_real)
        if config.penalty == "matching_aware":
            return losses.matching_aware_penalty(critic, real, sentence)
        fake = augment(fakes.images.detach().float(), config.augmentation, noise.penalized_fake)
        both = torch.cat([real, fake])  # the penalty is a mean over images: twice that of both is R1 + R2
        match config.penalty:
            case "finite":
                assert noise.direction is not None  # drawn for this penalty
                return 2 * losses.finite_gradient_penalty(critic, both, noise.direction.repeat(2, 1, 1, 1))
            case "exact":
                return 2 * losses.exact_gradient_penalty(critic, both)
            case unknown:
                assert_never(unknown)


# ------------------------------------------------------------------------------------------------ generator


def generator_loss(
    networks: Networks,
    batch: MicroBatch,
    fakes: Fakes,
    noise: GeneratorNoise,
    adversarial: bool = True,
    matching: bool = True,
) -> tuple[Tensor, Scalars]:
    """Returns the generator's loss, and its terms: adversarial, matching, reconstruction.

    Without `adversarial` or `matching` that term is left out: until it is time for it, or for the caller to add.
    """
    config, loss, scalars = networks.config, fakes.images.new_zeros(()), {}
    if adversarial:
        fooling = adversarial_loss(networks, batch, fakes, noise)
        scalars["loss/generator"] = fooling.detach()
        loss = loss + config.adversarial_weight * fooling
    if matching and networks.matching:
        loss = with_matching_loss(networks, batch, fakes, loss, scalars)
    if fakes.num_reconstructed > 0:
        reconstruction, terms = reconstruction_loss(networks, batch, fakes, noise)
        scalars |= terms
        loss = loss + reconstruction
    return loss, scalars


def generator_loss_on_new_fakes(
    networks: Networks,
    batch: MicroBatch,
    noise: GeneratorNoise,
    adversarial: bool = True,
    matching: bool = True,
    keep_fakes: bool = False,
) -> tuple[Tensor, Scalars, Fakes | None]:
    """Returns generator_loss on fakes that are generated for it, and the fakes if they are asked for."""
    fakes = generate_fakes(networks, batch)
    loss, scalars = generator_loss(networks, batch, fakes, noise, adversarial, matching)
    return loss, scalars, fakes if keep_fakes else None


def adversarial_loss(networks: Networks, batch: MicroBatch, fakes: Fakes, noise: GeneratorNoise) -> Tensor:
    """Returns how far the fakes are from fooling the discriminator."""
    discriminator, sentence, real = networks.discriminator, batch.text.sentence, None
    with networks.discriminator.normalised():
        fake = discriminator.logits(seen_features(networks, fakes.images, fakes.maps, noise.fake), sentence)
        if networks.config.adversarial == "relativistic":
            with torch.no_grad():
                features = seen_features(networks, batch.images, fakes.real_maps, noise.real)
                real = discriminator.logits(features, sentence)
    return losses.generator_loss(networks.config.adversarial, fake, real)


def reconstruction_loss(
    networks: Networks, batch: MicroBatch, fakes: Fakes, noise: GeneratorNoise
) -> tuple[Tensor, Scalars]:
    """Returns the weighted loss of reconstructed images, and its terms.

    It sums their distance from the real ones by pixels and by frozen features, the posterior's divergence from a
    standard normal distribution, and the loss of the latent prior.
    """
    assert fakes.moments is not None  # there is a posterior where images are reconstructed
    config, count, (mean, log_variance) = networks.config, fakes.num_reconstructed, fakes.moments
    pixels = losses.multiscale_l1(fakes.images[:count], batch.images[:count])
    divergence = losses.kl_to_normal(mean, log_variance)
    prior = prior_loss(networks.generator, (mean.detach(), log_variance.detach()), batch.text, noise)
    loss = config.reconstruction_weight * pixels + config.kl_weight * divergence + prior
    if fakes.maps:
        maps, real_maps = ([x[:count] for x in maps] for maps in (fakes.maps, fakes.real_maps))
        loss = loss + config.feature_weight * losses.feature_matching_loss(maps, real_maps)
    terms = {"loss/reconstruction": pixels, "loss/divergence": divergence, "loss/prior": prior}
    return loss, {name: value.detach() for name, value in terms.items()}


def prior_loss(
    generator: Generator, moments: tuple[Tensor, Tensor], text: TextFeatures, noise: GeneratorNoise
) -> Tensor:
    """Returns how badly the latent prior explains latents of the posterior, of which it sees several an image.

    Each latent is to come from the very noise by which it is drawn.
    """
    assert noise.latent is not None and noise.time is not None  # drawn for a posterior
    mean, log_variance = (x.repeat_interleave(PRIOR_SAMPLES, dim=0) for x in moments)
    latent = mean + noise.latent * (log_variance / 2).exp()
    return generator.latent_prior.loss(latent, text, noise.latent, noise.time, noise.told)


def latent_prior_loss(networks: Networks, batch: MicroBatch, noise: GeneratorNoise) -> tuple[Tensor, Scalars]:
    """Returns the loss of the latent prior alone, on latents of a posterior that is not trained, and this term."""
    assert networks.posterior is not None  # nothing else trains a latent prior
    with torch.no_grad():
        maps = frozen_features(networks, batch.images)[0]
        moments = networks.posterior(batch.images, maps, batch.text.sentence)
    loss = prior_loss(networks.generator, moments, batch.text, noise)
    return loss, {"loss/prior": loss.detach()}


def with_matching_loss(networks: Networks, batch: MicroBatch, fakes: Fakes, loss: Tensor, scalars: Scalars) -> Tensor:
    """Returns the loss with the weighted matching term, which is added to the scalars as well."""
    matching = matching_loss(networks, batch, fakes)
    scalars["loss/matching"] = matching.detach()
    return loss + networks.config.matching_weight * matching


def matching_loss(networks: Networks, batch: MicroBatch, fakes: Fakes) -> Tensor:
    """Returns how badly fakes match their captions by the joint encoder."""
    embedding, coattention = fakes.embedding, networks.coattention
    assert embedding is not None  # matching needs an image encoder
    match networks.config.matching:
        case "relational":
            assert fakes.real_embedding is not None  # Networks.uses_real_features sees to it
            return relational_loss(batch, embedding, fakes.real_embedding)
        case "contrastive":
            return contrastive_loss(batch, embedding)
        case "spherical":
            return losses.spherical_distance(embedding.float(), batch.text.sentence.float())
        case "attention":  # DAMSM, with both of its parts
            assert coattention is not None  # TextToImageGAN refuses this term without one
            attention = attention_loss(coattention, batch, fakes.maps[-1])
            return contrastive_loss(batch, embedding) + attention
        case unknown:
            assert_never(unknown)


def relational_loss(batch: MicroBatch, embedding: Tensor, real_embedding: Tensor) -> Tensor:
    """Returns how far fakes (B, E) are from being as near to each caption of all processes as their real images are.

    The captions are compared with the images of all processes likewise.
    """
    of_fakes, of_captions = scores_of_all(batch, embedding)
    of_real, wanted_of_captions = scores_of_all(batch, real_embedding)
    found = losses.divergence_of_scores(of_fakes, of_real)
    return (found + losses.divergence_of_scores(of_captions, wanted_of_captions)) / 2


def scores_of_all(batch: MicroBatch, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the scores (B, N) of images (B, E) by the captions of all processes, and of captions by their images."""
    images, captions = (F.normalize(x.float(), dim=1) / TEMPERATURE**0.5 for x in (embedding, batch.text.sentence))
    of_images = inner_products(images, all_gather_local_first(captions))
    return of_images, inner_products(captions, all_gather_local_first(images))


def contrastive_loss(batch: MicroBatch, embedding: Tensor) -> Tensor:
    """Returns InfoNCE of fakes' embeddings (B, E) and their captions among those of all processes, both ways."""
    ids = batch.image_ids, all_gather_local_first(batch.image_ids)
    of_images, of_captions = scores_of_all(batch, embedding)
    return (losses.info_nce(of_images, *ids) + losses.info_nce(of_captions, *ids)) / 2


def attention_loss(coattention: CoAttention, batch: MicroBatch, last_map: Tensor) -> Tensor:
    """Returns the same loss by the co-attention of words and regions, of the fakes' last frozen map (B, C, H, W)."""
    regions, ids = coattention.regions(last_map), (batch.image_ids, all_gather_local_first(batch.image_ids))
    words, mask = padded(coattention.words(batch.text.words), batch.text.mask, num_processes() > 1)
    all_words, all_masks = all_gather_local_first(words), all_gather_local_first(mask)
    of_images = coattention.score(regions, all_words, all_masks) / TEMPERATURE  # (B, N)
    of_captions = coattention.score(all_gather_local_first(regions), words, mask).t() / TEMPERATURE  # (B, N)
    return (losses.info_nce(of_images, *ids) + losses.info_nce(of_captions, *ids)) / 2
