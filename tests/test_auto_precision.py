import time

import pytest
import torch

from cgan.auto_precision import chosen_precision


@pytest.fixture
def on_cpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("avx", "amx", "expected"),
    [(False, False, "32-true"), (True, False, "bf16-mixed"), (False, True, "bf16-mixed"), (True, True, "bf16-mixed")],
)
def test_auto_is_decided_by_what_the_cpu_can_do(avx, amx, expected, on_cpu, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert chosen_precision("auto") == expected


def test_auto_does_not_depend_on_how_fast_the_machine_is_now(on_cpu, monkeypatch):
    ticks = iter(range(10**6))
    found = set()
    for pace in (1, -1):  # of a clock by which either precision would be the faster one
        monkeypatch.setattr(time, "perf_counter", lambda pace=pace: pace * next(ticks) ** 2)
        found.add(chosen_precision("auto"))
    assert len(found) == 1 and next(ticks) == 0


@pytest.mark.parametrize("native", [True, False])
def test_auto_on_a_gpu_leaves_emulated_bfloat16_alone(native, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert chosen_precision("auto") == ("bf16-mixed" if native else "32-true")


@pytest.mark.parametrize("given", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_precision_that_is_given_stays(given):
    assert chosen_precision(given) == given
