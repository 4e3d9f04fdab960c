"""Inverter: finds the noise from which a generator redraws a picture, by a posterior on frozen feature maps."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from cgan.interfaces import ImageEncoder, TextFeatures
from cgan.models.encoders.restoring import image_encoder_spec, restore_image_encoder
from cgan.models.latent_prior import Prior, sentence_alone
from cgan.models.posterior import Posterior

READER_CHANNELS = 8  # that each map is reduced to
LONGEST = 1.0  # length of noise that is kept, over that of normal noise, sqrt(Z)
UNUSED = "image_encoder.embedding."  # of the small encoder, whose maps alone are used


@dataclass
class InverterConfig:
    """The sizes of a posterior, and the frozen encoder that it stands on."""

    resolution: int = 64
    text_dim: int = 128
    noise_dim: int = 64
    map_channels: int = 32
    hidden_dim: int = 256
    num_layers: int = 0
    reader_dim: int = 0  # hidden units of the reader; 0: none, as of a posterior trained with its GAN
    image_encoder: dict | None = field(default=None)  # its image_encoder_spec; None: the posterior has its own trunk


class Inverter(nn.Module):
    """inverter(images (B, 3, H, W), text, prior) -> noise (B, Z) from which a generator redraws the images.

    The posterior finds latents. The inverse of the latent prior turns them into noise, which is normal for every
    caption, so that it can be drawn with another caption, and mixed with other noise. What is longer than normal noise
    is shortened, as the prior knows nothing out there. A reader completes captions by what is in a picture.
    """

    def __init__(self, config: InverterConfig, image_encoder: ImageEncoder | None = None) -> None:
        super().__init__()
        if image_encoder is None and config.image_encoder is not None:
            image_encoder = restore_image_encoder(config.image_encoder)
        self.config, self.image_encoder = config, image_encoder
        maps = None
        if image_encoder is not None:
            sizes = image_encoder.map_sizes(config.resolution)
            maps = list(zip(image_encoder.map_channels, sizes, strict=True))
            image_encoder.eval().requires_grad_(False)
        sizes = config.resolution, config.text_dim, config.noise_dim
        self.posterior = Posterior(*sizes, maps, config.map_channels, config.hidden_dim, config.num_layers)
        self.reader = None
        if config.reader_dim > 0:
            sizes = config.resolution, config.text_dim, config.text_dim
            self.reader = Posterior(*sizes, maps, READER_CHANNELS, config.reader_dim, num_layers=1)

    def train(self, mode: bool = True) -> "Inverter":
        """Sets the mode of the posterior; the frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.image_encoder is not None:
            self.image_encoder.eval()
        return self

    def moments(self, images: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean and the log variance of latents, each (B, Z).

        images are (B, 3, H, W) in [-1, 1] and sentences (B, D).
        """
        return self.posterior(images, self.maps(images), sentence)

    @torch.no_grad()
    def maps(self, images: Tensor) -> list[Tensor]:
        """Returns the frozen feature maps of images (B, 3, H, W) in [-1, 1]; none without an encoder."""
        return [] if self.image_encoder is None else self.image_encoder(images).maps

    def completed(self, images: Tensor, sentence: Tensor) -> Tensor:
        """Returns sentences (B, D) of all that is in images but where the given sentences (B, D) say otherwise.

        A sentence of zeros says nothing. Without a reader sentences are returned as they are.
        """
        if self.reader is None:
            return sentence
        return self.reader(images, self.maps(images), sentence)[0]

    def forward(self, images: Tensor, text: TextFeatures, prior: Prior) -> Tensor:
        """Returns noise (B, Z) from which the generator redraws images (B, 3, H, W).

        The text is that of the pictures; the sentence of a reader takes its place where there is one.
        """
        own = text
        if self.reader is not None:
            own = sentence_alone(self.completed(images, torch.zeros_like(text.sentence)))
        noise = prior.inverse(self.moments(images, own.sentence)[0], own)
        longest = LONGEST * self.config.noise_dim**0.5
        return noise * (longest / noise.norm(dim=1, keepdim=True).clamp(min=1e-6)).clamp(max=1)

    def spec(self) -> str:
        """Returns the settings as JSON, by which `restore_inverter` builds the networks again."""
        return json.dumps(asdict(self.config))

    def tensors(self) -> dict[str, Tensor]:
        """Returns the weights that travel, by name."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(UNUSED)}


def restore_inverter(spec: str, tensors: Mapping[str, Tensor]) -> Inverter:
    """Returns an Inverter in evaluation mode of its spec() and tensors(); raises torch's errors where they differ."""
    inverter = Inverter(InverterConfig(**json.loads(spec)))
    known = {name: value for name, value in inverter.state_dict().items() if name.startswith(UNUSED)}
    inverter.load_state_dict({**known, **tensors})
    return inverter.eval().requires_grad_(False)


def config_of(
    encoder: ImageEncoder | None, resolution: int, text_dim: int, noise_dim: int, **sizes: object
) -> InverterConfig | None:
    """Returns the configuration of a posterior on an encoder; None where that encoder does not travel."""
    spec = None if encoder is None else image_encoder_spec(encoder)
    if encoder is not None and spec is None:
        return None
    return InverterConfig(resolution, text_dim, noise_dim, image_encoder=spec, **sizes)  # pyright: ignore[reportArgumentType]
