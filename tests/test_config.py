from pathlib import Path

import pytest

from cgan.config import load_config
from cgan.interfaces import UserError

CONFIGS = [path for path in Path(__file__).parents[1].glob("configs/**/*.yaml") if path.parent.name != "race"]


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
