"""No match statement passes over a value that it does not know."""

import ast

import pytest
import torch

from cgan.models.augment import augment
from cgan.models.discriminator import DiscriminatorConfig, build_trunk
from cgan.models.encoders.resnet import ImageEncoderConfig, build_image_encoder
from cgan.training import losses
from helpers import ROOT

PACKAGE = ROOT / "cgan"


def is_silent(match: ast.Match, following: ast.stmt | None) -> bool:
    """Whether other values pass: no case is for all of them, and no return or raise comes right after."""
    last = match.cases[-1]
    for_all = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None and last.guard is None
    return not for_all and not isinstance(following, ast.Return | ast.Raise)


def silent_matches(tree: ast.Module) -> list[int]:
    """Their lines."""
    found = []
    for node in ast.walk(tree):
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            statements = [*block, None] if isinstance(block, list) else []
            pairs = zip(statements[:-1], statements[1:], strict=True)
            found += [
                one.lineno for one, following in pairs if isinstance(one, ast.Match) and is_silent(one, following)
            ]
    return found


def test_a_match_that_passes_over_a_value_is_found():
    silent = "def f(x):\n    match x:\n        case 1:\n            y = 2\n    print(y)"
    assert silent_matches(ast.parse(silent)) == [2]
    assert not silent_matches(ast.parse(silent.replace("case 1", "case _")))
    assert not silent_matches(ast.parse(silent.replace("print(y)", "raise ValueError(x)")))


def test_every_match_has_an_answer_to_a_value_that_it_does_not_know():
    found = {path.relative_to(PACKAGE): silent_matches(ast.parse(path.read_text())) for path in PACKAGE.rglob("*.py")}
    assert not {str(path): lines for path, lines in found.items() if lines}


LOGITS = torch.zeros(2, 1)


@pytest.mark.parametrize(
    "action",
    [
        lambda: losses.discriminator_loss("wasserstein", LOGITS, LOGITS),
        lambda: losses.generator_loss("wasserstein", LOGITS),
        lambda: losses.mismatch_loss("wasserstein", LOGITS, LOGITS, torch.ones(2)),
        lambda: augment(torch.zeros(1, 3, 8, 8), ["mirrored"], [torch.rand(1)]),
        lambda: build_trunk(DiscriminatorConfig(trunk="unet"), 32),
        lambda: build_image_encoder(ImageEncoderConfig(network="large")),
    ],
)
def test_an_unknown_choice_is_named(action):
    with pytest.raises(AssertionError, match="'(wasserstein|mirrored|unet|large)'"):
        action()
