"""Fits a posterior and a reader to a frozen generator, so that real pictures can be redrawn and edited by captions.

The posterior first finds the latents of generated pictures, which are known (BiGAN, Donahue et al. 2017, learns such an
inverse), and then those that redraw real pictures through the frozen generator (CVAE-GAN, Bao et al. 2017). The reader
learns to complete the sentence of a user's caption to that of a caption which names all that is to be in the picture.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cgan.data.scenes.attributes import ATTRIBUTES, Scene
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.edits import NAMES, describe_all, describe_edit, edit_scene
from cgan.interfaces import ImageEncoder, ImageTextDataset, Report, TextFeatures, UserError, silent
from cgan.models.generators.base import Generator
from cgan.models.inverter import Inverter, config_of
from cgan.models.latent_prior import normalised
from cgan.models.layers import pooled
from cgan.models.posterior import MAP_SIZE
from cgan.pixels import as_floats
from cgan.sampling.pipeline import TextToImage
from cgan.training.losses import feature_matching_loss, multiscale_l1


@dataclass
class PosteriorFitConfig:
    """The sizes, losses and budget of a posterior that is fitted to a frozen generator."""

    generated: int = 6_000  # generated pictures, whose noise is known
    latents: int = 64_000  # of these, again and again, that are found first; this is cheap
    images: int = 4_000  # real pictures that are then redrawn
    readings: int = 96_000  # captions of edits that the reader completes
    read_images: int = 4_000  # real pictures that they are of
    edits_each: int = 4  # different captions of edits of each of them
    batch_size: int = 32  # of real pictures; twice as many of all others
    map_channels: int = 16
    hidden_dim: int = 192
    num_layers: int = 2
    reader_dim: int = 128
    learning_rate: float = 2e-3  # of Adam; it falls along a cosine, and starts again at half of it with real pictures
    pixel_weight: float = 5.0  # of L1 at several scales
    feature_weight: float = 3.0  # of the joint encoder's feature maps
    latent_weight: float = 1.0  # of the known latents of generated pictures
    seed: int = 0


BATCH_SIZE = 100  # pictures generated at once


class CaptionEdit(NamedTuple):
    """Captions of a picture's edit."""

    own: str  # all that is in the picture
    after: str  # all that is to be in the edited one
    told: str  # what a user would say of it


Terms = dict[str, float]  # of a loss, by name
CaptionEdits = Callable[[list[int], np.random.Generator], list[CaptionEdit]]  # of pictures at some indices


def edits_of(dataset: ImageTextDataset) -> CaptionEdits:
    """Returns what makes captions of edits: for scenes one changed attribute, otherwise another picture's caption."""
    if isinstance(dataset, Scenes) and dataset.level.scene is Scene and dataset.level.language == "en":
        return lambda indices, rng: [scene_edit(Scene(*dataset.attributes[i].tolist()), rng) for i in indices]

    def shuffled(indices: list[int], rng: np.random.Generator) -> list[CaptionEdit]:
        own = [str(rng.choice(dataset.captions_of(i))) for i in indices]
        others = [str(rng.choice(dataset.captions_of(int(i)))) for i in rng.integers(len(dataset), size=len(indices))]
        return [CaptionEdit(caption, other, other) for caption, other in zip(own, others, strict=True)]

    return shuffled


def scene_edit(scene: Scene, rng: np.random.Generator) -> CaptionEdit:
    """Returns captions of a scene and of the scene with one other attribute, of a combination not held out."""
    edit = edit_scene(scene, NAMES[int(rng.integers(len(ATTRIBUTES)))], rng, seen=True)
    return CaptionEdit(describe_all(scene, rng), describe_all(edit.after, rng), describe_edit(edit, rng))


class Pool(NamedTuple):
    """Pictures, and what the frozen encoder sees in them, in half precision."""

    images: Tensor  # (N, 3, H, W) in [-1, 1]
    maps: list[Tensor]  # as the posterior pools them

    def at(self, rows: list[int]) -> tuple[Tensor, list[Tensor]]:
        """Returns some pictures and their maps, in float32."""
        return self.images[rows].float(), [x[rows].float() for x in self.maps]


class PosteriorFit:
    """The networks and the losses of a fit."""

    def __init__(self, pipe: TextToImage, encoder: ImageEncoder, config: PosteriorFitConfig) -> None:
        self.pipe, self.config, self.encoder = pipe, config, encoder.eval().requires_grad_(False)
        self.generator: Generator = pipe.generator.eval().requires_grad_(False)
        sizes = pipe.generator.resolution, pipe.text_encoder.dim, pipe.generator.config.noise_dim
        more = {name: getattr(config, name) for name in ("map_channels", "hidden_dim", "num_layers", "reader_dim")}
        found = config_of(encoder, *sizes, **more)
        if found is None:
            raise UserError("a posterior is fitted on the image half of a joint encoder, which this one is not")
        self.inverter = Inverter(found, encoder)
        torch.nn.init.zeros_(self.inverter.posterior.moments.weight)  # it starts from the middle of the latents
        torch.nn.init.zeros_(self.inverter.posterior.moments.bias)

    @torch.no_grad()
    def text(self, captions: list[str]) -> TextFeatures:
        """Returns the features of captions."""
        return self.pipe.text_encoder(captions)

    def drawn(self, images: Tensor, text: TextFeatures) -> Tensor:
        """Returns the pictures (B, 3, H, W) that latents found in images draw, with the same or with other captions."""
        return self.generator.synthesize(self.inverter.moments(images, text.sentence)[0], text)

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        """Returns how far pictures (B, 3, H, W) are from others, by pixels and by frozen feature maps."""
        with torch.no_grad():
            maps = self.encoder(target).maps
        features = feature_matching_loss(self.encoder(images).maps, maps)
        return self.config.pixel_weight * multiscale_l1(images, target) + self.config.feature_weight * features

    @torch.no_grad()
    def pool(self, batches: Iterable[Tensor]) -> Pool:
        """Returns the pictures of batches (B, 3, H, W) in [-1, 1], with their maps."""
        parts = []
        for images in batches:
            maps = [pooled(x, min(x.shape[-1], MAP_SIZE)).half() for x in self.encoder(images).maps]
            parts.append([images.half(), *maps])
        images, *maps = (torch.cat(column) for column in zip(*parts, strict=True))
        return Pool(images, maps)

    @torch.no_grad()
    def generated(self, noise: Tensor, captions: list[str]) -> Iterator[Tensor]:
        """Yields pictures of noise (N, Z) and captions in batches."""
        for start in range(0, len(captions), BATCH_SIZE):
            some = slice(start, start + BATCH_SIZE)
            yield self.generator(noise[some], self.text(captions[some]))

    def latent_loss(self, pool: Pool, rows: list[int], noise: Tensor, captions: list[str]) -> tuple[Tensor, Terms]:
        """Returns how badly latents of a pool of generated pictures are found, and the terms of it.

        noise (N, Z) and captions are those of all of the pool.
        """
        text = self.text([captions[row] for row in rows])
        with torch.no_grad():
            latents = self.generator.latent_prior(noise[rows], text)
        loss = negative_log_density(latents, *self.inverter.posterior(*pool.at(rows), text.sentence))
        return self.config.latent_weight * loss, {"latent": float(loss.detach())}

    def sentences(self, edits: list[CaptionEdit]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the sentences, each (N, D), of pictures, of edited ones, and of what a user says of these."""
        batches = [edits[i : i + BATCH_SIZE] for i in range(0, len(edits), BATCH_SIZE)]
        encoded = [[self.text(list(column)).sentence for column in zip(*some, strict=True)] for some in batches]
        own, after, told = (torch.cat(column) for column in zip(*encoded, strict=True))
        return own, after, told

    def reading_loss(
        self, pool: Pool, rows: list[int], own: Tensor, after: Tensor, told: Tensor
    ) -> tuple[Tensor, Terms]:
        """Returns how badly the reader completes sentences (B, D) of some pictures of a pool, and the terms of it.

        From a user's caption of an edit it has to make the sentence of all that is in the edited picture. From nothing,
        in one picture of four, it has to make that of the picture itself.
        """
        assert self.inverter.reader is not None  # reader_dim is above 0
        nothing = (torch.arange(len(rows)) % 4 == 0)[:, None]
        given, wanted = torch.where(nothing, 0, told), normalised(torch.where(nothing, own, after))
        mean, _ = self.inverter.reader(*pool.at(rows), given)
        loss = (mean - wanted).square().mean()
        return loss, {"reading": float(loss.detach())}

    def redrawing_loss(self, images: Tensor, captions: list[str]) -> tuple[Tensor, Terms]:
        """Returns how badly real images (B, 3, H, W) in [-1, 1] are redrawn by their captions, and the terms of it."""
        distance = self.distance(self.drawn(images, self.text(captions)), images)
        return distance, {"redrawing": float(distance.detach())}


def negative_log_density(latents: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns the negative log density, per number and up to a constant, of latents (B, Z) by their moments."""
    return 0.5 * ((latents - mean).square() / log_variance.exp() + log_variance).mean()


def fit_posterior(
    pipe: TextToImage,
    encoder: ImageEncoder,
    dataset: ImageTextDataset,
    config: PosteriorFitConfig | None = None,
    start: Inverter | None = None,
    report: Report = silent,
) -> Inverter:
    """Returns the fitted posterior of a frozen generator, in evaluation mode.

    encoder is the image half of a joint encoder; dataset has pictures at the generator's resolution. The pipeline and
    the encoder stay as they are. start is a posterior of the same sizes to go on from. report gets a line now and then
    with the losses. Raises UserError for a data set of another resolution, and for a start of other sizes.
    """
    config = config or PosteriorFitConfig()
    check_fit(pipe, dataset, config)
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it is
        torch.manual_seed(config.seed)
        fit = PosteriorFit(pipe, encoder, config)
        if start is not None:
            go_on_from(fit, start)
        draws = Draws(dataset, np.random.default_rng(config.seed))
        find_latents(fit, draws, report)
        complete_captions(fit, draws, report)
    return fit.inverter.eval().requires_grad_(False)


def go_on_from(fit: PosteriorFit, start: Inverter) -> None:
    """Copies the weights of a fitted posterior; raises UserError where its sizes or its encoder are others."""
    if start.config != fit.inverter.config:
        raise UserError("the posterior to go on from has other sizes or another encoder; fit one from the beginning")
    fit.inverter.load_state_dict(start.state_dict())


class Draws:
    """Random pictures and captions of a data set."""

    def __init__(self, dataset: ImageTextDataset, rng: np.random.Generator) -> None:
        self.dataset, self.rng, self.edits_of = dataset, rng, edits_of(dataset)

    def indices(self, num: int) -> list[int]:
        """Returns random indices of pictures."""
        return self.rng.integers(len(self.dataset), size=num).tolist()

    def edits(self, indices: list[int]) -> list[CaptionEdit]:
        """Returns a random edit of each picture."""
        return self.edits_of(indices, self.rng)

    def captions(self, indices: list[int]) -> list[str]:
        """Returns a random caption of each picture."""
        return [str(self.rng.choice(self.dataset.captions_of(i))) for i in indices]

    def whole_captions(self, indices: list[int]) -> list[str]:
        """Returns a caption of all that is in each picture."""
        return [edit.own for edit in self.edits(indices)]

    def images(self, indices: list[int]) -> Tensor:
        """Returns pictures (B, 3, H, W) in [-1, 1]."""
        return as_floats(torch.stack([self.dataset[i].image for i in indices]))

    def any_captions(self, num: int) -> list[str]:
        """Returns captions of random pictures, half of which say all that is in them."""
        indices = self.indices(num)
        pairs = zip(self.captions(indices), self.edits(indices), strict=True)
        return [edit.own if i % 2 else caption for i, (caption, edit) in enumerate(pairs)]


def find_latents(fit: PosteriorFit, draws: Draws, report: Report) -> None:
    """Trains the posterior on latents of generated pictures, and then also on redrawing real ones."""
    config, captions = fit.config, draws.any_captions(fit.config.generated)
    noise = torch.randn(len(captions), fit.inverter.config.noise_dim)
    report(f"generating {len(captions):,} pictures")
    pool, size = fit.pool(fit.generated(noise, captions)), config.batch_size

    def latent_loss() -> tuple[Tensor, Terms]:
        return fit.latent_loss(pool, draws.rng.integers(len(captions), size=2 * size).tolist(), noise, captions)

    weights = list(fit.inverter.posterior.parameters())
    steps = Steps(weights, config.latents // (2 * size), config.learning_rate, report)
    for _ in range(steps.total):
        steps.take(*latent_loss())
    steps = Steps(weights, config.images // size, config.learning_rate / 2, report)
    for _ in range(steps.total):
        indices = draws.indices(size)
        redrawing, terms = fit.redrawing_loss(draws.images(indices), draws.whole_captions(indices))
        latent, more = latent_loss()
        steps.take(redrawing + latent, terms | more)


def complete_captions(fit: PosteriorFit, draws: Draws, report: Report) -> None:
    """Trains the reader on real pictures with captions of edits."""
    config = fit.config
    if fit.inverter.reader is None:
        return
    indices = draws.rng.permutation(len(draws.dataset))[: config.read_images].tolist()
    report(f"looking at {len(indices):,} pictures")
    pool = fit.pool(draws.images(indices[i : i + BATCH_SIZE]) for i in range(0, len(indices), BATCH_SIZE))
    size, sentences = 2 * config.batch_size, fit.sentences(draws.edits(indices * config.edits_each))
    steps = Steps(list(fit.inverter.reader.parameters()), config.readings // size, config.learning_rate, report)
    for _ in range(steps.total):
        chosen = draws.rng.integers(len(sentences[0]), size=size).tolist()
        some = [column[chosen] for column in sentences]
        steps.take(*fit.reading_loss(pool, [row % len(indices) for row in chosen], *some))


class Steps:
    """Steps of Adam on weights, with a rate that falls along a cosine, and reports of moving averages."""

    def __init__(self, weights: list[nn.Parameter], total: int, learning_rate: float, report: Report) -> None:
        self.weights = weights
        self.optimizer = torch.optim.Adam(self.weights, betas=(0.9, 0.99))
        self.total, self.learning_rate, self.report = total, learning_rate, report
        self.start, self.taken, self.means = time.monotonic(), 0, {}

    def take(self, loss: Tensor, terms: Terms) -> None:
        """Takes a step by a loss, and now and then reports its terms."""
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * rate(self.taken / self.total)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.taken += 1
        self.means = {name: self.means.get(name, value) * 0.95 + 0.05 * value for name, value in terms.items()}
        if self.taken == self.total or self.taken % max(1, self.total // 10) == 0:
            losses = ", ".join(f"{name} {value:.3f}" for name, value in self.means.items())
            self.report(f"step {self.taken:,} of {self.total:,} in {time.monotonic() - self.start:.0f} s: {losses}")


def rate(progress: float) -> float:
    """Returns the factor of the learning rate: a short warm-up, then a cosine to 0."""
    return min(1.0, progress / 0.02 + 0.05) * 0.5 * (1 + math.cos(math.pi * progress))


def check_fit(pipe: TextToImage, dataset: ImageTextDataset, config: PosteriorFitConfig) -> None:
    """Raises UserError where there are no pictures, or where they have another resolution than the generator's."""
    if len(dataset) == 0 or config.batch_size < 2 or config.generated < 1:
        raise UserError("a posterior is fitted to at least one picture, in batches of at least 2")
    found, expected = dataset[0].image.shape[-1], pipe.generator.resolution
    if found != expected:
        raise UserError(f"the pictures have {found} px and the generator {expected}; set data.resolution={expected}")
