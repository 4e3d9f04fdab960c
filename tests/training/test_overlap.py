"""Gradients are averaged during the backward pass: two real processes, over gloo."""

import pytest
import torch

from cgan.training import overlap
from helpers.forked import in_processes
from helpers.overlapping import losses, network, train


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("overlap")
    in_processes(2, train, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "num_parts"), [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_each_process_has_the_mean_of_all_gradients_also_of_batches_in_parts(step, num_parts, found):
    layers = network()
    for rank in range(2):
        for loss in losses(layers, rank, step, num_parts):
            (loss / num_parts / 2).backward()
    for process in found:
        for weight, gradient in zip(layers.parameters(), process["steps"][step]["gradients"], strict=True):
            assert (weight.grad is None) == (gradient is None)
            assert gradient is None or torch.allclose(weight.grad, gradient, atol=1e-7)


@pytest.mark.slow
def test_buckets_start_during_the_backward_pass_but_for_those_with_a_weight_that_has_no_gradient(found):
    for process in found:
        assert process["buckets"] == 5
        assert [step["early"] for step in process["steps"][:-1]] == [0, 4, 4, 4]  # the first step shows the order


@pytest.mark.slow
def test_a_backward_pass_after_the_training_is_that_of_one_process_alone(found):
    layers = network()
    losses(layers, 0, 0, 1)[0].backward()
    last = found[0]["steps"][-1]
    assert last["early"] == 0 and torch.equal(last["gradients"][0], layers[0].weight.grad)


def test_buckets_hold_all_weights_in_their_order_and_are_of_about_equal_size(monkeypatch):
    monkeypatch.setattr(overlap, "LEAST_NUMBERS", 10)
    weights = [torch.zeros(size) for size in (3, 8, 2, 2, 300, 1, 1)]
    buckets = overlap.divided(weights)
    assert [weight.numel() for bucket in buckets for weight in bucket] == [3, 8, 2, 2, 300, 1, 1]
    assert len(buckets) <= overlap.MOST_BUCKETS and all(buckets) and overlap.divided([]) == []
