"""The reference of the configuration, in tables and as YAML: complete, in words, and true to what load_config does."""

import re
from functools import partial

import pytest
import yaml
from omegaconf import OmegaConf

from cgan.cli import train
from cgan.cli.completion import keys_of
from cgan.config import RunConfig, load_config, resolve_config
from cgan.config import keys_of as keys_in
from cgan.config_reference import config_markdown, config_rows, config_yaml, escaped
from cgan.errors import UserError
from cgan.sizes import DERIVED, SIZES, derived_defaults
from helpers import ROOT

ROWS = {row.key: row for row in config_rows()}
SETTINGS = [  # each makes another rule of cgan/sizes.py speak
    [], ["task=joint"], ["data.level=two"], ["data.source=folder", "data.root=x"], ["joint.encoders=clip"],
    ["joint.image.weights=imagenet"], ["gan.size=large"], ["trainer.batch_size=128"],
    ["data.source=folder", "data.root=x", "data.flip=true"],
]  # fmt: skip


def test_every_key_of_the_configuration_is_in_the_reference():
    assert list(ROWS) == [row.key for row in config_rows()] and set(ROWS) == set(keys_of(RunConfig))


def test_every_key_is_described_by_a_whole_phrase():
    fragments = "of |as |by |its |;|reached |in |auto:|absent:"  # of what? only who knows the key could tell
    assert not [key for key, row in ROWS.items() if len(row.meaning.split()) < 3]
    assert not [key for key, row in ROWS.items() if re.match(fragments, row.meaning)]
    assert all(row.type and row.default for row in ROWS.values())


def test_a_row_says_what_the_dataclasses_and_the_ranges_say():
    assert ROWS["gan.first_beta"].cells()[1:3] == ("number, at least 0 and below 1", "0.5")
    assert ROWS["gan.adversarial"].cells()[1:3] == ("hinge | nonsaturating | relativistic", "hinge")
    assert ROWS["trainer.minutes"].type == "number or null" and ROWS["trainer.minutes"].default == "null"
    assert ROWS["trainer.loggers"].cells()[1:3] == ("list of csv | tensorboard", "[csv]")
    assert ROWS["trainer.devices"].default == "'1'"
    assert "64 (tiny)" in ROWS["gan.generator.noise_dim"].default


def test_a_comment_over_several_lines_is_read_whole():
    assert ROWS["init"].meaning.endswith("an exported .safetensors, from which it takes the generator's")


def test_a_section_or_a_key_alone_can_be_asked_for():
    inside = config_rows("gan.generator")
    assert len(inside) > 5 and {row.key.rpartition(".")[0] for row in inside} == {"gan.generator"}
    assert {row.key for row in config_rows("gan")} > {row.key for row in inside}
    assert [row.key for row in config_rows("seed")] == ["seed"]


@pytest.mark.parametrize(
    ("section", "said"),
    [("generator", "'gan.generator'"), ("gan.generatr", "'gan.generator'"), ("gan.generator.widht", "width'"),
     ("\x00", "Sections: data, text"), ("gan.", "'gan'"), ("gan.gen", "gan.ge")],
)  # fmt: skip
def test_an_unknown_section_is_one_line_with_the_nearest_name(section, said):
    with pytest.raises(UserError, match="no such section or key") as error:
        config_rows(section)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_markdown_has_a_table_for_each_section_and_a_line_for_each_key():
    text = config_markdown(level=3)
    lines = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line.startswith("| `")]
    assert [line[1].strip(" `") for line in lines] == [row.key for row in config_rows()]
    assert {len(line) for line in lines} == {6} and re.findall(r"^### (\S+)", text, re.MULTILINE)[:2] == ["Top", "data"]


def test_signs_of_markdown_are_shown_as_they_are():
    markdown = pytest.importorskip("markdown", reason="the extra docs is not installed")
    text = "runs/<name>-<time> | *a* _b_ `c`"
    table = f"| key |\n|---|\n| {escaped(text)} |"
    assert "<td>runs/&lt;name&gt;-&lt;time&gt; | *a* _b_ `c`</td>" in markdown.markdown(table, extensions=["tables"])


# ------------------------------------------------------------------------------------------------ resolved


@pytest.mark.parametrize("settings", SETTINGS[:3], ids=str)
def test_a_printed_configuration_is_read_as_the_same(settings, tmp_path):
    odd = ["name=007", "data.split=2024-11-26", "run_dir=a: b # c", "init=~", "trainer.metrics=[fid,kid]"]
    resolved = resolve_config([*settings, *odd, "gan.learning_rate=1e-5"])
    (tmp_path / "printed.yaml").write_text(config_yaml(resolved), encoding="utf-8")
    assert load_config([str(tmp_path / "printed.yaml")]) == resolved.config
    config = resolved.config
    assert (config.name, config.run_dir, config.gan.learning_rate) == (
        "007",
        "a: b # c",
        1e-5,
    )


def test_every_derived_default_says_what_it_follows_from():
    derived = set()
    for settings in SETTINGS:
        derived |= set(derived_defaults(partial(read, load_config(settings)), set()))
    assert derived - set(SIZES["tiny"]) - {"gan.size"} <= set(DERIVED) <= derived


def read(config: RunConfig, key: str) -> object:
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def test_a_value_says_where_it_comes_from(tmp_path):
    (tmp_path / "own.yaml").write_text("gan: {generator: {width: 20}}\nseed: 3\n")
    file = str(tmp_path / "own.yaml")
    origins = resolve_config([file, "gan.size=base", "seed=4", "trainer.batch_size=128"]).origins
    assert origins["gan.generator.width"] == file and origins["seed"] == "command line"
    assert origins["gan.discriminator.width"] == "gan.size=base" and origins["gan.size"] == "command line"
    assert "batches above 32" in origins["gan.learning_rate"] and "gan.kl_weight" not in origins
    assert resolve_config([]).origins["gan.size"] == "by the hardware"


def test_what_is_at_its_default_has_no_origin_and_what_has_none_is_at_its_default():
    resolved, defaults = resolve_config(["gan.size=tiny"]), RunConfig()
    changed = {key for key in ROWS if read(resolved.config, key) != read(defaults, key)}
    assert changed <= set(resolved.origins) <= set(ROWS)


# ------------------------------------------------------------------------------------------------ commands


def test_the_command_prints_all_keys_of_a_section(capsys):
    train.main(["--help-config", "gan.generator"])
    printed = capsys.readouterr().out
    assert "gan.generator.*" in printed
    assert all(row.key.rpartition(".")[2] in printed for row in config_rows("gan.generator"))


def test_the_command_prints_all_keys_without_a_section(capsys):
    train.main(["--help-config"])
    printed = capsys.readouterr().out
    assert all(row.key.rpartition(".")[2] in printed for row in ROWS.values()) and "[csv]" in printed


@pytest.mark.parametrize("more", [["gan", "text"], ["seed=1"], ["x.yaml"]])
def test_the_command_takes_one_section_and_nothing_else(more):
    with pytest.raises(UserError, match="one section or key"):
        train.main(["--help-config", *more])


def test_the_command_prints_the_configuration_that_would_be_trained(capsys, tmp_path):
    train.main(["configs/gan/folder.yaml", "--print-config", "data.root=PICTURES"])
    printed = capsys.readouterr().out
    expected = load_config([str(ROOT / "configs/gan/folder.yaml"), "data.root=PICTURES"])
    (tmp_path / "x.yaml").write_text(printed)
    assert load_config([str(tmp_path / "x.yaml")]) == expected
    assert (
        set(keys_in(OmegaConf.create(yaml.safe_load(printed)))) == set(ROWS) and "# configs/gan/folder.yaml" in printed
    )


def test_a_mistake_in_what_is_printed_is_one_line():
    with pytest.raises(UserError, match="'learning_rate'"):
        train.main(["--print-config", "gan.learning_rat=1"])
