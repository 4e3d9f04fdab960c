"""Settings and weights under names of earlier versions."""

import re

import pytest
import torch

from cgan.config import load_config
from cgan.ranges import RANGES
from cgan.renamed import SETTINGS, rename_settings
from cgan.training.muon import Muon
from helpers.gan import tiny_gan


def test_an_earlier_name_of_a_setting_is_understood_and_the_new_one_is_named_once(tmp_path):
    hints, file = [], tmp_path / "old.yaml"
    file.write_text("gan:\n  redrawn_share: 0.25\n  generator: {prior: couplings, prior_layers: 2, width: 8}\n")
    found = load_config([str(file), "gan.discriminator.head_places=4", "gan.generator={prior_dim: 32}"], hints.append)
    generator = found.gan.generator
    assert (found.gan.reconstructed_fraction, found.gan.discriminator.head_resolution) == (0.25, 4)
    assert (generator.latent_prior, generator.latent_prior_layers, generator.latent_prior_dim) == ("couplings", 2, 32)
    assert generator.width == 8 and len(hints) == 5
    assert hints[0] == f"{file}: gan.redrawn_share is now called gan.reconstructed_fraction"


def test_a_mistake_in_a_setting_under_its_earlier_name_is_one_line():
    from cgan.interfaces import UserError

    with pytest.raises(UserError, match=r"reconstructed_fraction.*from 0 to 1"):
        load_config(["gan.redrawn_share=7"], report=lambda hint: None)


def test_without_a_report_a_hint_is_a_warning():
    with pytest.warns(UserWarning, match="gan.redrawn_share is now called"):
        load_config(["gan.redrawn_share=0.5"])


def test_where_both_names_are_given_the_present_one_counts():
    old_first = {"redrawn_share": 0.1, "reconstructed_fraction": 0.9}
    for settings in (old_first, dict(reversed(old_first.items()))):
        assert rename_settings(settings, "gan") == {"reconstructed_fraction": 0.9}


def test_every_present_name_is_a_setting():
    settings = load_config([])
    for new in SETTINGS.values():
        *sections, name = new.split(".")
        section = settings
        for part in sections:
            section = getattr(section, part)
        assert hasattr(section, name), new
    assert not set(SETTINGS) & set(RANGES)


def earlier(name: str) -> str:
    """The name of a weight in checkpoints of earlier versions."""
    return re.sub(r"\.(positional_bias|positions)\.", ".places.", name.replace(".latent_prior.", ".prior."))


def test_weights_under_earlier_names_are_loaded():
    trained, fresh = tiny_gan(0), tiny_gan(1)
    for bias in trained.generator.positional_bias:
        bias.data.normal_()
    old = {earlier(name): value for name, value in trained.state_dict().items()}
    assert len(old.keys() - fresh.state_dict().keys()) > 10
    fresh.load_state_dict(old)
    assert all(torch.equal(x, trained.state_dict()[name]) for name, x in fresh.state_dict().items())


def test_an_optimizers_state_under_earlier_names_goes_on_as_it_would_have():
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    one, other = (Muon([{"params": [weight], "lr": 0.1}]) for weight in weights)
    for optimizer, weight in zip((one, other), weights, strict=True):
        weight.grad = torch.tensor([1.0, 2.0, 3.0])
        optimizer.step()
    state = one.state_dict()
    names = {"exp_avg": "mean", "exp_avg_sq": "square"}
    state["state"] = {0: {names.get(name, name): x for name, x in state["state"][0].items()}}
    one.load_state_dict(state)
    for optimizer in (one, other):
        optimizer.step()
    assert torch.equal(*weights)
