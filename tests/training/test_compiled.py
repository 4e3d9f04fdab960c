"""The losses of a step as torch.compile makes them: whole, once each, equal to eager ones, or not at all."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from cgan.config import GANConfig
from cgan.models.coattention import CoAttention
from cgan.models.encoders.resnet import SmallResNet
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.training import step
from cgan.training.compiled import StepFunctions, with_scalars_cloned
from cgan.training.gan import TextToImageGAN
from cgan.training.gan_run import compile_losses
from helpers.gan import LONGER, fit, some_batch, tiny_gan, uneven_batches, weights_after
from helpers.recipes import small_configs

CONFIGS = small_configs()


def gan_of(config: GANConfig) -> TextToImageGAN:
    """A GAN on encoders that nobody trained."""
    torch.manual_seed(0)
    text = LSTMTextEncoder(LSTMConfig(dim=16, embedding_dim=8), Vocabulary.of(LONGER))
    image, attention = SmallResNet(width=4, embedding_dim=16), CoAttention(16, 16, 16)
    return TextToImageGAN(config, text, image, 32, coattention=attention)


def graphs_of(gan: TextToImageGAN, folder: Path, steps: int = 5, report=pytest.fail, **settings) -> list[int]:
    """How many compilations there were after each step of a training."""
    count, seen = CompileCounterWithBackend("eager"), []  # graphs and guards are those of any backend
    gan.compile_losses(count, report=report)
    gan.on_train_batch_end = lambda *_: seen.append(count.frame_count)
    fit(gan, folder, max_steps=steps, batches=uneven_batches(), **settings)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_the_functions_of_every_shipped_configuration_compile_whole_and_once(name, tmp_path):
    gan, lines = gan_of(CONFIGS[name]), []
    functions = 2 if gan.config.penalty == "matching_aware" and gan.config.penalty_weight > 0 else 3
    assert graphs_of(gan, tmp_path, report=lines.append) == [functions] * 5
    assert len(lines) == 3 - functions  # which says that the penalty is left out


def test_the_losses_compile_whole_in_bfloat16_as_well(tmp_path):
    assert graphs_of(gan_of(next(iter(CONFIGS.values()))), tmp_path, steps=2, precision="bf16-mixed") == [3, 3]


@pytest.mark.slow
def test_the_time_before_the_adversary_takes_one_compilation_more(tmp_path):
    gan = tiny_gan(adversarial_from=0.3, penalty_weight=0.1, last_penalty_weight=0.01)
    assert graphs_of(gan, tmp_path, steps=8) == [2, 2, 2, 4, 4, 4, 4, 4]  # as the weight of the penalty falls


@pytest.mark.slow
def test_a_matching_term_that_joins_before_the_adversary_takes_another_one(tmp_path):
    gan = tiny_gan(adversarial_from=0.6, matching_from=0.3)
    assert graphs_of(gan, tmp_path, steps=8) == [2, 2, 2, 3, 3, 5, 5, 5]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"accumulate": 2}, {"recompute": True}, {"adversarial": "relativistic"}])
def test_settings_that_save_memory_and_other_losses_compile_whole(settings, tmp_path):
    expected = 2 if "accumulate" in settings else 3  # a loss that makes its own fakes is one function
    assert graphs_of(tiny_gan(**settings), tmp_path, steps=3) == [expected] * 3


def broken(*_) -> None:
    raise RuntimeError("no compiler here")


@pytest.mark.slow
@pytest.mark.parametrize("backend", [broken, aot_autograd(fw_compiler=lambda graph, _: graph, bw_compiler=broken)])
def test_a_failing_compilation_is_one_line_and_the_training_is_the_eager_one(backend, tmp_path):
    eager, failing = (tiny_gan(reconstruction_weight=0.0, matching_weight=0.0) for _ in range(2))
    lines = []
    failing.compile_losses(backend, report=lines.append)
    assert torch.equal(*(weights_after(gan, tmp_path) for gan in (eager, failing)))
    assert len(lines) == 1 and "\n" not in lines[0] and "no compiler here" in lines[0]


def double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def test_after_a_failing_compilation_functions_run_as_they_are():
    functions, lines = StepFunctions(), []
    functions.compile([double], broken, report=lines.append)
    found = [functions(double, torch.ones(3)) for _ in range(2)]
    assert torch.equal(*found) and found[0][0] == 2 and not functions.compiled
    assert len(lines) == 1 and "\n" not in lines[0] and "no compiler here" in lines[0]


def test_each_gan_has_compilations_of_its_own():
    for number in range(12):  # dynamo would give up after 8 of one function
        functions = StepFunctions()
        functions.compile([double], "eager", report=pytest.fail)
        functions(double, torch.ones(number + 1))


def test_a_mistake_in_a_compiled_loss_is_raised_as_it_is():
    gan = tiny_gan()
    gan.compile_losses(broken)
    with pytest.raises(AttributeError, match="images"):
        gan.functions(step.generate_fakes, gan.networks, None)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_users_own_loss_is_added_to_a_compiled_one(accumulate, tmp_path):
    eager, compiled = (tiny_gan(accumulate=accumulate) for _ in range(2))
    for gan in (eager, compiled):
        gan.extra_losses = {"bright": lambda fakes, real, text: 10 * fakes.mean()}
    compiled.compile_losses("eager", report=pytest.fail)
    assert torch.equal(*(weights_after(gan, tmp_path) for gan in (eager, compiled)))


@pytest.mark.slow
def test_losses_that_generate_their_own_fakes_are_those_on_shared_ones(tmp_path):
    shared, own = tiny_gan(), tiny_gan()
    own.compile_losses(
        "eager", cuda_graphs=True, report=pytest.fail
    )  # which need a GPU, but what is called is the same
    assert not own.shares_fakes
    one, two = (weights_after(gan, tmp_path) for gan in (shared, own))
    assert (one - two).norm() < 1e-5 * one.norm()


def test_scalars_are_cloned_and_the_loss_is_not():
    loss, scalar = torch.ones(()), torch.ones(())
    found, scalars = with_scalars_cloned((loss, {"loss/x": scalar}))
    assert found is loss and scalars["loss/x"] is not scalar and torch.equal(scalars["loss/x"], scalar)


def test_several_micro_batches_do_without_cuda_graphs_and_say_so():
    gan, lines = tiny_gan(accumulate=2), []
    gan.compile_losses("eager", cuda_graphs=True, report=lines.append)
    assert not gan.functions.cuda_graphs and len(lines) == 1 and lines[0].startswith("gan.accumulate")


@pytest.mark.parametrize("choice", ["true", True, "reduce-overhead", "auto", "false", False])
def test_a_choice_of_the_configuration_compiles_or_does_not(choice, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gan, lines = tiny_gan(), []
    compile_losses(gan, choice, lines.append)
    assert len(gan.functions.compiled) == (3 if choice in ("true", True, "reduce-overhead") else 0)
    assert len(lines) == {"true": 1, "True": 1, "reduce-overhead": 2}.get(str(choice), 0)


def test_on_a_gpu_auto_compiles_the_losses(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    by_itself, asked = tiny_gan(), tiny_gan()
    compile_losses(by_itself, "auto", lambda line: None)
    compile_losses(asked, "reduce-overhead", lambda line: None)
    assert by_itself.functions.compiled and not by_itself.functions.cuda_graphs and asked.functions.cuda_graphs


class Conversions(TorchDispatchMode):
    """Counts how often each weight is converted to bfloat16."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.names = {value.data_ptr(): name for name, value in network.named_parameters()}
        self.found = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        if function is torch.ops.aten._to_copy.default and result.dtype == torch.bfloat16:
            self.found[self.names.get(arguments[0].data_ptr())] += 1
        return result


def test_a_step_converts_no_frozen_weight_to_bfloat16_and_each_other_once(tmp_path):
    gan = tiny_gan()
    gan.config.discriminator.spectral_norm = False
    gan = TextToImageGAN(gan.config, gan.text_encoder, gan.image_encoder, 32)
    with torch.autocast("cpu", torch.bfloat16):
        networks, (part,) = gan.networks, gan.prepare(some_batch())
        with Conversions(gan) as fakes_are:
            fakes = step.generate_fakes(networks, part)
        noise = torch.zeros(()), *(step_noise(gan, part))
        gan.discriminator.requires_grad_(True)
        with Conversions(gan) as discriminator:
            step.discriminator_loss(networks, part, fakes.detached(), noise[1], noise[0])
        gan.discriminator.requires_grad_(False)
        with Conversions(gan) as generator:
            step.generator_loss(networks, part, fakes, noise[2])
    for counted in (fakes_are, discriminator, generator):
        found = {name: count for name, count in counted.found.items() if name is not None}
        assert set(found.values()) <= {1} and not any(name.startswith("image_encoder") for name in found)
    assert any(name and name.startswith("discriminator") for name in generator.found)


def step_noise(gan: TextToImageGAN, part) -> tuple:
    from cgan.training.microbatch import draw_discriminator_noise, draw_generator_noise

    return draw_discriminator_noise(gan.config, part.images), draw_generator_noise(gan.config, part.noise, True)
