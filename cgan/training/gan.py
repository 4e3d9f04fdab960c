"""TextToImageGAN: the adversarial training step, with a reconstruction path that teaches shape by pixels (CVAE-GAN)."""

import copy
import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, NamedTuple, assert_never

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.optim.lr_scheduler import LambdaLR

from cgan.interfaces import Batch, ImageEncoder, TextEncoder, TextFeatures, UserError
from cgan.models.augment import Augmentation, augment
from cgan.models.coattention import CoAttention, padded
from cgan.models.discriminator import Discriminator, DiscriminatorConfig
from cgan.models.generators import build_generator
from cgan.models.generators.base import GeneratorConfig
from cgan.models.layers import recomputed
from cgan.models.posterior import Posterior
from cgan.models.precision import inner_products
from cgan.pixels import as_floats
from cgan.training import losses
from cgan.training.distributed import num_processes, own_first, own_rows, random_rows, rows_of_all
from cgan.training.muon import Muon
from cgan.training.schedule import by_cosine, late_decay, progress_of

SAME_MEANING = 0.8  # captions of a larger cosine may well mean the same
MOST_GRAPHS = 32  # that torch.compile makes of one function
SOFTNESS = 0.1  # of cosines, when near captions are preferred


ExtraLoss = Callable[[Tensor, Tensor, TextFeatures], Tensor]  # (fakes, real, text) -> a scalar; images in [-1, 1]


@dataclass
class GANConfig:
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    adversarial: losses.Adversarial = "hinge"
    adversarial_weight: float = 0.2
    adversarial_from: float = 0.0  # share of the training that goes by without a discriminator
    mismatched_weight: float = 0.5
    mismatched: Literal["random", "soft", "hard"] = "random"  # soft: rather near captions; hard: the nearest ones
    matching: Literal["contrastive", "spherical", "attention"] = "contrastive"  # attention: of words and regions too
    matching_weight: float = 0.3  # by the joint encoder; 0 without one
    reconstruction_weight: float = 5.0  # 0 switches the posterior's path off
    redrawn_share: float = 1.0  # of the fakes, from latents of the posterior; the others are from the prior
    feature_weight: float = 3.0  # reconstruction on the joint encoder's feature maps
    kl_weight: float = 0.001
    first_beta: float = 0.5  # of Adam
    second_beta: float = 0.99
    last_second_beta: float | None = None  # reached at the end along a cosine; absent: the same all the time
    decay_from: float = 0.5  # share of the training after which both rates fall linearly, to last_rate
    last_rate: float = 0.05  # as a share of the rates
    penalty: Literal["finite", "exact", "matching_aware"] = "finite"  # R1 and R2 in either form, or DF-GAN's
    penalty_weight: float = 0.0  # gamma / 2 of R1 and R2; 2 for DF-GAN's; 0 switches it off
    last_penalty_weight: float | None = None  # as last_second_beta
    augmentation: list[Augmentation] = field(default_factory=list)  # of all that the discriminator sees
    learning_rate: float = 1e-3
    matrix_learning_rate: float = 0.0  # of Muon, for the matrices inside the generator: about 3e-3; 0 takes Adam
    prior_learning_rate: float = 3e-3
    discriminator_learning_rate: float = 1e-3
    ema_half_life: float = 10_000  # in images
    ema_ramp_up: float = 0.05  # the half-life is at most this share of the images seen
    accumulate: int = 1  # parts that a batch is worked through in, to save memory; contrast stays within a part
    recompute: bool = False  # activations of generator and frozen features in the backward pass, to save memory


class Part(NamedTuple):
    """A batch, or some rows of one, with all of a step that no player's gradient touches."""

    batch: Batch
    text: TextFeatures
    noise: Tensor  # (B, Z)
    mismatched: Tensor  # (B, D): for each picture the sentence of another one
    differs: Tensor  # (B,) bool: whether it truly is of another one
    real_maps: list[Tensor]  # frozen feature maps of the pictures


class Fakes(NamedTuple):
    """Pictures of the generator; the first of them redraw the real ones when there is a posterior."""

    images: Tensor  # (B, 3, H, W)
    maps: list[Tensor]  # their frozen feature maps
    embedding: Tensor | None  # (B, E), by the frozen network
    num_redrawn: int
    moments: tuple[Tensor, Tensor] | None  # mean and log variance of the posterior, each (B, Z)


def mismatched_captions(
    image_ids: Tensor, caption_ids: Tensor, similarity: Tensor | None = None, hard: bool = False
) -> tuple[Tensor, Tensor]:
    """For each picture another one's caption: its index (B,), and whether it truly differs (B,), bool.

    Neither a caption of the same picture nor the same words, of equal caption_ids, count as mismatched. With
    similarity (B, B), cosines of the captions, nearer ones are likelier, or the nearest one is taken (hard); but none
    that says nearly the same.
    """
    same = (image_ids[:, None] == image_ids) | (caption_ids[:, None] == caption_ids)
    lottery = torch.rand(same.shape, device=same.device)
    if similarity is not None:
        same = same | (similarity > SAME_MEANING)
        lottery = similarity if hard else similarity / SOFTNESS - (-lottery.log()).log()  # Gumbel: a draw by softmax
    best, index = lottery.masked_fill(same, -torch.inf).max(dim=1)
    return index, best > -torch.inf


def caption_ids(captions: list[str], device: torch.device) -> Tensor:
    """A number of the words of each caption, the same in every process: (B,) int64."""
    digests = (hashlib.blake2b(caption.encode(), digest_size=8).digest() for caption in captions)
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], device=device)


def rows(tree: object, chosen: slice) -> object:
    """The chosen rows of all tensors and lists in nested NamedTuples."""
    return type(tree)(*(rows(branch, chosen) for branch in tree)) if isinstance(tree, tuple) else tree[chosen]


def words_and_regions(config: GANConfig, coattention: CoAttention | None) -> CoAttention | None:
    """The frozen co-attention of a joint encoder, where the matching term asks for it."""
    if config.matching != "attention":
        return None
    if coattention is None:
        raise UserError("gan.matching=attention: the joint encoder has no co-attention; train it with "
                        "joint.coattention_weight=0.5, or give another joint.checkpoint")  # fmt: skip
    return coattention.eval().requires_grad_(False)


class TextToImageGAN(pl.LightningModule):
    """Alternating steps of a discriminator and a generator; the fakes of a batch are drawn once and serve both.

    image_encoder gives frozen feature maps; with shared_latent its embedding lies in one latent with the sentences of
    text_encoder, and the matching term uses that. coattention compares the words of text_encoder with its last map.
    """

    def __init__(
        self,
        config: GANConfig,
        text_encoder: TextEncoder,
        image_encoder: ImageEncoder | None,
        resolution: int,
        shared_latent: bool = True,
        coattention: CoAttention | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config, self.resolution = config, resolution
        self.matching = config.matching_weight > 0 and image_encoder is not None and shared_latent
        if not (self.matching or config.reconstruction_weight > 0 or config.discriminator.form == "features"):
            image_encoder = None  # nobody asks it
        self.coattention = words_and_regions(config, coattention) if self.matching else None
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.image_encoder = image_encoder.eval().requires_grad_(False) if image_encoder else None
        # without a posterior nobody teaches a prior
        generator = config.generator if config.reconstruction_weight > 0 else replace(config.generator, prior_layers=0)
        self.generator = build_generator(generator, resolution, text_encoder.dim)
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        channels = image_encoder.map_channels if image_encoder and config.discriminator.form == "features" else None
        self.discriminator = Discriminator(config.discriminator, resolution, text_encoder.dim, channels)
        self.posterior = None
        if config.reconstruction_weight > 0:
            maps = None
            if image_encoder is not None:
                maps = list(zip(image_encoder.map_channels, image_encoder.map_sizes(resolution), strict=True))
            self.posterior = Posterior(resolution, text_encoder.dim, generator.noise_dim, maps)
        self.progress = 0.0  # how much of the training is over
        self.images_seen = 0
        self.extra_losses: Mapping[str, ExtraLoss] = {}  # a user's own terms of the generator's loss, by name
        self.generator.recompute = config.recompute
        self.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "TextToImageGAN":
        """Frozen networks and the average stay in evaluation mode."""
        super().train(mode)
        for network in (self.text_encoder, self.image_encoder, self.generator_ema, self.coattention):
            if network is not None:
                network.eval()
        return self

    def compile_networks(self, backend: str = "inductor") -> None:
        """What is run in each step, by torch.compile, with its first step; names of weights stay as they are.

        Shapes are fixed, so blocks and uses (of real, fake and penalised pictures, by either player) have graphs of
        their own; dynamo gives up on a function after 8, unless it is told that there are more.
        """
        for network in (*self.generator.blocks, *([self.image_encoder] if self.image_encoder else [])):
            network.compile(backend=backend, dynamic=False)
        self.discriminator.look = torch.compile(self.discriminator.look, backend=backend, dynamic=False)
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_GRAPHS)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return batch._replace(images=as_floats(batch.images))

    def on_train_start(self) -> None:
        self.progress = progress_of(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        generator_optimizer, discriminator_optimizer = self.optimizers()
        self.leave_uncounted(discriminator_optimizer)
        parts = self.parts_of(batch)
        shared = self.imagine(parts[0]) if len(parts) == 1 else None  # of several parts memory holds one at a time
        if self.adversary_plays():
            self.update(discriminator_optimizer, self.discriminator_loss, parts, shared)
        self.update(generator_optimizer, self.generator_loss, parts, shared)
        self.images_seen += len(batch.images) * num_processes()
        self.average_generator(len(batch.images) * num_processes())
        self.follow_schedule()

    def update(
        self,
        optimizer: LightningOptimizer,
        loss_of: Callable[[Part, Fakes], Tensor],
        parts: list[Part],
        shared: Fakes | None,
    ) -> None:
        """A step of one player by the mean of the parts' losses; fakes that are not shared are drawn for it."""
        with self.toggled_optimizer(optimizer):
            optimizer.zero_grad()
            for part in parts:
                with parametrize.cached():  # spectral norms once, not once a look
                    self.manual_backward(loss_of(part, shared or self.imagine(part)) / len(parts))
            optimizer.step()

    @torch.no_grad()
    def parts_of(self, batch: Batch) -> list[Part]:
        """The batch in as many parts as gan.accumulate says; mismatched pairs are of the whole of it."""
        text = self.text_encoder(batch.captions)
        noise = random_rows(torch.randn, len(batch.images), self.config.generator.noise_dim, device=self.device)
        batch = batch._replace(images=batch.images.contiguous(memory_format=torch.channels_last))
        whole = Part(batch, text, noise, *self.mismatched(batch, text), [])
        size = len(batch.images) // self.config.accumulate
        parts = [rows(whole, slice(start, start + size)) for start in range(0, len(batch.images), size)]
        return [p._replace(real_maps=self.maps(p.batch.images)) for p in parts] if self.compares_maps() else parts

    def follow_schedule(self) -> None:
        """Learning rates and second betas for the next step."""
        self.progress = progress_of(self.trainer)
        for optimizer, schedule in zip(self.optimizers(), self.lr_schedulers(), strict=True):
            if optimizer.state:  # that player has begun
                schedule.step()
            for group in optimizer.param_groups:
                group["betas"] = self.betas()

    def adversary_plays(self) -> bool:
        return self.progress >= self.config.adversarial_from

    def compares_maps(self) -> bool:
        """Whether frozen maps of real pictures, as they are, have any use."""
        seen = self.looks_at_maps() and not self.config.augmentation
        return seen or self.posterior is not None

    def looks_at_maps(self) -> bool:
        """Whether the discriminator stands on frozen maps."""
        return self.config.discriminator.form == "features"

    def fake_maps(self, images: Tensor) -> list[Tensor]:
        """Frozen maps of fakes, and their embedding beside them, where anything asks for them."""
        if self.matching or self.compares_maps():
            return self.maps(images)
        self.embedding = None
        return []

    def imagine(self, part: Part) -> Fakes:
        """A picture for each caption, the first of them from the latent that the posterior finds in the real one."""
        noise, sentence = part.noise, part.text.sentence
        if self.posterior is None:
            images = self.generator(noise, part.text)
            return Fakes(images, self.fake_maps(images), self.embedding, 0, None)
        num_redrawn = min(max(1, round(self.config.redrawn_share * len(noise))), len(noise))
        mean, log_variance = self.posterior(part.batch.images, part.real_maps, sentence)
        found = (mean + noise * (log_variance / 2).exp())[:num_redrawn]
        if num_redrawn < len(noise):
            # the prior learns from the posterior alone; what fools the discriminator is no business of its
            fresh = self.generator.prior(noise[num_redrawn:], sentence[num_redrawn:]).detach()
            found = torch.cat([found, fresh])
        images = self.generator.draw(found, part.text)
        return Fakes(images, self.fake_maps(images), self.embedding, num_redrawn, (mean, log_variance))

    def prior_loss(self, mean: Tensor, log_variance: Tensor, sentence: Tensor, num_samples: int = 8) -> Tensor:
        """How badly the prior explains latents of the posterior."""
        noise = random_rows(torch.randn, len(mean), num_samples, mean.shape[1], device=mean.device).flatten(0, 1)
        mean, log_variance, sentence = (x.repeat_interleave(num_samples, dim=0) for x in (mean, log_variance, sentence))
        latent = mean + noise * (log_variance / 2).exp()
        start = random_rows(torch.randn, *latent.shape, device=mean.device)
        time = random_rows(torch.rand, len(latent), 1, device=mean.device)
        return self.generator.prior.loss(latent, sentence, start, time)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Frozen feature maps of pictures; their embedding is kept beside them."""
        if self.image_encoder is None:
            self.embedding = None
            return []
        features = recomputed(self.image_encoder, images) if self.config.recompute else self.image_encoder(images)
        self.embedding = features.embedding
        return features.maps

    def discriminator_loss(self, part: Part, fakes: Fakes) -> Tensor:
        self.discriminator.train(self.training)
        kind, judge, text = self.config.adversarial, self.discriminator.judge, part.text
        hidden = self.look(part.batch.images, part.real_maps)
        real = judge(hidden, text.sentence)
        fake = judge(self.look(fakes.images.detach(), [x.detach() for x in fakes.maps]), text.sentence)
        mismatched = self.discriminator.judge_match(hidden, part.mismatched)
        mismatch = losses.mismatch_loss(kind, real[:, -mismatched.shape[1] :], mismatched, part.differs)
        loss = losses.discriminator_loss(kind, real, fake)
        self.log("loss/discriminator", loss, prog_bar=True)
        self.log("loss/mismatched", mismatch)
        return loss + self.config.mismatched_weight * mismatch + self.gradient_penalty(part, fakes)

    def mismatched(self, batch: Batch, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """For each picture the sentence of another one in the whole batch, (B, D), and whether it truly differs."""
        ids = batch.image_ids, caption_ids(batch.captions, self.device)
        sentences, similarity = rows_of_all(self, text.sentence), None
        if self.config.mismatched != "random":
            directions = F.normalize(sentences.float(), dim=1)
            similarity = inner_products(directions, directions)
        chosen = mismatched_captions(*(rows_of_all(self, x) for x in ids), similarity, self.config.mismatched == "hard")
        index, valid = (own_rows(x) for x in chosen)
        return sentences[index], valid

    def gradient_penalty(self, part: Part, fakes: Fakes) -> Tensor | float:
        """On pictures as the discriminator sees them, in float32, through the frozen features as well."""
        if self.config.penalty_weight == 0:
            return 0.0
        text, pictures = part.text.sentence.float(), (part.batch.images, fakes.images.detach())

        def critic(images: Tensor, sentence: Tensor | None = None) -> Tensor:
            if sentence is None:
                sentence = text.repeat(len(images) // len(text), 1)
            maps = self.maps(images) if self.looks_at_maps() else []
            return self.discriminator.judge(self.look(images, maps, augmented=True), sentence)

        with torch.autocast(self.device.type, enabled=False), self.uncompiled_for_second_order():
            real, fake = (augment(images.float(), self.config.augmentation) for images in pictures)
            match self.config.penalty:
                case "finite":
                    noise = random_rows(torch.randn, *real.shape, device=self.device)
                    penalty = sum(losses.finite_gradient_penalty(critic, images, noise) for images in (real, fake))
                case "exact":
                    penalty = sum(losses.exact_gradient_penalty(critic, images) for images in (real, fake))
                case "matching_aware":
                    penalty = losses.matching_aware_penalty(critic, real, text)
                case unknown:
                    assert_never(unknown)
        self.log("loss/penalty", penalty)
        return by_cosine(self.progress, self.config.penalty_weight, self.config.last_penalty_weight) * penalty

    def uncompiled_for_second_order(self) -> AbstractContextManager:
        """torch.compile has no gradients of gradients, which all but the finite penalty need."""
        return nullcontext() if self.config.penalty == "finite" else torch.compiler.set_stance("force_eager")

    def generator_loss(self, part: Part, fakes: Fakes) -> Tensor:
        loss = torch.zeros((), device=self.device)
        if self.adversary_plays():
            loss = loss + self.config.adversarial_weight * self.adversarial_loss(part, fakes)
        if self.matching:
            matching = self.matching_loss(part, fakes)
            self.log("loss/matching", matching)
            loss = loss + self.config.matching_weight * matching
        if fakes.num_redrawn > 0:
            loss = loss + self.redrawing_loss(part, fakes)
        for name, loss_of in self.extra_losses.items():
            extra = loss_of(fakes.images, part.batch.images, part.text)
            self.log(f"loss/{name}", extra)
            loss = loss + extra
        return loss

    def adversarial_loss(self, part: Part, fakes: Fakes) -> Tensor:
        self.discriminator.eval()  # spectral norms move on with its own steps alone
        fake = self.discriminator.judge(self.look(fakes.images, fakes.maps), part.text.sentence)
        real = None
        if self.config.adversarial == "relativistic":
            with torch.no_grad():
                real = self.discriminator.judge(self.look(part.batch.images, part.real_maps), part.text.sentence)
        loss = losses.generator_loss(self.config.adversarial, fake, real)
        self.log("loss/generator", loss, prog_bar=True)
        return loss

    def redrawing_loss(self, part: Part, fakes: Fakes) -> Tensor:
        """Real pictures drawn again from the posterior's noise: by pixels, by frozen features, and by its KL."""
        config, n, (mean, log_variance) = self.config, fakes.num_redrawn, fakes.moments
        pixels = losses.pyramid_loss(fakes.images[:n], part.batch.images[:n])
        divergence = losses.kl_to_normal(mean, log_variance)
        prior = self.prior_loss(mean.detach(), log_variance.detach(), part.text.sentence)
        self.log("loss/reconstruction", pixels, prog_bar=True)
        self.log("loss/divergence", divergence)
        self.log("loss/prior", prior)
        loss = config.reconstruction_weight * pixels + config.kl_weight * divergence + prior
        if fakes.maps:
            loss = loss + config.feature_weight * losses.feature_loss(
                [x[:n] for x in fakes.maps], [x[:n] for x in part.real_maps]
            )
        return loss

    def matching_loss(self, part: Part, fakes: Fakes) -> Tensor:
        """How far fakes are from their captions by the joint encoder."""
        match self.config.matching:
            case "contrastive":
                return self.choice_loss(part, fakes.embedding)
            case "spherical":
                return losses.spherical_distance(fakes.embedding.float(), part.text.sentence.float())
            case "attention":  # DAMSM, with both of its parts
                return self.choice_loss(part, fakes.embedding) + self.attention_loss(part, fakes.maps[-1])
            case unknown:
                assert_never(unknown)

    def choice_loss(self, part: Part, embedding: Tensor) -> Tensor:
        """Each fake should find its caption among the whole batch's, in the joint encoder's latent."""
        pictures, captions = (F.normalize(x.float(), dim=1) / 0.1**0.5 for x in (embedding, part.text.sentence))
        ids = part.batch.image_ids, own_first(self, part.batch.image_ids)
        found = losses.info_nce(inner_products(pictures, own_first(self, captions)), *ids)
        return (found + losses.info_nce(inner_products(captions, own_first(self, pictures)), *ids)) / 2

    def attention_loss(self, part: Part, last_map: Tensor) -> Tensor:
        """The same by words and regions that look at each other."""
        regions, score = self.coattention.regions(last_map), self.coattention.score
        words, mask = padded(self.coattention.words(part.text.words), part.text.mask, num_processes() > 1)
        captions = score(regions, own_first(self, words), own_first(self, mask)) / 0.1  # for each picture, (B, N)
        pictures = score(own_first(self, regions), words, mask).t() / 0.1
        ids = part.batch.image_ids, own_first(self, part.batch.image_ids)
        return (losses.info_nce(captions, *ids) + losses.info_nce(pictures, *ids)) / 2

    def look(self, images: Tensor, maps: list[Tensor], augmented: bool = False) -> list[Tensor]:
        """What the discriminator sees in pictures and their frozen maps; unless augmented before, in changed ones."""
        if self.config.augmentation and not augmented:
            images = augment(images, self.config.augmentation)
            maps = self.maps(images) if self.looks_at_maps() else []
        return self.discriminator.look(images, maps if self.looks_at_maps() else [])

    def leave_uncounted(self, optimizer: LightningOptimizer) -> None:
        """Let Lightning's global_step count the other optimizer's steps only (its hooks are reset with each batch)."""
        optimizer._on_before_step = lambda: self.trainer.profiler.start("optimizer_step")
        optimizer._on_after_step = lambda: self.trainer.profiler.stop("optimizer_step")

    @torch.no_grad()
    def average_generator(self, num_images: int) -> None:
        """Move the average towards the generator; its half-life counts images (Karras et al. 2020)."""
        half_life = min(self.config.ema_half_life, self.config.ema_ramp_up * max(self.images_seen, 1))
        share = 1 - 0.5 ** (num_images / half_life)
        torch._foreach_lerp_(list(self.generator_ema.parameters()), list(self.generator.parameters()), share)

    def configure_optimizers(self) -> list[dict]:
        config = self.config
        prior = list(self.generator.prior.parameters())
        inner = self.generator.inner_matrices() if config.matrix_learning_rate > 0 else []
        apart = {id(weight) for weight in prior + inner}
        drawing = [weight for weight in self.generator.parameters() if id(weight) not in apart]
        drawing += self.posterior.parameters() if self.posterior is not None else []
        generator = [
            {"params": drawing, "lr": config.learning_rate},
            {"params": prior, "lr": config.prior_learning_rate},
            {"params": inner, "lr": config.matrix_learning_rate, "orthogonal": True},
        ]
        discriminator = [{"params": self.discriminator.parameters(), "lr": config.discriminator_learning_rate}]
        optimizers = [Muon(groups, self.betas()) for groups in (generator, discriminator)]
        return [{"optimizer": o, "lr_scheduler": LambdaLR(o, self.rate)} for o in optimizers]

    def rate(self, step: int) -> float:
        """The learning rates' factor."""
        return late_decay(self.progress, self.config.decay_from, self.config.last_rate)

    def betas(self) -> tuple[float, float]:
        """Of Adam."""
        config = self.config
        return config.first_beta, by_cosine(self.progress, config.second_beta, config.last_second_beta)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """All that sampling needs beside the weights."""
        checkpoint["sampler"] = {
            "generator": asdict(self.generator.config),
            "text": self.text_encoder.spec(),
            "resolution": self.resolution,
        }
        checkpoint["images_seen"] = self.images_seen

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.images_seen = checkpoint["images_seen"]
