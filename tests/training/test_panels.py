"""The names of panels in W&B and TensorBoard."""

import pytest

from cgan.training.panels import best_of, panel_name


@pytest.mark.parametrize(
    ("name", "panel"),
    [
        ("loss/generator", "train/loss/generator"),
        ("gradient_norm/discriminator", "train/gradient_norm/discriminator"),
        ("learning_rate/prior", "train/learning_rate/prior"),
        ("images_per_second", "perf/images_per_second"),
        ("evaluation_seconds", "perf/evaluation_seconds"),
        ("health/diversity", "health/diversity"),
        ("skipped_steps", "health/skipped_steps"),
        ("scene_accuracy_heldout", "eval/scene_accuracy_heldout"),
        ("relation_heldout", "eval/relation_heldout"),
        ("joint/r_precision", "eval/joint/r_precision"),
        ("image_to_text/recall@5", "eval/image_to_text/recall@5"),
        ("ceiling/text_to_image/recall@1", "eval/ceiling/text_to_image/recall@1"),
        ("images_seen", "images_seen"),
        ("brightness", "brightness"),  # a user's own
        ("samples/grid", "samples/grid"),
    ],
)
def test_a_name_says_its_group_first_and_once(name, panel):
    assert panel_name(name) == panel == panel_name(panel)


def test_the_best_value_is_the_one_on_the_better_side():
    assert [best_of(name) for name in ("eval/fid", "eval/joint/frechet_distance")] == ["min", "min"]
    assert [best_of(name) for name in ("eval/scene_accuracy", "eval/relation_heldout")] == ["max", "max"]
    assert best_of("eval/image_to_text/recall@1") == "max" and best_of("eval/image_to_text/median_rank") == "min"
    assert best_of("eval/ceiling/image_to_text/recall@1") is None and best_of("train/loss/generator") is None
