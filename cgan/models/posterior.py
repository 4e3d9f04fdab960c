"""The posterior of a conditional VAE: the noise that would redraw a real image (CVAE-GAN, BicycleGAN)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.models.discriminator import Trunk
from cgan.models.layers import pooled

MAP_SIZE = 8  # height and width that larger feature maps are pooled to
THUMBNAIL = 16  # pixels each way of the picture that is seen as it is


class ResidualLayer(nn.Module):
    """Adds two layers, on normalised units beside the sentence, to hidden units; it starts as the identity."""

    def __init__(self, hidden_dim: int, text_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_dim)
        self.first = nn.Linear(hidden_dim + text_dim, hidden_dim)
        self.second = nn.Linear(hidden_dim, hidden_dim)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, hidden: Tensor, sentence: Tensor) -> Tensor:
        """Returns hidden units (B, hidden_dim) of hidden units and sentences (B, D)."""
        return hidden + self.second(F.silu(self.first(torch.cat([self.norm(hidden), sentence], dim=1))))


class Posterior(nn.Module):
    """posterior(images (B, 3, H, W), maps, sentence (B, D)) -> mean and log variance of the noise, each (B, Z).

    It takes the frozen feature maps of images if there are any, otherwise those of its own pixel trunk. A thumbnail
    adds what features learned from captions leave out, such as which way a dog looks. maps are the channels and the
    size of each frozen map; map_channels is what each is reduced to, and num_layers counts residual layers of
    hidden_dim units.
    """

    def __init__(
        self,
        resolution: int,
        text_dim: int,
        noise_dim: int,
        maps: list[tuple[int, int]] | None = None,
        map_channels: int = 32,
        hidden_dim: int = 256,
        num_layers: int = 0,
    ) -> None:
        super().__init__()
        self.trunk = None
        if not maps:
            self.trunk = Trunk(resolution, 16, 128, "strided")
            maps = [(self.trunk.channels, 4)]
        self.reduce = nn.ModuleList(nn.Conv2d(channels, map_channels, 1) for channels, _ in maps)
        positions = sum(min(size, MAP_SIZE) ** 2 for _, size in maps)
        self.hidden = nn.Linear(map_channels * positions + 3 * THUMBNAIL**2 + text_dim, hidden_dim)
        self.layers = nn.ModuleList(ResidualLayer(hidden_dim, text_dim) for _ in range(num_layers))
        self.moments = nn.Linear(hidden_dim, 2 * noise_dim)

    def forward(self, images: Tensor, maps: list[Tensor], sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean and the log variance in [-8, 2], each (B, Z) float32; maps are ignored if it has a trunk."""
        if self.trunk is not None:
            maps = [self.trunk(images)]
        parts = [F.normalize(sentence, dim=1) * sentence.shape[1] ** 0.5]
        parts.append(pooled(images, THUMBNAIL).flatten(1))
        for reduce, x in zip(self.reduce, maps, strict=True):
            parts.append(reduce(pooled(x, min(x.shape[-1], MAP_SIZE))).flatten(1))
        hidden = F.leaky_relu(self.hidden(torch.cat(parts, dim=1)), 0.2)  # (B, hidden_dim)
        for layer in self.layers:
            hidden = layer(hidden, parts[0])
        mean, log_variance = self.moments(hidden).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 2)
