"""Several processes train as one: real ones, over gloo."""

from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cgan import sharding
from helpers import ROOT
from helpers.forked import Forked
from helpers.runs import ended, environment_in


def train_in(num_processes: int, folder: Path, *more: str) -> list[dict]:
    """What each process found: the gradients of each player's steps, and the weights at the end."""
    environment = environment_in(folder) | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    arguments = [str(num_processes), str(folder), *more]
    program = ROOT / "tests/helpers/two_processes.py"
    status, _, stderr = ended(Forked(program, *arguments, cwd=folder, environment=environment))
    assert status == 0, stderr
    return [torch.load(folder / f"{num_processes}-{rank}.pt", weights_only=True) for rank in range(num_processes)]


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in tensors.values() if value.is_floating_point()])


def assert_equal_gradients(alone: dict, first: dict) -> None:
    """One process found in each step what the first of two did."""
    assert len(alone["gradients"]) == len(first["gradients"]) == 7  # three steps of both players, one of the prior
    for one, two in zip(alone["gradients"], first["gradients"], strict=True):
        assert one.keys() == two.keys() and len(one) > 20
        assert (flat(one) - flat(two)).norm() < 1e-5 * flat(one).norm()


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> tuple[list[dict], list[dict]]:
    """Of one process, and of two."""
    folder = tmp_path_factory.mktemp("processes")
    return train_in(1, folder), train_in(2, folder)


@pytest.mark.slow
def test_two_processes_give_the_gradients_and_the_weights_of_one(found):
    (alone,), (first, second) = found
    assert_equal_gradients(alone, first)
    away = (flat(alone["weights"]) - flat(first["weights"])).abs()
    assert (away > 1e-5).float().mean() < 1e-4 and away.max() < 1e-3  # Adam makes a step of any gradient's rounding
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())


@pytest.mark.slow
def test_contrastive_matching_compares_with_the_captions_of_both_processes(tmp_path):
    (alone,), (first, _) = (train_in(number, tmp_path, "contrastive") for number in (1, 2))
    assert_equal_gradients(alone, first)


@pytest.mark.slow
def test_two_processes_compile_all_but_what_gathers_from_both(found, tmp_path):
    _, (eager, _) = found
    for compiled in train_in(2, tmp_path, "compiled"):
        assert compiled["compilations"] == 3  # none failed, or the training would have gone on without
        assert (flat(eager["weights"]) - flat(compiled["weights"])).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["draw", "words"])
def test_two_processes_draw_the_random_numbers_of_one_each_for_its_rows(name, found):
    (alone,), both = found
    assert torch.equal(alone[name], torch.cat([one[name] for one in both]))


class LargestTensor(TorchDispatchMode):
    """The numbers of the largest tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.numel = max(self.numel, made.numel() if isinstance(made, torch.Tensor) else 0)
        return made


@pytest.mark.parametrize("draw", [torch.rand, torch.randn])
@pytest.mark.parametrize("num_ranks", [2, 3, 8])
def test_a_large_draw_is_the_same_in_parts_none_of_which_makes_the_whole(draw, num_ranks, monkeypatch):
    monkeypatch.setattr(sharding, "LARGEST_DRAW", 1000)
    monkeypatch.setattr(sharding, "BLOCK", 120)  # 4 rows, across the borders of the parts
    share, parts, largest = 48 // num_ranks, [], LargestTensor()
    for rank in range(num_ranks):
        torch.manual_seed(3)
        with largest:
            parts.append(sharding.rows_of_draw(draw, 48, rank * share, (rank + 1) * share, (5, 6)))
        following = torch.rand(2)
    torch.manual_seed(3)
    whole = sharding.sharded_draw(draw, 48, 5, 6)
    assert torch.equal(torch.cat(parts), whole) and torch.equal(following, torch.rand(2))
    assert largest.numel == max(share, 4) * 30
    assert len(whole.flatten().unique()) == whole.numel() and abs(whole.mean() - (draw is torch.rand) / 2) < 0.1


def test_a_small_draw_is_torchs_own():
    torch.manual_seed(3)
    found = sharding.sharded_draw(torch.randn, 16, 8, 4)
    torch.manual_seed(3)
    assert torch.equal(found, torch.randn(16, 8, 4))
