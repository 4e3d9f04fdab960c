import math
from dataclasses import fields, is_dataclass
from typing import get_args, get_type_hints

import pytest

from cgan.config import RunConfig, load_config
from cgan.errors import UserError
from cgan.ranges import RANGES, Range, check_seed


def numeric_keys(settings: type, prefix: str = "") -> list[str]:
    """By the types of the fields, so that absent numbers are among them."""
    found, hints = [], get_type_hints(settings)
    for field in fields(settings):
        kind = hints[field.name]
        if is_dataclass(kind):
            found += numeric_keys(kind, f"{prefix}{field.name}.")
        elif {int, float} & {kind, *get_args(kind)}:
            found.append(prefix + field.name)
    return found


def test_every_number_of_a_configuration_has_a_range_and_every_range_a_number():
    assert sorted(numeric_keys(RunConfig)) == sorted(RANGES)


def test_no_number_may_be_negative_or_none_at_all():
    wrong = [key for key, allowed in RANGES.items() if any(x in allowed for x in (-1, -0.5, math.nan, math.inf))]
    assert not wrong


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("seed=4294967296", "from 0 to 4,294,967,295"),
        ("data.seed=4294967296", "from 0 to 4,294,967,295"),
        ("trainer.batch_size=0", "at least 1"),
        ("trainer.joint_batch_size=0", "at least 1"),
        ("trainer.keep_checkpoints=0", "at least 1"),
        ("trainer.images=0", "at least 1"),
        ("trainer.minutes=0", "above 0"),
        ("trainer.gradient_clip=0", "above 0"),
        ("trainer.sample_every=-1", "0: never"),
        ("gan.second_beta=1", "at least 0 and below 1"),
        ("gan.reconstructed_fraction=1.5", "from 0 to 1"),
        ("gan.generator.patch=3", "one of 1, 2, 4, 8"),
        ("gan.learning_rate=inf", "at least 0"),
        ("gan.ema_half_life=0", "above 0"),
        ("joint.temperature=0", "above 0"),
        ("joint.text.dim=129", "even"),
        ("text.max_words=0", "at least 1"),
    ],
)
def test_a_number_out_of_its_range_is_one_line_that_says_what_it_may_be(setting, said):
    with pytest.raises(UserError, match=said) as error:
        load_config([setting])
    assert str(error.value).startswith(setting.partition("=")[0]) and "\n" not in str(error.value)


def test_never_may_be_said_of_every_cadence():
    never = [f"trainer.{name}_every=0" for name in ("sample", "evaluate", "checkpoint")]
    load_config([*never, "trainer.num_workers=0", "gan.adversarial_from=2", "trainer.minutes=null"])


def test_ranges_know_their_ends():
    assert 0 not in Range(0, 1, above=True) and 1 in Range(0, 1) and 1 not in Range(0, 1, below=True)
    assert math.inf not in Range(0) and math.nan not in Range(0) and 3 not in Range(2, even=True)


def test_the_last_of_several_seeds_counts():
    check_seed("--seed", 2**32 - 4, spread=3)
    with pytest.raises(UserError, match="--seed 4294967293"):
        check_seed("--seed 4294967293", 2**32 - 3, spread=3)
