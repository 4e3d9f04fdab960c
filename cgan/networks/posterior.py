"""The posterior of a conditional VAE: the noise that would redraw a real picture (CVAE-GAN, BicycleGAN)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.networks.discriminator import Trunk


class Posterior(nn.Module):
    """posterior(images (B, 3, H, W), sentence (B, D)) -> mean and log variance of the noise, each (B, Z)."""

    def __init__(self, resolution: int, text_dim: int, noise_dim: int, width: int, max_channels: int) -> None:
        super().__init__()
        self.trunk = Trunk(resolution, width, max_channels)
        self.hidden = nn.Linear(self.trunk.channels * 16 + text_dim, 256)
        self.moments = nn.Linear(256, 2 * noise_dim)

    def forward(self, images: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        sentence = F.normalize(sentence, dim=1) * sentence.shape[1] ** 0.5
        x = torch.cat([self.trunk(images).flatten(1), sentence], dim=1)
        mean, log_variance = self.moments(F.leaky_relu(self.hidden(x), 0.2)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 2)
