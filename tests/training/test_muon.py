import copy

import pytest
import torch
from torch import nn

from cgan.training.muon import Muon, orthogonalised


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
