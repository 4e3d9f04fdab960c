"""Layers whose forward or backward pass is not torch's give torch's numbers."""

import pytest
import torch
from torch.nn import functional as F

from cgan.models.layers import (
    Doubled,
    LowPass,
    ModulatedNorm,
    average_pool,
    doubled,
    edge_repeated,
    halved_adjoint,
    pooled,
    to_pixels,
)


def some_map(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(shape, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def gradient_of(function, x: torch.Tensor) -> torch.Tensor:
    out = function(x)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return torch.autograd.grad((out * weights).sum(), x)[0]


@pytest.mark.parametrize("patch", [2, 4])
def test_an_average_pool_and_its_gradient_are_those_of_torch(patch):
    x = some_map(2, 3, 8, 8)
    assert torch.equal(average_pool(x, patch), F.avg_pool2d(x, patch))
    assert torch.equal(
        gradient_of(lambda y: average_pool(y, patch), x), gradient_of(lambda y: F.avg_pool2d(y, patch), x)
    )
    assert torch.equal(pooled(x, 8 // patch), F.avg_pool2d(x, patch))


def test_an_average_pool_can_be_differentiated_twice():
    x = some_map(1, 2, 4, 4, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda y: average_pool(y, 2).square(), x)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 2, 1, 1), (1, 2, 3, 5)])
def test_a_doubled_map_and_its_gradient_are_those_of_torch(shape):
    x = some_map(*shape)

    def by_torch(y: torch.Tensor) -> torch.Tensor:
        return F.interpolate(y, scale_factor=2, mode="bilinear")

    assert torch.equal(doubled(x), by_torch(x)) and torch.equal(doubled(x.detach()), by_torch(x))
    assert torch.equal(gradient_of(doubled, x), gradient_of(by_torch, x))
    on_a_gpu = gradient_of(by_torch, x)
    weights = torch.randn(by_torch(x).shape, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(halved_adjoint(halved_adjoint(weights, 2), 3), on_a_gpu, atol=1e-5)


@pytest.mark.slow
def test_pooling_and_doubling_compile_with_their_gradients():
    x = some_map(2, 3, 8, 8)
    for function in (lambda y: average_pool(y, 2), Doubled.apply):
        torch._dynamo.reset()
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
        assert torch.allclose(gradient_of(compiled, x), gradient_of(function, x), atol=1e-6)


def test_within_autocast_maps_keep_their_type():
    norm, style = ModulatedNorm(8, 4), torch.randn(2, 4)
    x = some_map(2, 8, 4, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x, style), doubled(x), average_pool(x, 2)
    assert all(y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last) for y in found)
    exact = norm(x.float(), style)
    assert (found[0] - exact).abs().max() < 0.02 * exact.abs().max()


def trained_head(equal_gain: bool) -> torch.nn.Sequential:
    torch.manual_seed(3)
    head = to_pixels(8, patch=2, equal_gain=equal_gain)
    for values in head.parameters():
        torch.nn.init.normal_(values)
    return head


def nyquist_share(images: torch.Tensor) -> float:
    """The power of what alternates from pixel to pixel, of all that is not constant."""
    power = torch.fft.fft2(images).abs().square().sum(dim=(0, 1))
    n = len(power) // 2
    return float((power[n].sum() + power[:, n].sum()) / (power.sum() - power[0, 0]))


def test_a_head_of_equal_gains_draws_no_lattice_on_a_constant_map():
    constant = torch.randn(2, 8, 1, 1).expand(-1, -1, 6, 6)
    images = trained_head(equal_gain=True)(constant)
    torch.testing.assert_close(images, images[:, :, :1, :1].expand_as(images))
    assert nyquist_share(trained_head(equal_gain=False)(constant)) > 0.5  # which a free head does


def test_a_head_of_equal_gains_draws_single_pixels_where_a_map_changes():
    images = trained_head(equal_gain=True)(some_map(2, 8, 6, 6))
    patches = images.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (B, 3, 6, 2, 6, 2)
    assert patches.std(dim=(3, 5)).mean() > 0.1 * images.std()


def test_a_head_of_equal_gains_starts_as_a_free_one_does():
    torch.manual_seed(0)
    free = to_pixels(8, patch=2)
    torch.manual_seed(0)
    equal = to_pixels(8, patch=2, equal_gain=True)
    assert all(torch.equal(a, b) for a, b in zip(free.parameters(), equal.parameters(), strict=True))
    x = some_map(2, 8, 6, 6)
    torch.testing.assert_close(free(x)[:, :, 2:-2, 2:-2], equal(x)[:, :, 2:-2, 2:-2])


def test_a_low_pass_keeps_what_is_constant_and_damps_what_alternates():
    alternating = torch.tensor([1.0, -1.0]).repeat(4).expand(2, 3, 8, 8)
    low_pass = LowPass(0.2)
    torch.testing.assert_close(low_pass(torch.ones(2, 3, 8, 8)), torch.ones(2, 3, 8, 8))
    torch.testing.assert_close(low_pass(alternating)[:, :, :, 1:-1], 0.2 * alternating[:, :, :, 1:-1])
    assert list(low_pass.state_dict()) == []  # a fixed filter is no weight


def test_a_head_ends_with_a_low_pass_where_it_draws_patches():
    assert isinstance(to_pixels(8, patch=2, low_pass=0.2)[-1], LowPass)
    assert not any(isinstance(layer, LowPass) for layer in to_pixels(8, patch=1, low_pass=0.2))


@pytest.mark.parametrize("border", [1, 2])
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_a_repeated_edge_is_the_padding_of_torch_and_so_is_its_gradient(border, format):
    x = some_map(2, 3, 4, 5).contiguous(memory_format=format)
    ours, theirs = (x.detach().clone().requires_grad_() for _ in range(2))
    padded = edge_repeated(ours, border)
    wanted = F.pad(theirs, (border,) * 4, mode="replicate")
    assert torch.equal(padded, wanted) and torch.equal(edge_repeated(x, border), wanted)
    weights = torch.randn_like(wanted)
    (padded * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_repeated_edge_keeps_the_type_of_the_map_under_autocast():
    for x in (some_map(2, 3, 4, 5).bfloat16(), some_map(2, 3, 4, 5).bfloat16().requires_grad_()):
        with torch.autocast("cpu", torch.bfloat16):
            assert edge_repeated(x, 1).dtype == torch.bfloat16


def test_the_gradient_of_a_repeated_edge_has_a_gradient_itself():
    x = some_map(1, 2, 3, 3).double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: edge_repeated(x, 1) ** 2, x)
