import json
import time

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from cgan.benchmarks.meters import KeptMemory, Parts, clock, flops_counted
from cgan.benchmarks.sizing import size_of
from cgan.benchmarks.speed import prepared, random_gan
from cgan.benchmarks.step_cost import (
    BareLoop,
    cost_of_sampling,
    cost_of_step,
    in_float32,
    layers_of,
    random_batch,
    watch_step,
    without_numbers,
)
from cgan.cli.benchmark import main
from cgan.config import load_config
from cgan.interfaces import UserError

CPU = torch.device("cpu")
TINY = [
    "data.resolution=32", "trainer.batch_size=4", "trainer.precision=32-true",
    "joint={picture_weight: 0, caption_weight: 0, image: {width: 4, embedding_dim: 16}, text: {dim: 16}}",
    "gan.generator={width: 4, max_channels: 16, noise_dim: 8, style_dim: 16}",
    "gan.generator={latent_prior_dim: 8, latent_prior_layers: 2}",
    "gan.discriminator={width: 4, max_channels: 16, head_dim: 8}", "gan.matrix_learning_rate=1e-3",
]  # fmt: skip


@pytest.fixture
def own_seconds(monkeypatch) -> None:
    """Time is what this process computes: other processes would make a comparison of two paces a chance."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)


def tiny(*settings: str):
    return prepared(load_config([*TINY, *settings]))


def bare_loop(*settings: str) -> BareLoop:
    return BareLoop.of(random_gan(tiny(*settings), CPU))


def test_operations_equal_a_count_by_hand():
    layer, images = nn.Conv2d(3, 5, 3, padding=1), torch.randn(2, 3, 8, 8)
    with flops_counted() as flops:
        layer(images).sum().backward()
    once = 2 * 2 * 5 * 8 * 8 * 3 * 3 * 3  # multiply and add; batch, channels, places, inputs of each
    assert flops() == 2 * once  # the gradient of the weight takes as much again; the pictures want none


def test_parts_get_what_is_their_own_and_sum_to_the_whole():
    amount = [0.0]
    parts = Parts(lambda: amount[0])
    parts.enter("outer")
    amount[0] += 1
    parts.enter("inner")
    amount[0] += 10
    parts.leave()
    amount[0] += 100
    parts.leave()
    amount[0] += 1000
    assert parts.totals == {"outer": 101, "inner": 10}


def test_the_split_of_a_step_finds_what_is_slow_and_sums_to_the_whole():
    """By a clock that counts how often it is asked, and that goes on by 1000 where captions are encoded."""
    bare, batch, now = bare_loop(), random_batch(4, 32), [0]
    encode = bare.gan.text_encoder.forward

    def later(seconds: int) -> int:
        now[0] += seconds
        return now[0]

    bare.gan.text_encoder.forward = lambda captions: later(1000) and encode(captions)
    with bare.entered():
        parts = Parts(lambda: later(1))
        watch_step(parts, bare.gan, lambda: bare.optimizers)
        start = now[0]
        bare.gan.training_step(batch, 0)
        whole = now[0] - start
        parts.unwatch()
    assert parts.totals["text encoding"] == 1001
    assert sum(parts.totals.values()) == whole - 1  # what it has counted before the first part began
    assert len(parts.totals) > 5


def test_the_clock_of_a_cpu_counts_seconds():
    now = clock(CPU)
    start = now()
    time.sleep(0.1)
    assert now() - start >= 0.1


def test_watching_leaves_no_trace():
    bare = bare_loop()
    bare(random_batch(4, 32))
    before = set(vars(bare.gan)), set(vars(bare.gan.text_encoder))
    cost_of_step(bare, random_batch(4, 32))
    assert before == (set(vars(bare.gan)), set(vars(bare.gan.text_encoder)))


def test_kept_memory_equals_a_count_by_hand():
    weight, x = torch.randn(4, 4, requires_grad=True), torch.randn(8, 4)
    with KeptMemory([weight]) as memory:
        y = (x @ weight).exp()  # keeps x, and what exp gives
        y.sum().backward()
    assert memory.peak == 2 * 8 * 4 * 4
    del y
    assert memory.bytes == 0


def test_a_bare_step_does_what_lightning_does(tmp_path):
    import pytorch_lightning as pl

    batch, weights = random_batch(4, 32), []
    for by_lightning in (True, False):
        gan = random_gan(tiny(), CPU)
        gan.train()
        torch.manual_seed(1)
        if by_lightning:
            pl.Trainer(
                max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path,
                enable_checkpointing=False, enable_model_summary=False,
            ).fit(reseeded(gan), DataLoader([batch], batch_size=None))  # fmt: skip
        else:
            BareLoop.of(gan)(batch)
        weights.append([*gan.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*weights, strict=True))


def reseeded(gan):
    """Lightning may draw random numbers before the step."""
    gan.on_train_batch_start = lambda *_: torch.manual_seed(1) and None
    return gan


def test_a_step_without_numbers_costs_what_a_real_one_does():
    def cost(gan, device: str):
        return cost_of_step(BareLoop.of(gan), random_batch(4, 32, device))

    one = cost(random_gan(tiny(), CPU), "cpu")
    with in_float32():
        two = cost(without_numbers(random_gan(tiny(), CPU)), "meta")
    assert (one.weights, one.gradients, one.optimizers) == (two.weights, two.gradients, two.optimizers)
    del one.flops["text encoding"], two.flops["text encoding"]
    assert one.flops == two.flops and one.kept == pytest.approx(two.kept, rel=0.02)


@pytest.mark.slow
def test_planned_memory_and_operations_hold_for_a_larger_batch():
    size, bare = size_of(tiny()), bare_loop()
    cost = cost_of_step(bare, random_batch(8, 32))
    assert size.memory.at(8) == pytest.approx(cost.memory, rel=0.05)
    assert size.flops.at(8) == pytest.approx(sum(cost.flops.values()), rel=0.01)


def test_the_optimizers_states_are_one_number_a_weight_of_muon_and_two_of_adam():
    bare = bare_loop()
    found = cost_of_step(bare, random_batch(4, 32)).optimizers
    by_muon = bare.gan.generator.inner_matrices() + bare.gan.discriminator.inner_matrices()
    matrices = sum(w.numel() for w in by_muon)
    moving = sum(p.numel() for p in bare.gan.parameters() if p.requires_grad)
    steps = 4 * (len(bare.optimizers[0].state) + len(bare.optimizers[1].state))  # of Adam, a number a tensor
    assert 4 * (2 * moving - matrices) <= found <= 4 * (2 * moving - matrices) + steps


def test_the_layers_of_a_generator_are_its_forward_pass_without_the_rest(own_seconds):
    gan = random_gan(tiny(), CPU)
    noise, text = torch.randn(2, 8), gan.text_encoder(["a dog", "a cat"])
    with flops_counted() as flops:
        gan.generator(noise, text)
        whole = flops()
        for layer in layers_of(gan.generator, lambda: gan.generator(noise, text)):
            layer()
        assert flops() == 3 * whole  # once to see the layers, once by the layers alone
    assert 0 < cost_of_sampling(gan, 2, 2).fraction < 1.5


@pytest.mark.slow
def test_the_report_has_all_keys(tmp_path, capsys, own_seconds):
    file = tmp_path / "speed.json"
    main(["speed", *TINY, "gan.adversarial_from=0.4", "--steps", "3", "--json", str(file), "--grow", "batch"])
    report = json.loads(file.read_text())
    assert {"date", "device", "threads", "versions", "precision", "config"} <= set(report)
    assert {"parameters", "step", "memory", "peak", "sampling", "grow"} <= set(report)
    step = report["step"]
    assert sum(step["split"].values()) == pytest.approx(1) and min(step["split"].values()) >= 0
    assert step["flops"] == sum(step["flops_of_players"].values()) > 0
    assert step["images_per_second_before_adversary"] > 0
    assert -0.9 < step["lightning_overhead"] < 20
    assert step["counts"]["operations"] > step["counts"]["outer_operations"] > 100 and "launches" not in step["counts"]
    assert step["compiled"] is False and step["graphs"] is None
    assert [row["size"] for row in report["grow"]["batch"]] == ["batch 2", "batch 4", "batch 8", "batch 16"]
    assert "generator backward" in capsys.readouterr().out


@pytest.mark.slow
def test_a_plan_predicts_the_pace_of_gpus_from_what_is_stated(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cgan.benchmarks.sizing.PLANNED", (64,))
    monkeypatch.setattr("cgan.benchmarks.sizing.FACTORS", (1,))
    file = tmp_path / "plan.json"
    main(["speed", "--plan", *TINY, "--gpus", "8", "--tflops", "10", "--steps", "2", "--json", str(file)])
    rows = json.loads(file.read_text())["rows"]
    assert [(row["resolution"], row["width"]) for row in rows] == [(32, 4), (64, 4)]
    assert rows[1]["flops_per_image"] > 2 * rows[0]["flops_per_image"]
    shown = capsys.readouterr().out
    assert "Predicted" in shown and f"{80e12 / rows[0]['flops_per_image']:.3g}" in shown


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--steps", "0"], "--steps"),
        (["--plan", "--gpus", "8"], "--tflops"),
        (["--json", "nowhere/speed.json"], "nowhere"),
        (["task=joint"], "task=joint"),
        (["data.resolution=48"], "data.resolution"),
        (["gan.generator.wdith=3"], "width"),
    ],
)
def test_a_mistake_is_one_line(arguments, word):
    with pytest.raises(UserError) as error:
        main(["speed", *arguments])
    assert word in str(error.value) and "\n" not in str(error.value)


def test_two_configurations_are_compared_in_turns(tmp_path, capsys, monkeypatch, own_seconds):
    """On the CPU: a GPU is busy with starting kernels, however small or wide they are."""
    monkeypatch.setattr("cgan.benchmarks.speed.present_device", lambda: torch.device("cpu"))
    sizes = "width: 48, max_channels: 192, noise_dim: 8, style_dim: 16"
    wide = f"gan.generator={{{sizes}, latent_prior_dim: 8, latent_prior_layers: 2}}"
    measured = ["--against", wide, "--steps", "3", "--json", str(tmp_path / "both.json")]
    main(["speed", *TINY, "trainer.compile=false", *measured])
    found = json.loads((tmp_path / "both.json").read_text())
    shown = capsys.readouterr().out
    assert found["ratio"] > 1.2 and f"{found['ratio']:.2f} times as fast" in shown
    assert found["compiled"] == [False, False] and "the first eager and the second eager" in shown.replace("\n", " ")
    one, two = (counts["operations"] for counts in found["counts"])
    assert one == pytest.approx(two, rel=0.01)
    assert found["parameters"][0]["generator"] < found["parameters"][1]["generator"]


def test_a_configuration_is_measured_without_its_data_set():
    config = prepared(load_config(["configs/gan/coco-256.yaml", "data.root=nowhere"]))
    assert config.trainer.devices == "1" and config.data.resolution == 256
