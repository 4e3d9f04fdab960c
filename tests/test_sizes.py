"""Sizes and rates that follow from other settings, and configurations that name neither."""

import re
from pathlib import Path

import pytest
import yaml

from cgan import auto_precision, sizes
from cgan.config import keys_of, layer_of_file, load_config, resolve_config
from cgan.config_reference import config_yaml
from cgan.interfaces import UserError
from helpers import ROOT

DATA_SETS = sorted((ROOT / "configs").glob("gan/*.yaml")) + sorted((ROOT / "configs").glob("joint/*.yaml"))
TUNED = r"rate|weight|width|dim|channels|beta|optimizer|temperature|matching|mismatched|half_life|adversarial|decay"


@pytest.mark.parametrize("path", DATA_SETS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_configuration_of_a_data_set_tunes_nothing(path: Path):
    allowed = {"joint.image.weights"}  # a file, not a loss weight
    found = {key for key in keys_of(layer_of_file(path)) if key.startswith(("gan.", "joint.", "text."))} - allowed
    assert not [key for key in found if re.search(TUNED, key)]


@pytest.mark.parametrize("cuda, cores, size", [(True, 2, "base"), (False, 2, "tiny"), (False, 64, "small")])
def test_the_size_follows_the_machine(cuda, cores, size, monkeypatch):
    monkeypatch.setattr(sizes.torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(sizes, "num_cores", lambda: cores)
    config = load_config([])
    assert config.gan.size == size
    assert config.gan.generator.width == sizes.SIZES[size]["gan.generator.width"]


def test_what_is_given_is_never_changed():
    given = ["gan.size=base", "gan.generator.width=20", "gan.learning_rate=2e-3", "trainer.batch_size=8"]
    config = load_config(given)
    assert (config.gan.generator.width, config.gan.learning_rate, config.trainer.batch_size) == (20, 2e-3, 8)
    assert config.gan.discriminator.width == sizes.SIZES["base"]["gan.discriminator.width"]


def test_a_section_in_a_file_counts_as_given(tmp_path):
    (tmp_path / "own.yaml").write_text("gan: {size: base, generator: {width: 20}}\n")
    assert load_config([str(tmp_path / "own.yaml")]).gan.generator.width == 20


@pytest.mark.parametrize(
    "arguments, batch",
    [
        ([], 64),
        (["trainer.precision=32-true"], 32),
        (["gan.size=small"], 32),
        (["gan.size=base"], 128),
        (["trainer.batch_size=16"], 16),
    ],
)
def test_batches_of_size_tiny_are_larger_in_bfloat16(arguments, batch, monkeypatch):
    monkeypatch.setattr(auto_precision, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(sizes, "size_of_machine", lambda: "tiny")
    assert load_config(arguments).trainer.batch_size == batch


def test_batches_of_size_tiny_stay_where_the_processor_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(auto_precision, "cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(sizes, "size_of_machine", lambda: "tiny")
    config = load_config([])
    assert (config.trainer.batch_size, config.gan.learning_rate) == (32, 1e-3)


def test_rates_fall_with_the_width_and_rise_with_the_batch():
    rates = [load_config([f"gan.generator.width={w}", f"trainer.batch_size={b}"]).gan.learning_rate
             for w, b in ((16, 16), (16, 32), (64, 32), (16, 64), (16, 1024))]  # fmt: skip
    assert rates == [1e-3, 1e-3, 5e-4, 1.4e-3, 1.5e-3]


@pytest.mark.parametrize(
    "arguments, guidance", [([], 1.0), (["data.level=two"], 3.0), (["data.source=folder", "data.root=x"], 3.0)]
)
def test_the_prior_of_scenes_of_one_object_needs_no_guidance(arguments, guidance):
    assert load_config(arguments).gan.generator.latent_prior_guidance == guidance
    given = load_config([*arguments, "gan.generator.latent_prior_guidance=4"])
    assert given.gan.generator.latent_prior_guidance == 4


def test_a_gan_trains_its_joint_encoder_without_decoders():
    assert load_config([]).joint.picture_weight == load_config([]).joint.caption_weight == 0
    assert load_config(["task=joint"]).joint.picture_weight > 0
    assert load_config(["joint.picture_weight=0.3"]).joint.picture_weight == 0.3


def test_pretrained_encoders_are_finetuned_gently():
    rates = [load_config(["task=joint", *more]).joint.learning_rate
             for more in ([], ["joint.image.weights=imagenet"], ["joint.encoders=clip"])]  # fmt: skip
    assert rates == sorted(rates, reverse=True) and len(set(rates)) == 3


def test_pictures_are_augmented_and_scenes_are_not():
    assert load_config([]).gan.augmentation == []
    assert load_config(["data.source=folder", "data.root=x"]).gan.augmentation == ["translation", "cutout"]


@pytest.mark.parametrize(
    "given, start",
    [
        ([], 0.375),
        (["data.source=folder", "data.root=x"], 0.25),
        (["gan.adversarial_from=0"], 0),
        (["gan.matching_from=null"], None),
    ],
)
def test_the_matching_term_joins_half_way_to_the_discriminator_unless_told_otherwise(given, start, tmp_path):
    config = load_config(given)
    assert config.gan.matching_from == start
    (tmp_path / "config.yaml").write_text(config_yaml(resolve_config(given)), encoding="utf-8")
    assert load_config([str(tmp_path / "config.yaml")]).gan.matching_from == start  # as of a run that is resumed


def test_an_earlier_run_keeps_its_settings(tmp_path):
    settings = yaml.safe_load((ROOT / "configs/gan/scenes.yaml").read_text())
    settings |= {"gan": {"generator": {"width": 24}, "learning_rate": 5e-4}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    config = load_config([str(tmp_path / "config.yaml"), "gan.size=large"])
    assert (config.gan.generator.width, config.gan.learning_rate) == (24, 5e-4)


def test_an_unknown_size_is_named():
    with pytest.raises(UserError, match="gan.size=huge"):
        load_config(["gan.size=huge"])


def test_a_width_of_zero_is_refused_before_rates_are_derived():
    with pytest.raises(UserError, match="gan.generator.width=0: must be at least 1"):
        load_config(["gan.generator.width=0"])
