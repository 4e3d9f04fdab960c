"""TextToImageGAN: trains a generator and a discriminator on a frozen text encoder."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from cgan.config import GANConfig
from cgan.interfaces import Batch, ImageEncoder, Report, TextEncoder, TextFeatures, silent
from cgan.models.autocast import AutocastCopy, layers_converted
from cgan.models.coattention import CoAttention, frozen_coattention
from cgan.models.discriminator import Discriminator
from cgan.models.float32 import in_float32
from cgan.models.generators import build_generator
from cgan.models.inverter import config_of
from cgan.models.picture_augment import augment_pictures
from cgan.models.posterior import Posterior
from cgan.pixels import as_floats
from cgan.sharding import num_processes, sharded_randn
from cgan.training import step
from cgan.training.adaptive import AdaptiveAugmentation
from cgan.training.average import GeneratorAverage
from cgan.training.compiled import StepFunctions, functions_to_compile
from cgan.training.connected import is_logging_step, keep_recorded, profiler_of, record
from cgan.training.known_text import KnownText, text_of
from cgan.training.microbatch import (
    MicroBatch,
    draw_discriminator_noise,
    draw_generator_noise,
    fixed_length,
    mismatched_sentences,
    split_microbatches,
)
from cgan.training.muon import Muon
from cgan.training.schedule import by_cosine, late_decay, progress_of
from cgan.training.turns import only_updated

ExtraLoss = Callable[[Tensor, Tensor, TextFeatures], Tensor]  # (fakes, real, text) -> a scalar; images in [-1, 1]
MEASURED_IN_STEPS = "loss/", "logits/", "augmentation/", "gradient_norm/"  # prefixes of metrics


class TextToImageGAN(pl.LightningModule):
    """Alternates steps of a discriminator and of a generator; the fakes of a batch serve both.

    image_encoder gives frozen feature maps; with shared_latent its embeddings lie in one latent with the sentences of
    text_encoder, which the matching term uses. coattention compares the words of text_encoder with its last map.
    Raises UserError for a configuration that can't be built.
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
            image_encoder = None  # nothing uses it
        self.coattention = frozen_coattention(config.matching, coattention) if self.matching else None
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.known_text: KnownText | None = None  # the features of all captions of a data set, where they are kept
        self.image_encoder = image_encoder.eval().requires_grad_(False) if image_encoder else None
        generator = config.generator
        if config.reconstruction_weight == 0:
            generator = replace(generator, latent_prior_layers=0)  # without a posterior nothing trains a latent prior
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
        self.adaptive = AdaptiveAugmentation(config) if config.adaptive_augmentation else None
        self.average = GeneratorAverage(config)
        self.progress = 0.0  # fraction of the training that is over
        self.images_seen = 0
        self.extra_losses: Mapping[str, ExtraLoss] = {}  # a user's own terms of the generator's loss, by name
        self.generator.recompute = config.recompute
        self.functions = StepFunctions()
        self.autocast_encoder = AutocastCopy(self.image_encoder) if self.image_encoder is not None else None
        apart = {id(layer) for layer in self.generator.latent_prior.modules()}  # it computes in float32
        drawing = [layer for layer in layers_converted(self.generator) if id(layer) not in apart]
        self.converted = tuple(drawing + layers_converted(self.posterior)) if self.posterior else tuple(drawing)
        self.to(memory_format=torch.channels_last)

    @property
    def networks(self) -> step.Networks:
        """The networks that a step uses."""
        copy = self.autocast_encoder and self.autocast_encoder.under_autocast(self.device.type)
        trained = self.generator, self.discriminator, self.posterior
        frozen = self.image_encoder, self.coattention
        one_by_one = num_processes() > 1 or self.config.recompute or self.functions.compiled  # see converted_together
        converted = () if one_by_one else self.converted
        return step.Networks(self.config, *trained, *frozen, self.matching, cast(ImageEncoder | None, copy), converted)

    @property
    def shares_fakes(self) -> bool:
        """Whether both losses take the same fakes; with CUDA graphs or several micro-batches each generates its own."""
        return self.config.accumulate == 1 and not self.functions.cuda_graphs

    @property
    def probability(self) -> Tensor | None:
        """The probability of each kind of augmentation, a scalar on the device; None where all are always applied."""
        return None if self.adaptive is None else self.adaptive.probability

    @property
    def uses_words(self) -> bool:
        """Whether a step uses the features of single words."""
        config = self.config
        return self.generator.config.uses_words or config.matching == "attention" or bool(self.extra_losses)

    # ------------------------------------------------------------------------------------------ the algorithm

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Steps the discriminator, once it takes part, and then the generator, on the same fakes.

        At the end of the training it steps the latent prior alone.
        """
        generator_optimizer, discriminator_optimizer = self.both_optimizers()
        self.exclude_from_global_step(discriminator_optimizer)
        microbatches = self.prepare(batch)
        if self.trains_prior_alone():
            if is_logging_step(self.trainer, self.trainer.global_step):  # the last values of the others are logged once
                keep_recorded(self.trainer, MEASURED_IN_STEPS, {"loss/prior", "gradient_norm/generator"})
            self.update(generator_optimizer, self.latent_prior_loss, microbatches, None)
        else:
            self.update_both(generator_optimizer, discriminator_optimizer, microbatches)
        self.images_seen += len(batch.images) * num_processes()
        self.average_generator(len(batch.images) * num_processes())
        self.follow_schedule()

    def update_both(
        self,
        generator_optimizer: LightningOptimizer,
        discriminator_optimizer: LightningOptimizer,
        microbatches: list[MicroBatch],
    ) -> None:
        """Steps the discriminator, once it takes part, and then the generator, on the same fakes."""
        fakes = self.functions(step.generate_fakes, self.networks, microbatches[0]) if self.shares_fakes else None
        if self.is_adversarial():
            self.discriminator.let_norms_move(self.training)
            self.update(discriminator_optimizer, self.discriminator_loss, microbatches, fakes)
            self.discriminator.let_norms_move(False)  # they move on with its own steps alone
            if self.adaptive is not None:
                num_images = sum(len(part.images) for part in microbatches)
                self.log_all([self.adaptive.follow(self.networks, num_images)])
        self.discriminator.let_norms_move(False)
        self.update(generator_optimizer, self.generator_loss, microbatches, fakes)

    @torch.no_grad()
    def prepare(self, batch: Batch) -> list[MicroBatch]:
        """Returns the batch as gan.accumulate micro-batches; mismatched captions come from the whole batch."""
        text = text_of(batch, self.text_encoder, self.known_text)
        if self.functions.compiled and self.uses_words and self.known_text is None:
            text = fixed_length(text, self.text_encoder.max_words)  # another length would compile all anew
        noise = sharded_randn(len(batch.images), self.config.generator.noise_dim, device=self.device)
        images = augment_pictures(batch.images, self.config.picture_augmentation)
        images = images.contiguous(memory_format=torch.channels_last)
        mismatched = mismatched_sentences(self.config, batch, text.sentence)
        whole = MicroBatch(images, batch.image_ids, text, noise, *mismatched)
        return split_microbatches(whole, self.config.accumulate)

    def update(
        self,
        optimizer: LightningOptimizer,
        loss_of: Callable[[MicroBatch, step.Fakes | None], tuple[Tensor, step.Scalars]],
        microbatches: list[MicroBatch],
        fakes: step.Fakes | None,
    ) -> None:
        """Steps one optimizer by the mean loss of the micro-batches.

        fakes of the only micro-batch serve both losses. Without them each loss generates its own, one micro-batch at a
        time, to save memory.
        """
        with only_updated(self.both_optimizers(), optimizer):
            optimizer.zero_grad()
            terms = []
            for part in microbatches:
                loss, scalars = loss_of(part, fakes)
                terms.append(scalars)
                with in_float32(loss):  # gradients in the types of the forward pass, which autocast would convert
                    self.manual_backward(loss if len(microbatches) == 1 else loss / len(microbatches))
            self.log_all(terms)
            optimizer.step()

    def discriminator_loss(self, batch: MicroBatch, fakes: step.Fakes | None) -> tuple[Tensor, step.Scalars]:
        """Draws random numbers and returns step.discriminator_loss at the present weight of the penalty."""
        noise, config = draw_discriminator_noise(self.config, batch.images, self.probability), self.config
        weight = by_cosine(self.drawing_progress, config.penalty_weight, config.last_penalty_weight)
        penalty_weight = batch.images.new_full((), weight)  # a number would compile the loss anew with each value
        if fakes is None:
            return self.functions(step.discriminator_loss_on_new_fakes, self.networks, batch, noise, penalty_weight)
        return self.functions(step.discriminator_loss, self.networks, batch, fakes.detached(), noise, penalty_weight)

    def generator_loss(self, batch: MicroBatch, fakes: step.Fakes | None) -> tuple[Tensor, step.Scalars]:
        """Draws random numbers and returns step.generator_loss, with a user's own terms.

        What gathers from several processes can't be compiled, so that the matching term is added here then.
        """
        networks, adversarial, matching = self.networks, self.is_adversarial(), self.is_matching()
        noise = draw_generator_noise(self.config, batch.noise, adversarial, self.probability)
        apart = bool(self.functions.compiled) and num_processes() > 1 and matching
        more = noise, adversarial, matching and not apart
        if fakes is None:
            keep = apart or bool(self.extra_losses)
            loss, scalars, fakes = self.functions(
                step.generator_loss_on_new_fakes, networks, batch, *more, keep_fakes=keep
            )
        else:
            loss, scalars = self.functions(step.generator_loss, networks, batch, fakes, *more)
        if apart:
            assert fakes is not None  # kept above
            loss = step.with_matching_loss(networks, batch, fakes, loss, scalars)
        for name, extra_loss in self.extra_losses.items():
            assert fakes is not None  # kept above
            extra = extra_loss(fakes.images, batch.images, batch.text)
            loss, scalars[f"loss/{name}"] = loss + extra, extra.detach()
        return loss, scalars

    def latent_prior_loss(self, batch: MicroBatch, _: step.Fakes | None) -> tuple[Tensor, step.Scalars]:
        """Draws random numbers and returns step.latent_prior_loss."""
        noise = draw_generator_noise(self.config, batch.noise, adversarial=False)
        return step.latent_prior_loss(self.networks, batch, noise)

    def log_all(self, terms: list[step.Scalars]) -> None:
        """Logs the terms of a loss, given for each micro-batch, by their means; none of them is read here."""
        means = terms[0]
        if len(terms) > 1:
            means = {name: torch.stack([part[name] for part in terms]).mean(dim=0) for name in means}
        if self.adaptive is not None:
            self.adaptive.observe(means)
        record(self._trainer, means)

    @torch.no_grad()
    def sample(self, captions: list[str], noise: Tensor) -> Tensor:
        """Returns images (B, 3, H, W) in [-1, 1] of B captions and noise (B, Z), by the averaged generator."""
        return self.generator_ema(noise.to(self.device), self.text_encoder(captions))

    def is_adversarial(self) -> bool:
        """Returns whether the discriminator takes part yet: at once where the generator has no other loss."""
        alone = not self.matching and self.posterior is None
        return alone or self.progress >= self.config.adversarial_from

    def is_matching(self) -> bool:
        """Returns whether the matching term takes part yet: at once where some fakes are not reconstructions."""
        config, start = self.config, self.config.matching_from
        at_once = self.posterior is None or config.reconstructed_fraction < 1
        return self.matching and (at_once or self.progress >= (config.adversarial_from if start is None else start))

    @property
    def prior_alone_from(self) -> float:
        """The share of the training after which the latent prior alone is trained; 1 where there is none."""
        has_prior = self.posterior is not None and any(True for _ in self.generator.latent_prior.parameters())
        return self.config.latent_prior_alone_from if has_prior else 1.0

    @property
    def drawing_progress(self) -> float:
        """The fraction that is over of the training of all but the latent prior."""
        return min(1.0, self.progress / max(self.prior_alone_from, 1e-9))

    def trains_prior_alone(self) -> bool:
        """Returns whether the latent prior alone is trained by now."""
        return self.prior_alone_from < 1 and self.progress >= self.prior_alone_from

    def average_generator(self, num_images: int) -> None:
        """Moves the averaged weights towards the generator's after a step of num_images."""
        alone = self.trains_prior_alone()
        self.average.follow(self.generator_ema, self.generator, num_images, self.images_seen, alone)

    # ------------------------------------------------------------------------------------------ the schedule

    def on_train_start(self) -> None:
        """Sets the progress of a training that starts or is resumed."""
        self.progress = progress_of(self.trainer)

    def follow_schedule(self) -> None:
        """Sets learning rates and second betas for the next step."""
        self.progress = progress_of(self.trainer)
        schedules = cast(list[LambdaLR], self.lr_schedulers())
        for optimizer, schedule in zip(self.both_optimizers(), schedules, strict=True):
            if optimizer.state:  # it has taken its first step
                schedule.step()
            for group in optimizer.param_groups:
                group["betas"] = self.betas()

    def rate(self, step: int) -> float:
        """Returns the factor of the learning rates; the step is ignored, for progress may be of time."""
        return late_decay(self.drawing_progress, self.config.decay_from, self.config.last_rate)

    def prior_rate(self, step: int) -> float:
        """Returns the factor of the latent prior's learning rate, which falls where it is trained alone."""
        alone_from = self.prior_alone_from
        if alone_from >= 1:
            return self.rate(step)
        return late_decay(self.progress, alone_from, self.config.last_rate)

    def betas(self) -> tuple[float, float]:
        """Returns the betas of Adam."""
        config = self.config
        return config.first_beta, by_cosine(self.drawing_progress, config.second_beta, config.last_second_beta)

    # ------------------------------------------------------------------------------------------ Lightning and files

    def train(self, mode: bool = True) -> "TextToImageGAN":
        """Sets the mode of trained networks; frozen ones and the averaged generator stay in evaluation mode."""
        super().train(mode)
        for network in (self.text_encoder, self.image_encoder, self.generator_ema, self.coattention):
            if network is not None:
                network.eval()
        return self

    def compile_losses(
        self, backend: str | Callable = "inductor", cuda_graphs: bool = False, report: Report = silent
    ) -> None:
        """Compiles the fakes and both losses whole by torch.compile, at their first use; names of weights stay.

        There is one compilation for each of the three, and one more of the generator's loss for the time before the
        adversary takes part. With cuda_graphs, which several micro-batches do without, each loss generates its own
        fakes. report gets a line for what is not compiled, and one if a compilation fails and the training goes on
        without it.
        """
        if cuda_graphs and self.config.accumulate > 1:
            report("gan.accumulate: no CUDA graphs, since the gradients of micro-batches add up between their replays")
            cuda_graphs = False
        functions = functions_to_compile(self.config, cuda_graphs, report)
        self.functions.compile(functions, backend, cuda_graphs, report)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Returns the batch with images as floats in [-1, 1], converted on the device."""
        return batch._replace(images=as_floats(batch.images))

    def exclude_from_global_step(self, optimizer: LightningOptimizer) -> None:
        """Lets Lightning's global_step count the other optimizer's steps only; its hooks are reset with each batch."""
        optimizer._on_before_step = lambda: profiler_of(self.trainer).start("optimizer_step")
        optimizer._on_after_step = lambda: profiler_of(self.trainer).stop("optimizer_step")

    def both_optimizers(self) -> list[LightningOptimizer]:
        """Returns the optimizers of the generator and of the discriminator, as Lightning wraps them."""
        return cast(list[LightningOptimizer], self.optimizers())

    def configure_optimizers(self) -> list[dict]:
        """Returns an optimizer and a schedule for the generator, and the same for the discriminator.

        All weights are trained by Adam, except the inner matrices of both networks, which Muon trains where
        gan.matrix_learning_rate and gan.discriminator_matrix_learning_rate are above 0.
        """
        config, self.average.weights = self.config, None  # the optimizers hold the weights of today's device as well
        prior = list(self.generator.latent_prior.parameters())
        inner = self.generator.inner_matrices() if config.matrix_learning_rate > 0 else []
        apart = {id(weight) for weight in prior + inner}
        drawing = [weight for weight in self.generator.parameters() if id(weight) not in apart]
        drawing += self.posterior.parameters() if self.posterior is not None else []
        generator = [
            {"params": drawing, "lr": config.learning_rate},
            {"params": prior, "lr": config.latent_prior_learning_rate},
            {"params": inner, "lr": config.matrix_learning_rate, "orthogonal": True},
        ]
        inner = self.discriminator.inner_matrices() if config.discriminator_matrix_learning_rate > 0 else []
        apart = {id(weight) for weight in inner}
        judging = [weight for weight in self.discriminator.parameters() if id(weight) not in apart]
        discriminator = [{"params": judging, "lr": config.discriminator_learning_rate}]
        if inner:
            matrices = {"params": inner, "lr": config.discriminator_matrix_learning_rate, "orthogonal": True}
            discriminator.append(matrices)
        optimizers = [Muon(groups, self.betas()) for groups in (generator, discriminator)]
        rates = [[self.rate, self.prior_rate, self.rate], self.rate]
        return [{"optimizer": o, "lr_scheduler": LambdaLR(o, rate)} for o, rate in zip(optimizers, rates, strict=True)]

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Adds what sampling needs beside the weights, and the number of images seen."""
        checkpoint["sampler"] = {
            "generator": asdict(self.generator.config),
            "text": self.text_encoder.spec(),
            "resolution": self.resolution,
            "inverter": self.inverter_settings(),
        }
        checkpoint["images_seen"], checkpoint["prior_alone_since"] = self.images_seen, self.average.prior_alone_since
        if self.adaptive is not None:
            checkpoint["adaptive_augmentation"] = self.adaptive.state()

    def inverter_settings(self) -> dict | None:
        """Returns the settings of the posterior; None without one, or where its encoder does not travel."""
        if self.posterior is None:
            return None
        sizes = self.resolution, self.text_encoder.dim, self.generator.config.noise_dim
        config = config_of(self.image_encoder, *sizes)
        return config and asdict(config)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Restores the number of images seen, and the state of adaptive augmentation where there is one."""
        self.images_seen, self.average.prior_alone_since = (
            checkpoint["images_seen"],
            checkpoint.get("prior_alone_since"),
        )
        if self.adaptive is not None and "adaptive_augmentation" in checkpoint:
            self.adaptive.restore(checkpoint["adaptive_augmentation"])
