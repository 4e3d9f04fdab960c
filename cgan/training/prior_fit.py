"""Fits a latent prior anew to a frozen generator, on latents that a posterior finds in real pictures.

The generator of a GAN is trained on latents of its posterior alone, so that another prior may take the place of the one
that was trained beside it: of another form, or of another size, or after more steps.
"""

import copy
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cgan.interfaces import ImageTextDataset, Report, UserError, silent
from cgan.machine import cpu_has_bfloat16
from cgan.models.generators.base import GeneratorConfig
from cgan.models.inverter import Inverter
from cgan.models.latent_prior import NoPrior, Prior
from cgan.models.priors import build_prior
from cgan.pixels import as_floats
from cgan.sampling.pipeline import TextToImage
from cgan.sampling.weights import PARTS
from cgan.training.microbatch import PRIOR_SAMPLES, draw_told
from cgan.training.posterior_fit import Steps

AT_ONCE = 100  # pictures that the posterior sees at once
HALF_LIFE, RAMP_UP = 30_000, 0.25  # of the averaged prior, in images, and at most this share of those seen


@dataclass
class PriorFitConfig:
    """The form, the sizes and the budget of a prior that is fitted to a frozen generator."""

    form: Literal["word_flow", "flow_matching", "couplings"] = "word_flow"
    num_layers: int = 3
    hidden_dim: int = 384
    guidance: float = 3.0
    pictures: int = 60_000  # real ones, in which the posterior finds latents once
    captions: int = 3  # of each of them, with which it looks
    images: int = 600_000  # of these, again and again, that the prior is trained on
    batch_size: int = 32
    learning_rate: float = 3e-3  # of Adam; it falls along a cosine
    seed: int = 0


class Found(NamedTuple):
    """What a posterior finds in N pictures with a caption each."""

    captions: list[str]
    mean: Tensor  # (N, Z)
    log_variance: Tensor  # (N, Z)


def fit_prior(
    pipe: TextToImage,
    inverter: Inverter,
    dataset: ImageTextDataset,
    config: PriorFitConfig | None = None,
    report: Report = silent,
) -> TextToImage:
    """Returns a pipeline of the same generator with a prior that is fitted to the latents of a posterior.

    dataset has pictures at the generator's resolution. report gets a line now and then with the loss. Raises UserError
    for a data set of another resolution, or without pictures.
    """
    config = config or PriorFitConfig()
    if len(dataset) == 0 or dataset[0].image.shape[-1] != pipe.generator.resolution:
        raise UserError(f"a prior is fitted to pictures of the generator's resolution, {pipe.generator.resolution} px")
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it is
        torch.manual_seed(config.seed)
        rng = np.random.default_rng(config.seed)
        found = latents_in(pipe, inverter, dataset, config, rng)
        prior = fitted(pipe, found, config, rng, report)
    return with_prior(pipe, prior, config)


@torch.no_grad()
def latents_in(
    pipe: TextToImage, inverter: Inverter, dataset: ImageTextDataset, config: PriorFitConfig, rng: np.random.Generator
) -> Found:
    """Returns what a posterior finds in random pictures of a data set, with random captions of each."""
    indices, captions, moments = rng.permutation(len(dataset))[: config.pictures].tolist(), [], []
    for start in range(0, len(indices), AT_ONCE):
        some = indices[start : start + AT_ONCE]
        images = as_floats(torch.stack([dataset[i].image for i in some]))
        maps = inverter.maps(images)
        for _ in range(config.captions):
            told = [str(rng.choice(dataset.captions_of(i))) for i in some]
            moments.append(inverter.posterior(images, maps, pipe.text_encoder(told).sentence))
            captions += told
    mean, log_variance = (torch.cat(column) for column in zip(*moments, strict=True))
    return Found(captions, mean, log_variance)


def fitted(pipe: TextToImage, found: Found, config: PriorFitConfig, rng: np.random.Generator, report: Report) -> Prior:
    """Returns the average of a prior along its training, which is that of a GAN's step."""
    dims = found.mean.shape[1], pipe.text_encoder.dim
    prior = build_prior(config.form, *dims, config.num_layers, config.hidden_dim, config.guidance)
    if isinstance(prior, NoPrior):
        raise UserError("a prior without layers has nothing to fit; give at least one")
    averaged = copy.deepcopy(prior).eval().requires_grad_(False)
    steps = Steps(list(prior.parameters()), config.images // config.batch_size, config.learning_rate, report)
    for step in range(steps.total):
        rows = torch.from_numpy(rng.integers(len(found.captions), size=config.batch_size))
        with torch.no_grad():
            text = pipe.text_encoder([found.captions[i] for i in rows.tolist()])
        noise = torch.randn(len(rows) * PRIOR_SAMPLES, dims[0])
        mean, log_variance = (x[rows].repeat_interleave(PRIOR_SAMPLES, dim=0) for x in found[1:])
        latent, time = mean + noise * (log_variance / 2).exp(), torch.rand(len(noise), 1)
        told = draw_told(config.guidance, torch.rand(len(noise), 1))
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bfloat16()):
            loss = prior.loss(latent, text, noise, time, told)
        steps.take(loss, {"prior": float(loss.detach())})
        half_life = min(HALF_LIFE, RAMP_UP * (step + 1) * config.batch_size)
        share = 1 - 0.5 ** (config.batch_size / half_life)
        for mine, theirs in zip(averaged.parameters(), prior.parameters(), strict=True):
            mine.lerp_(theirs.detach(), share)
    return averaged


def with_prior(pipe: TextToImage, prior: Prior, config: PriorFitConfig) -> TextToImage:
    """Returns a pipeline of the same generator with another prior."""
    changes = {"latent_prior": config.form, "latent_prior_layers": config.num_layers}
    changes |= {"latent_prior_dim": config.hidden_dim, "latent_prior_guidance": config.guidance}
    settings: GeneratorConfig = replace(pipe.generator.config, **changes)  # pyright: ignore[reportArgumentType]
    mine = {f"{PARTS[0]}{name}": x for name, x in pipe.generator.state_dict().items() if not is_of_prior(name)}
    text = {name: x for name, x in pipe.tensors.items() if name.startswith(PARTS[1])}
    fitted = {f"{PARTS[0]}latent_prior.{name}": x for name, x in prior.state_dict().items()}
    return TextToImage({**pipe.spec, "generator": asdict(settings)}, mine | fitted | text, pipe.text_encoder)


def is_of_prior(name: str) -> bool:
    """Returns whether a weight of a generator is of its prior."""
    return name.startswith("latent_prior.")
