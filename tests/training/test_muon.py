import copy

import pytest
import torch
from torch import nn

from cgan.training.muon import Muon, orthogonalised, without_tf32


def trained(network: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_steps):
        optimizer.zero_grad()
        network(torch.randn(8, 6, generator=generator)).square().mean().backward()
        optimizer.step()
    return list(network.parameters())


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_all_singular_values_come_near_one_and_the_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    (found,), exact = orthogonalised([matrix]), torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5 and values.max() < 1.3
    assert nn.functional.cosine_similarity(found.flatten(), (exact.U @ exact.Vh).flatten(), dim=0) > 0.97


def test_groups_that_are_not_orthogonal_are_trained_by_adam():
    torch.manual_seed(0)
    mine = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    torchs = copy.deepcopy(mine)
    ours = trained(mine, Muon([{"params": mine.parameters(), "lr": 0.01}], betas=(0.5, 0.99)), 5)
    theirs = trained(torchs, torch.optim.Adam(torchs.parameters(), 0.01, betas=(0.5, 0.99)), 5)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_agrees_with_torchs_muon_on_matrices():
    torch.manual_seed(0)
    mine = nn.Linear(6, 9, bias=False)
    torchs = copy.deepcopy(mine)
    settings = {"weight_decay": 0.0, "momentum": 0.95, "adjust_lr_fn": "match_rms_adamw"}
    ours = trained(mine, Muon([{"params": mine.parameters(), "lr": 0.01, "orthogonal": True}]), 4)
    theirs = trained(torchs, torch.optim.Muon(torchs.parameters(), 0.01, **settings), 4)
    assert (ours[0] - theirs[0]).abs().max() < 0.02 * (theirs[0]).abs().max()  # torch's works in bfloat16


def test_a_convolution_is_a_matrix_and_steps_have_the_size_of_the_rate():
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last)
    before = layer.weight.detach().clone()
    optimizer = Muon([{"params": [layer.weight], "lr": 0.01, "orthogonal": True}])
    layer(torch.randn(2, 8, 8, 8)).square().mean().backward()
    optimizer.step()
    assert 0.5 * 0.002 < (layer.weight - before).square().mean().sqrt() < 1.5 * 0.002


def test_a_step_within_autocast_is_the_same():
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 128, 3)
    other = copy.deepcopy(layer)
    gradient = torch.randn(64, 576).cumsum(dim=1).repeat(2, 1).view_as(layer.weight)  # far from orthogonal
    for network, enabled in ((layer, False), (other, True)):
        optimizer = Muon([{"params": [network.weight], "lr": 0.01, "orthogonal": True}])
        network.weight.grad = gradient.clone()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            optimizer.step()
    assert torch.equal(layer.weight, other.weight)


def test_an_optimizer_goes_on_from_its_state():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))

    def optimizer_of(net: nn.Sequential) -> Muon:
        groups = [{"params": [net[0].weight], "orthogonal": True}, {"params": [net[0].bias, *net[2].parameters()]}]
        return Muon(groups)

    optimizer = optimizer_of(network)
    trained(network, optimizer, 3)
    other = copy.deepcopy(network)
    again = optimizer_of(other)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for a, b in zip(trained(network, optimizer, 3), trained(other, again, 3), strict=True):
        assert torch.equal(a, b)


def test_a_loaded_state_follows_its_weights_to_their_device():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))

    def optimizer_of(net: nn.Sequential) -> Muon:
        return Muon([{"params": [net[0].weight], "orthogonal": True}, {"params": [net[0].bias, *net[2].parameters()]}])

    optimizer = optimizer_of(network)
    trained(network, optimizer, 3)
    elsewhere = copy.deepcopy(network).to("meta")  # a device that is not the CPU, as a GPU is
    again = optimizer_of(elsewhere)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    states = [state for state in again.state.values()]
    assert [set(state) for state in states] == [{"momentum"}] + [{"exp_avg", "exp_avg_sq", "step"}] * 3
    assert all(value.device.type == "meta" for state in states for value in state.values())
    assert optimizer.state[network[0].bias]["step"] == 3  # the source's own stays


def one_by_one(matrix: torch.Tensor) -> torch.Tensor:
    """The same iteration on one matrix, as papers write it."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()
    x = wide / wide.norm()
    for _ in range(5):
        gram = x @ x.t()
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide is matrix else x.t()


def test_matrices_are_orthogonalised_together_as_one_by_one():
    generator = torch.Generator().manual_seed(2)
    shapes = [(16, 40), (16, 72), (40, 16), (24, 24), (16, 16)]  # with 16 for the short side of most
    matrices = [torch.randn(shape, generator=generator) for shape in shapes]
    for found, matrix in zip(orthogonalised(matrices), matrices, strict=True):
        assert torch.allclose(found, one_by_one(matrix), atol=1e-4)
        assert torch.allclose(found, orthogonalised([matrix])[0], atol=1e-5)


def test_weights_of_one_rate_and_of_others_are_all_moved_by_adam():
    torch.manual_seed(0)
    mine = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
    torchs = copy.deepcopy(mine)

    def groups(network: nn.Sequential) -> list[dict]:
        return [{"params": network[i].parameters(), "lr": rate} for i, rate in ((0, 0.01), (2, 0.03), (4, 0.01))]

    ours = trained(mine, Muon(groups(mine), betas=(0.5, 0.99)), 5)
    theirs = trained(torchs, torch.optim.Adam(groups(torchs), betas=(0.5, 0.99)), 5)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_layout_of_a_convolution_in_memory_does_not_change_its_steps():
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 8, 3)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    for layer in (plain, last):
        optimizer = Muon([{"params": [layer.weight], "lr": 0.01, "orthogonal": True}])
        for seed in range(3):
            optimizer.zero_grad()
            layer(torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
            optimizer.step()
    assert torch.allclose(plain.weight, last.weight, atol=1e-5)


def test_a_step_leaves_the_precision_of_products_as_it_was():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        network = nn.Linear(6, 9, bias=False)
        trained(network, Muon([{"params": network.parameters(), "lr": 0.01, "orthogonal": True}]), 1)
        assert torch.get_float32_matmul_precision() == "high"
        with without_tf32():
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    finally:
        torch.set_float32_matmul_precision(before)
