"""The base of text-conditioned generators: settings, latent prior, and a forward pass from noise to images."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from cgan.interfaces import TextFeatures
from cgan.models.layers import recomputed
from cgan.models.priors import build_prior
from cgan.renamed import weights_renamed


@dataclass
class GeneratorConfig:
    """The architecture of a generator and of its latent prior."""

    form: Literal["modulated", "dfgan", "r3gan"] = "modulated"  # the architecture: the project's own, or as in the
    # paper of that name
    noise_dim: int = 64  # numbers in the noise and in a latent (Z)
    style_dim: int = 256  # numbers in the style that modulates blocks; in form dfgan the hidden units of each affine
    # network
    width: int = 16  # channels of the generator at full resolution, doubled with each halving
    max_channels: int = 256  # largest number of channels in a layer of the generator
    patch: int = 2  # width and height in pixels that a position of the last feature map draws: 2 is far cheaper than 1
    equal_gain: bool = True  # one gain for all pixels of a patch, so that smooth areas have no lattice of its size; of
    # form modulated
    low_pass: float = 0.2  # share of each neighbour in a fixed filter of a patch's pixels, against a lattice of two
    # pixels; 0: none; of form modulated
    positional_bias: bool = True  # learned constants for each position, which a style may show; of form modulated
    word_attention: bool = False  # attention from the feature map of 16 x 16 to the caption's words
    latent_prior: Literal["word_flow", "flow_matching", "couplings"] = "flow_matching"  # the network that turns noise
    # into latents: flow matching with attention to the caption's words, or by its sentence alone, or couplings
    latent_prior_layers: int = 3  # residual blocks, or couplings, of the latent prior; with 0 the noise itself is the
    # latent
    latent_prior_dim: int = 384  # hidden units in each layer of the latent prior
    latent_prior_guidance: float = 3.0  # how far a flow goes with the caption, away from what it does without one
    # (classifier-free guidance); 1: as learned, and no caption is left out in training

    @property
    def uses_words(self) -> bool:
        """Whether pictures depend on the features of single words, not on those of sentences alone."""
        return self.word_attention or (self.latent_prior == "word_flow" and self.latent_prior_layers > 0)


class Generator(nn.Module, ABC):
    """Maps noise (B, Z) and text to images (B, 3, H, W) in [-1, 1]; `synthesize` starts from a latent instead."""

    blocks: nn.ModuleList  # coarsest first
    recompute = False  # whether the backward pass computes the blocks' activations again

    def __init__(self, config: GeneratorConfig, resolution: int, text_dim: int) -> None:
        super().__init__()
        self.config, self.resolution = config, resolution
        sizes = config.noise_dim, text_dim, config.latent_prior_layers, config.latent_prior_dim
        self.latent_prior = build_prior(config.latent_prior, *sizes, config.latent_prior_guidance)
        self.register_load_state_dict_pre_hook(weights_renamed(prior="latent_prior", places="positional_bias"))

    def forward(self, noise: Tensor, text: TextFeatures) -> Tensor:
        """Returns images (B, 3, H, W) in [-1, 1], in float32, of noise (B, Z) and text."""
        return self.synthesize(self.latent_prior(noise, text), text)

    def through(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        """Returns a block's output; with `recompute` its activations are computed again in the backward pass."""
        return recomputed(block, *inputs) if self.recompute else block(*inputs)

    @abstractmethod
    def synthesize(self, latent: Tensor, text: TextFeatures) -> Tensor:
        """Returns images (B, 3, H, W) in [-1, 1] of latents (B, Z) and text."""

    def inner_matrices(self) -> list[Tensor]:
        """Returns the weights of the convolutions in `blocks`, which Muon may train."""
        return [layer.weight for layer in self.blocks.modules() if isinstance(layer, nn.Conv2d)]
