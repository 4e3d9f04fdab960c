import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from cgan.data.loading import endless_loader
from cgan.data.scenes.captions import mentioned_in
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.levels import level_of
from cgan.evaluation import joint as joint_evaluation
from cgan.evaluation.joint import evaluate_joint, reconstruction_sheet
from cgan.interfaces import Sample
from cgan.models.decoders import DecoderConfig
from cgan.models.encoders.resnet import ImageEncoderConfig
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.lstm import LSTMConfig, Vocabulary
from cgan.pixels import as_floats
from cgan.training.joint import JointTraining


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Scenes:
    return Scenes(24, 32, cache=tmp_path_factory.mktemp("cache"))


def small_joint(dataset, **changes) -> JointEncoder:
    torch.manual_seed(0)
    config = JointConfig(
        image=ImageEncoderConfig(width=4, embedding_dim=32),
        text=LSTMConfig(dim=32, embedding_dim=8, word_dropout=0),
        decoder=DecoderConfig(width=4, max_channels=16, word_dim=8, hidden_dim=32),
        learning_rate=1e-2,
        **changes,
    )
    return JointEncoder(config, Vocabulary.of(c for i in range(len(dataset)) for c in dataset.captions_of(i)), 32)


@pytest.fixture(scope="module")
def joint(scenes) -> JointEncoder:
    """Trained for a moment, so that some of what it says is right and some is wrong."""
    joint = small_joint(scenes, coattention_weight=0.5, caption_weight=1.0)
    trainer = pl.Trainer(
        max_steps=90, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(JointTraining(joint), endless_loader(scenes, 12, seed=0))
    return joint.eval()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(joint_evaluation, "BATCH", 7)


def truth(mentioned: tuple[int, ...], attributes: np.ndarray) -> bool:
    return all(said in (-1, true) for said, true in zip(mentioned, attributes, strict=True))


def test_recalls_are_those_of_all_scores_of_pictures_with_captions(joint):
    generator = torch.Generator().manual_seed(0)
    words = [["red", "blue", "small"], ["dog", "cat", "car", "tree"]]
    captions = [f"a {a} {b}" for a in words[0] for b in words[1]]  # all different: no ties
    images = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8, generator=generator)
    samples = [Sample(image, captions[2 * i : 2 * i + 2], i) for i, image in enumerate(images)]
    report, scores = evaluate_joint(joint, samples), joint.scores(as_floats(images), captions)
    found = (scores.argmax(dim=1) // 2 == torch.arange(6)).float().mean()
    assert report["image_to_text/recall@1"] == pytest.approx(found.item())
    found = (scores.argmax(dim=0) == torch.arange(12) // 2).float().mean()
    assert report["text_to_image/recall@1"] == pytest.approx(found.item())
    assert report["ceiling/text_to_image/recall@1"] == 1 and "agreement" not in report


def test_agreement_asks_whether_the_best_caption_is_true_of_a_picture(joint, scenes):
    report, pictures = evaluate_joint(joint, scenes), [scenes[i] for i in range(24)]
    captions, owners = zip(*[(c, i) for i, picture in enumerate(pictures) for c in picture.captions], strict=True)
    right, right_others = [], []
    for i, picture in enumerate(pictures):
        order = joint.scores(as_floats(picture.image[None]), list(captions))[0].argsort(descending=True).tolist()
        others = [j for j in order if owners[j] != i]
        for best, kept in ((order[0], right), (others[0], right_others)):
            kept.append(truth(mentioned_in(captions[best]), scenes.attributes[i]))
    assert report["agreement"] == pytest.approx(np.mean(right))
    assert report["agreement_others"] == pytest.approx(np.mean(right_others))
    assert 0 < np.mean(right_others) < np.mean(right)


def test_caption_accuracy_asks_whether_what_is_written_is_true(joint, scenes):
    report, right, counts = evaluate_joint(joint, scenes), [], []
    for i in range(24):
        mentioned = mentioned_in(joint.captions_of(as_floats(scenes[i].image[None]))[0])
        counts.append(sum(value >= 0 for value in mentioned))
        right.append(mentioned[0] >= 0 and truth(mentioned, scenes.attributes[i]))
    assert report["caption_accuracy"] == pytest.approx(np.mean(right))
    assert report["caption_mentions"] == pytest.approx(np.mean(counts)) and np.mean(counts) > 1
    assert np.isfinite(list(report.values())).all()


@pytest.mark.parametrize("level", ["two", "three"])
def test_retrieval_is_measured_on_scenes_of_several_objects(level, tmp_path):
    several = Scenes(12, 32, cache=tmp_path, level=level_of(level))
    report = evaluate_joint(small_joint(several), several)
    assert 0 <= report["text_to_image/recall@1"] <= report["ceiling/text_to_image/recall@1"] == 1
    assert {"image_to_text/ndcg@10", "modality_gap"} < set(report) and "agreement" not in report


def test_an_untrained_decoder_is_judged_as_well(scenes):
    report = evaluate_joint(small_joint(scenes), scenes)
    assert 0 <= report["caption_accuracy"] <= 1 and np.isfinite(list(report.values())).all()
    without = evaluate_joint(small_joint(scenes, caption_weight=0.0), scenes)
    assert "caption_accuracy" not in without and "agreement" in without


def test_a_sheet_shows_each_picture_beside_what_is_redrawn_from_it_and_from_its_caption(joint, scenes):
    samples = [scenes[i] for i in range(3)]
    sheet = reconstruction_sheet(joint, samples)
    columns = [as_floats(torch.stack([s.image for s in samples]))]
    columns.append(joint.redraw(joint.embed_images(columns[0])))
    columns.append(joint.redraw(joint.embed_captions([s.captions[0] for s in samples])))
    assert sheet.dtype == np.uint8
    for i in range(3):
        for j, column in enumerate(columns):
            drawn = sheet[i * 68 : i * 68 + 64 : 2, j * 64 : j * 64 + 64 : 2]  # each pixel is shown as 2 x 2
            expected = ((column[i] + 1) * 127.5).permute(1, 2, 0).numpy()
            assert np.abs(drawn - expected).max() <= 1
    assert (sheet[:, 200:] < 128).any(axis=(1, 2)).reshape(3, 68).any(axis=1).all()  # words beside each


@pytest.mark.parametrize("off", [["picture_weight"], ["caption_weight"], ["picture_weight", "caption_weight"]])
def test_a_sheet_leaves_out_what_there_is_no_decoder_for(scenes, off):
    joint = small_joint(scenes, **dict.fromkeys(off, 0.0))
    sheet = reconstruction_sheet(joint, [scenes[0], scenes[1]])
    assert sheet.shape == (2 * 68, (64 if "picture_weight" in off else 3 * 64) + 520, 3)
