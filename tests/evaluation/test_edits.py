import numpy as np
import pytest
import torch

from cgan.data.scenes.attributes import Scene, is_heldout
from cgan.data.scenes.captions import mentioned_in
from cgan.data.scenes.edits import NAMES, describe_all, edit_scene
from cgan.errors import UserError
from cgan.evaluation.edits import EditScores, edits_for, evaluate_edits
from cgan.metrics.scenes import Reading, load_scene_classifier
from cgan.pixels import as_floats


def test_an_edit_changes_one_attribute_and_its_caption_says_so():
    data = edits_for(40, 64, seed=3)
    for name, edits in data.edits.items():
        column = NAMES.index(name)
        for edit, caption, scene in zip(edits, data.captions[name], data.scenes, strict=True):
            changed = [i for i in range(len(NAMES)) if edit.after[i] != scene[i]]
            told = mentioned_in(caption)
            assert changed == [column] and told[column] == edit.after[column] and told.object == edit.after.object
            assert all(value in (-1, wanted) for value, wanted in zip(told, edit.after, strict=True))


def test_sources_are_held_out_and_what_the_classifier_sees_in_them_is_the_truth():
    data = edits_for(40, 64, seed=3)
    assert all(is_heldout(scene) for scene in data.scenes)
    assert [mentioned_in(caption) for caption in data.own] == data.scenes
    seen = load_scene_classifier().read(as_floats(data.sources)).values
    assert (seen == torch.tensor(data.scenes)).double().mean() > 0.98


def test_training_edits_lead_to_no_held_out_combination():
    rng, scene = np.random.default_rng(0), Scene(0, 1, 0, 0, 1)
    assert not any(is_heldout(edit_scene(scene, "colour", rng, seen=True).after) for _ in range(60))
    assert len({describe_all(scene, rng) for _ in range(20)}) > 5


def test_scores_count_the_new_attribute_and_the_others_apart():
    wanted = torch.tensor([[1, 2, 0, 0, 3]] * 4)
    values = wanted.clone()
    values[1, 1] = 5  # the colour is not the new one
    values[2, 4] = 0  # the ground was lost
    reading = Reading(values, torch.tensor([True, True, True, False]), torch.zeros(4, 1))
    scores = EditScores.of(reading, wanted, "colour")
    assert scores.edit_accuracy == 0.5 and scores.kept_attributes == 0.75
    assert scores.kept == {"object": 1.0, "size": 1.0, "position": 1.0, "ground": 0.75}


@pytest.mark.slow
def test_with_nothing_kept_an_edit_is_a_new_picture(pipe):
    report = evaluate_edits(pipe, 8, keep=0.0)
    assert report.edited == report.resampled and report.redrawn.l1 < report.redrawn.l1_resampled


def test_too_few_scenes_are_refused(pipe):
    with pytest.raises(UserError, match="too few"):
        evaluate_edits(pipe, 3)
