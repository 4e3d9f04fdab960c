from dataclasses import asdict

import pytest
from omegaconf import OmegaConf

from cgan.config import load_config
from cgan.interfaces import UserError
from cgan.renamed import OLDER
from helpers import ROOT

CONFIGS = [path for path in ROOT.glob("configs/**/*.yaml") if path.parent.name not in ("race", "sweeps")]


@pytest.mark.parametrize("path", sorted(CONFIGS), ids=lambda p: p.name)
def test_every_shipped_config_loads(path):
    assert load_config([str(path)]).name


def test_the_command_line_overrides_the_file(tmp_path):
    (tmp_path / "x.yaml").write_text("gan: {learning_rate: 0.5}\nseed: 3\n")
    config = load_config([str(tmp_path / "x.yaml"), "gan.learning_rate=1e-4"])
    assert config.gan.learning_rate == 1e-4 and config.seed == 3


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("gan.learning_rat=1", "'learning_rate'"),
        ("sed=1", "Did you mean: 'seed'"),
        ("gan.learning_rate=fast", "gan.learning_rate"),
        ("gan.adversarial=hing", "hing"),
        ("seed", "expected a .yaml file or key=value"),
        ("missing.yaml", "no such file"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(argument, said):
    with pytest.raises(UserError) as error:
        load_config([argument])
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["2024_11_26", "007", "1e3", "yes", "12:30:45", "~", "2024-11-26", "a=b"])
def test_text_stays_as_it_is_typed(text):
    config = load_config([f"data.root={text}", f"run_dir={text}", f"name={text}", f"data.split={text}"])
    assert config.data.root == config.run_dir == config.name == config.data.split == text


def test_a_saved_configuration_keeps_its_text(tmp_path):
    saved, settings = tmp_path / "config.yaml", ["data.root=2024_11_26", "name=007", "run_dir=1e3", "data.split=~"]
    OmegaConf.save(OmegaConf.structured(load_config(settings)), saved)
    assert load_config([str(saved)]) == load_config(settings)


def test_null_is_absent_and_quotes_fall_off():
    assert load_config(["init=null", "data.root=null", "run_dir="]).init is None
    assert load_config(["name='007'"]).name == "007" and load_config(['data.root="null"']).data.root == "null"
    assert load_config(["name=null"]).name == "null"  # a key that can't be absent


def test_text_of_files_and_of_whole_sections_stays_as_well(tmp_path):
    (tmp_path / "x.yaml").write_text("name: 007\ndata:\n  root: 2024_11_26\n  split: 'yes'\ninit: null\n")
    config = load_config([str(tmp_path / "x.yaml")])
    assert (config.name, config.data.root, config.data.split, config.init) == ("007", "2024_11_26", "yes", None)
    assert load_config(["data={root: 2024_11_26, num_images: 8}"]).data.root == "2024_11_26"


def test_devices_may_be_a_list():
    assert load_config(["trainer.devices=[0,1]"]).trainer.devices == "[0,1]"
    assert load_config(["trainer.devices=2"]).trainer.devices == "2"


def test_a_name_that_is_no_utf8_is_kept():
    assert load_config(["data.root=t\udcfcr"]).data.root == "t\udcfcr"


def test_an_old_key_is_read_with_a_hint_of_its_new_name(tmp_path):
    (tmp_path / "old.yaml").write_text("trainer:\n  examiner: other.safetensors\n  images: 9\n")
    for arguments in ([str(tmp_path / "old.yaml")], ["trainer.examiner=other.safetensors"]):
        messages = []
        assert load_config(arguments, messages.append).trainer.eval_joint_encoder == "other.safetensors"
        assert messages == [f"{arguments[0]}: trainer.examiner is now called trainer.eval_joint_encoder"]


def test_a_resumed_run_keeps_what_it_did_before_there_were_keys(tmp_path):
    config = OmegaConf.create(asdict(load_config([])))
    for section, older in OLDER.items():
        for key in older:
            del OmegaConf.select(config, section)[key]
    config.gan.generator.style_dim = 24
    OmegaConf.save(config, tmp_path / "config.yaml")
    resumed = OmegaConf.structured(load_config([f"resume={tmp_path}"]))
    for section, older in OLDER.items():
        assert {key: OmegaConf.select(resumed, section)[key] for key in older} == older
    assert resumed.gan.generator.style_dim == 24  # which the file has
