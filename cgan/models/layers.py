"""Building blocks of the generators and discriminators."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cgan.models.float32 import in_float32


def channels_at(resolution: int, full_resolution: int, width: int, max_channels: int) -> int:
    """Returns the channels at a resolution: `width` at full resolution, doubled with each halving, up to a limit."""
    return min(width * full_resolution // resolution, max_channels)


def num_groups(channels: int) -> int:
    """Returns a number of groups, of about 16 channels each, that divides the channels."""
    return next(n for n in range(max(1, channels // 16), 0, -1) if channels % n == 0)


class Averaged(torch.autograd.Function):
    """The autograd function of average_pool."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, patch: int) -> Tensor:
        """Returns means over patches."""
        ctx.patch = patch
        return F.avg_pool2d(x, patch)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Returns each patch's share of the gradient: the numbers of avg_pool2d, whose own kernel is far slower."""
        with in_float32(gradient):  # in the type of the gradient: on GPUs autocast would widen it
            return F.interpolate(gradient / ctx.patch**2, scale_factor=ctx.patch, mode="nearest"), None


def average_pool(x: Tensor, patch: int) -> Tensor:
    """Returns means of a map (B, C, H, W) over patches, (B, C, H / patch, W / patch); patch must divide H and W."""
    return Averaged.apply(x, patch)


def pooled(x: Tensor, size: int) -> Tensor:
    """Returns means over equal patches, (B, C, size, size), or by adaptive pooling, which is slow, if none fit."""
    if x.shape[-1] == size:
        return x
    return average_pool(x, x.shape[-1] // size) if x.shape[-1] % size == 0 else F.adaptive_avg_pool2d(x, size)


class Doubled(torch.autograd.Function):
    """The autograd function of doubled."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Returns the map at twice its resolution."""
        ctx.shape = x.shape
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Returns the gradient of the map; on GPUs without atomic additions, whose order and rounding vary."""
        with in_float32(gradient):
            if gradient.is_cuda:
                return halved_adjoint(halved_adjoint(gradient, 2), 3)
            size = list(gradient.shape[2:])
            return torch.ops.aten.upsample_bilinear2d_backward(gradient, size, list(ctx.shape), False, 2.0, 2.0)


def halved_adjoint(gradient: Tensor, dim: int) -> Tensor:
    """Returns the gradient of what was doubled along a dimension: weights 1/4, 3/4, 3/4, 1/4, with edges repeated."""
    even, odd = gradient.unflatten(dim, (-1, 2)).unbind(dim + 1)
    last = even.shape[dim] - 1
    before = torch.cat([even.narrow(dim, 0, 1), odd.narrow(dim, 0, last)], dim)
    after = torch.cat([even.narrow(dim, 1, last), odd.narrow(dim, last, 1)], dim)
    return 0.75 * (even + odd) + 0.25 * (before + after)


def doubled(x: Tensor) -> Tensor:
    """Returns a map (B, C, 2H, 2W), interpolated bilinearly in its own type: on GPUs autocast would widen it."""
    with in_float32(x):
        if x.requires_grad:
            return cast(Tensor, Doubled.apply(x))
        return F.interpolate(x, scale_factor=2, mode="bilinear")


class ModulatedNorm(nn.Module):
    """Group normalisation, scaled and shifted by a style (FiLM, Perez et al. 2018; AdaGN, Dhariwal and Nichol 2021)."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups(channels), channels, affine=False)
        self.modulation = nn.Linear(style_dim, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Returns a normalised map (B, C, H, W), scaled and shifted by styles (B, style_dim)."""
        scale, shift = self.modulation(style).unflatten(1, (2, -1, 1, 1)).unbind(1)  # (B, C, 1, 1)
        with in_float32(x):  # in its own type: sums are in float32 anyway, and on GPUs autocast would widen it
            x = self.norm(x)
        return torch.addcmul(shift.to(x.dtype), x, 1 + scale.to(x.dtype))


class WordAttention(nn.Module):
    """Adds to each position of a map the words it attends to (AttnGAN, Xu et al. 2018, equations 8 and 9)."""

    def __init__(self, channels: int, text_dim: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Linear(text_dim, 2 * channels)
        self.merge = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.merge.weight)

    def forward(self, x: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Returns a map (B, C, H, W) with attended words (B, L, D) added; mask (B, L) is True for real words."""
        query = self.query(x).flatten(2).transpose(1, 2)[:, None]  # (B, 1, HW, C): one head, which ONNX asks for
        key, value = self.key_value(words)[:, None].chunk(2, dim=-1)  # (B, 1, L, C)
        seen = F.scaled_dot_product_attention(query, key.to(query.dtype), value.to(query.dtype), mask[:, None, None, :])
        return x + self.merge(seen[:, 0].transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """A residual block that first halves the resolution, which is far cheaper, then applies two 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map (B, C', H/2, W/2) of a map (B, C, H, W)."""
        x = average_pool(x, 2)  # (B, C, H/2, W/2)
        shortcut = self.shortcut(x)  # (B, C', H/2, W/2)
        x = self.first(F.leaky_relu(x, 0.2))
        return (shortcut + self.second(F.leaky_relu(x, 0.2))) * math.sqrt(0.5)


class AtMost(torch.autograd.Function):
    """The autograd function of at_most."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, largest: float) -> Tensor:
        """Returns x limited to `largest`."""
        ctx.save_for_backward(x >= largest)
        return x.clamp(max=largest)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Returns the gradient, with 0 where x is at or above the limit and a step would raise it further."""
        (beyond,) = ctx.saved_tensors
        return gradient.masked_fill(beyond & (gradient < 0), 0), None  # a step goes against the gradient


def at_most(x: Tensor, largest: float) -> Tensor:
    """Returns x limited to a largest value, for learned parameters, which can still fall below it again.

    torch.clamp has no gradient beyond its limit; this function drops only gradients that lead further away.
    """
    return AtMost.apply(x, largest)


def recomputed(network: nn.Module, *inputs: Tensor) -> Any:
    """Returns the output of a network whose activations are computed again in the backward pass (Chen et al. 2016)."""
    return checkpoint(network, *inputs, use_reentrant=False, preserve_rng_state=False)


class EdgeRepeated(torch.autograd.Function):
    """The autograd function of edge_repeated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, border: int) -> Tensor:
        """Returns the map with its edge repeated."""
        ctx.border = border
        with in_float32(x):  # in its own type: on CPUs autocast would widen it
            return F.pad(x, (border,) * 4, mode="replicate")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Returns the gradient of the map, to whose edge the gradients of the border are added in a fixed order."""
        return folded(folded(gradient, 2, ctx.border), 3, ctx.border), None


def folded(x: Tensor, dim: int, border: int) -> Tensor:
    """Returns a map without its border along a dimension, which is added to the first and last places inside."""
    size = x.shape[dim] - 2 * border
    inner = x.narrow(dim, border, size).clone()
    inner.narrow(dim, 0, 1).add_(x.narrow(dim, 0, border).sum(dim, keepdim=True))
    inner.narrow(dim, size - 1, 1).add_(x.narrow(dim, border + size, border).sum(dim, keepdim=True))
    return inner


def edge_repeated(x: Tensor, border: int) -> Tensor:
    """Returns a map (B, C, H + 2 border, W + 2 border) of a map (B, C, H, W), whose edge is repeated around it.

    The gradient of padding mode "replicate" is added atomically on GPUs, where its rounding varies; this one's is not.
    """
    if x.requires_grad:
        return cast(Tensor, EdgeRepeated.apply(x, border))
    with in_float32(x):
        return F.pad(x, (border,) * 4, mode="replicate")


class EqualGainConv2d(nn.Conv2d):
    """A convolution to patches of pixels, of which all pixels have one gain for a constant map, and one bias.

    Smooth areas therefore have no lattice of the patch's size, by construction (Sugawara et al. 2018, section 3);
    pixels of a patch differ where the map changes from place to place. Weights are as of nn.Conv2d, (3 patch^2, C, k,
    k), with a patch's pixels next to each other.
    """

    def __init__(self, channels: int, patch: int, kernel: int) -> None:
        super().__init__(channels, 3 * patch**2, kernel, padding=kernel // 2)
        self.num_pixels, self.border = patch**2, kernel // 2

    def equalized(self, values: Tensor) -> Tensor:
        """Returns weights or biases whose sum over the kernel's places is the patch's mean for each of its pixels."""
        pixels = values.unflatten(0, (3, self.num_pixels))  # (3, P, C, k, k), or (3, P)
        gain = pixels.mean(dim=(3, 4), keepdim=True) if values.dim() > 1 else pixels
        return (pixels + (gain.mean(dim=1, keepdim=True) - gain)).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map (B, 3 patch^2, H, W) of a map (B, C, H, W), whose edge is repeated beyond its border."""
        assert self.bias is not None
        if self.border:
            x = edge_repeated(x, self.border)  # (B, C, H + k - 1, W + k - 1)
        return F.conv2d(x, self.equalized(self.weight), self.equalized(self.bias))


class LowPass(nn.Module):
    """A fixed filter [s, 1 - 2s, s] along rows and columns: 1 - 4s is left of what alternates from pixel to pixel."""

    kernel: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        line = torch.tensor([share, 1 - 2 * share, share])
        self.register_buffer("kernel", (line[:, None] * line).expand(3, 1, 3, 3).contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns images (B, 3, H, W) of images (B, 3, H, W), whose edge is repeated beyond their border."""
        x = edge_repeated(x, 1)  # (B, 3, H + 2, W + 2)
        return F.conv2d(x, self.kernel.to(x.dtype), groups=3)


def to_pixels(
    channels: int, patch: int, kernel: int = 3, equal_gain: bool = False, low_pass: float = 0.0
) -> nn.Sequential:
    """Returns layers from a map (B, C, H, W) to images (B, 3, patch H, patch W); see EqualGainConv2d and LowPass.

    At initialisation all pixels of a patch are equal.
    """
    if equal_gain and patch > 1:
        layer = EqualGainConv2d(channels, patch, kernel)
    else:
        layer = nn.Conv2d(channels, 3 * patch**2, kernel, padding=kernel // 2)
    start_without_checkerboard(layer, patch**2)
    last = [LowPass(low_pass)] if low_pass > 0 and patch > 1 else []
    return nn.Sequential(layer, nn.PixelShuffle(patch), *last)


@torch.no_grad()
def start_without_checkerboard(layer: nn.Conv2d, num_pixels: int) -> None:
    """Sets weights so that initially all num_pixels pixels of a patch are equal (ICNR, Aitken et al. 2017)."""
    assert layer.bias is not None  # all callers' layers have one
    for values in (layer.weight, layer.bias):
        values.copy_(values[::num_pixels].repeat_interleave(num_pixels, dim=0))
