"""A training whose losses inductor compiles; it is the dearest test, so that it has a file and a process of its own."""

import shutil

import pytest
import torch

from cgan.models.discriminator import DiscriminatorConfig
from helpers.gan import tiny_gan, weights_after


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_inductor_gives_the_weights_of_an_eager_training(tmp_path):
    discriminator = DiscriminatorConfig(form="trunk", width=4, max_channels=16, head_dim=8)
    small = {"matching_weight": 0.0, "reconstruction_weight": 0.0, "discriminator": discriminator}  # of few kernels
    eager, compiled = (tiny_gan(**small) for _ in range(2))
    names = list(compiled.state_dict())
    start = torch.cat([value.detach().flatten() for value in eager.parameters()])
    compiled.compile_losses(report=pytest.fail)
    one, two = (weights_after(gan, tmp_path) - start for gan in (eager, compiled))
    assert (one - two).norm() < 0.02 * one.norm()  # Adam's first steps
    assert list(compiled.state_dict()) == names
