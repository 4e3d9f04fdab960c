"""Operations that a training step dispatches, which a GPU waits for when it runs eagerly."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from cgan.benchmarks.step_cost import BareLoop
from cgan.machine import cpu_has_bfloat16
from cgan.models.spectral_norm import add_spectral_norm, normalised_once
from helpers.gan import some_batch, tiny_gan


def num_operations(action) -> int:
    """Calls of ATen, nested ones counted."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        action()
    return sum(event.name.startswith("aten::") for event in seen.events())


@pytest.mark.parametrize(("precision", "most"), [("32-true", 7200), ("bf16-mixed", 8050)])
def test_an_eager_step_dispatches_few_operations(precision, most):
    if precision == "bf16-mixed" and not cpu_has_bfloat16():
        pytest.skip("convolutions in bfloat16 are other operations on this processor")
    gan, batch = tiny_gan(matrix_learning_rate=0.003, discriminator_matrix_learning_rate=0.002), some_batch()
    text = gan.text_encoder(batch.captions)
    gan.text_encoder.forward = lambda captions: text  # not counted here
    bare = BareLoop.of(gan, precision)
    bare(batch)
    # Muon in the discriminator takes 647 of them; with each spectral norm, logit and matrix of Muon by itself, and each
    # weight converted by itself, there were some 3,000 more
    assert num_operations(lambda: bare(batch)) < most


def test_operations_of_spectral_norms_grow_with_shapes_and_not_with_layers():
    counts = []
    for num_layers in (1, 8):
        network = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(num_layers)])
        norms = add_spectral_norm(network)
        with normalised_once(norms):
            pass
        counts.append(num_operations(normalised_once(norms).__enter__))
    assert counts[1] < 2 * counts[0]
