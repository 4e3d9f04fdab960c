import copy
import os
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from cgan import load_config, train
from cgan.data.labels import LabelTable
from cgan.data.scenes.dataset import Scenes
from cgan.interfaces import Batch, Sample, UserError
from cgan.models.encoders.resnet import ImageEncoderConfig
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.lstm import LSTMConfig, Vocabulary
from cgan.pixels import as_floats
from cgan.training.joint import JointTraining
from cgan.training.loss_scaling import ScalerForEach
from cgan.training.shared_labels import num_shared, shared_labels_loss, weighted_contrast
from helpers.forked import in_processes, meet
from helpers.gan import fit
from helpers.runs import TINY

LABELS = [("dog", "red"), ("dog", "blue"), (), ("cat", "red"), ("dog", "red", "small")]
BOTH = {"labels_weight": 0.5, "adversarial_weight": 0.3}


def embeddings(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, len(LABELS), 6, generator=torch.Generator().manual_seed(seed)))


def by_hand(anchors, candidates, weight_of, same_kind: bool, temperature: float) -> float:
    """Khosla's equation 2, sum by sum, with weights."""
    anchors, candidates, total = F.normalize(anchors, dim=1), F.normalize(candidates, dim=1), 0.0
    for i in range(len(anchors)):
        allowed = [j for j in range(len(candidates)) if not (same_kind and i == j)]
        scores = {j: (anchors[i] @ candidates[j] / temperature).exp().item() for j in allowed}
        weights = {j: weight_of(i, j) for j in allowed}
        if sum(weights.values()):
            terms = [weights[j] * torch.tensor(scores[j] / sum(scores.values())).log().item() for j in allowed]
            total -= sum(terms) / sum(weights.values())
    return total / len(anchors)


def test_the_loss_is_khoslas_with_each_positive_weighted_by_the_labels_it_shares():
    (images, captions), table = embeddings(), LabelTable(LABELS)

    def shared(i: int, j: int) -> int:
        common = len(set(LABELS[i]) & set(LABELS[j]))
        return max(common, 1) if i == j else common

    loss = shared_labels_loss(images, captions, table.at(range(5)), len(table), 0.2)
    pairs = [(images, captions, False), (captions, images, False), (images, images, True), (captions, captions, True)]
    expected = sum(by_hand(one, other, shared, same, 0.2) for one, other, same in pairs) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_with_equal_labels_all_positives_count_alike():
    scores = torch.randn(3, 4)
    found = weighted_contrast(scores, torch.tensor([[2.0, 2, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]))
    logs = scores.log_softmax(dim=1)
    assert found.item() == pytest.approx((-(logs[0, :2].mean() + logs[2].mean()) / 3).item(), rel=1e-5)


def test_shared_labels_are_counted():
    table = LabelTable(LABELS)
    counts = num_shared(table.at([0, 2]), table.at(range(5)), len(table))
    assert counts.tolist() == [[2, 1, 0, 1, 2], [0, 0, 0, 0, 0]]


def test_pictures_that_share_more_labels_come_nearer():
    table, (images, captions) = LabelTable(LABELS), embeddings()
    images, captions = images.requires_grad_(), captions.requires_grad_()
    optimizer = torch.optim.Adam([images, captions], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        shared_labels_loss(images, captions, table.at(range(5)), len(table), 0.2).backward()
        optimizer.step()
    cosines = F.normalize(images.detach(), dim=1) @ F.normalize(captions.detach(), dim=1).t()
    assert cosines[0, 4] > cosines[0, 1] > cosines[0, 2] and cosines[0, 4] > cosines[0, 3] > cosines[0, 2]


# ---------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> tuple[Batch, int]:
    """Eight scenes, and how many labels there are."""
    scenes = Scenes(8, 32, cache=tmp_path_factory.mktemp("cache"))
    samples, table = [scenes[i] for i in range(8)], LabelTable.of(scenes)
    captions = [max(sample.captions, key=len) for sample in samples]
    images = as_floats(torch.stack([sample.image for sample in samples]))
    return Batch(images, captions, torch.arange(8), labels=table.at(range(8))), len(table)


def tiny_module(labelled: tuple[Batch, int], **changes) -> JointTraining:
    torch.manual_seed(0)
    settings = {"picture_weight": 0.0, "caption_weight": 0.0} | changes
    config = JointConfig(
        image=ImageEncoderConfig(width=4, embedding_dim=16),
        text=LSTMConfig(dim=16, embedding_dim=8, word_dropout=0),
        **settings,
    )
    return JointTraining(JointEncoder(config, Vocabulary.of(labelled[0].captions), 32), num_labels=labelled[1])


def steps(module: JointTraining, labelled: tuple[Batch, int], folder, number: int, **settings) -> pl.Trainer:
    return fit(module, folder, number, batches=[labelled[0]] * 8, **settings)


def test_both_terms_are_logged_and_add_up(labelled, tmp_path):
    module = tiny_module(labelled, **BOTH, learning_rate=0.0, matrix_learning_rate=0.0)
    metrics = steps(module, labelled, tmp_path, 1).callback_metrics
    module.joint.train()
    total = module.training_step(labelled[0], 0)
    parts = metrics["loss/contrastive"] + 0.5 * metrics["loss/labels"] + metrics["loss/modality"]
    parts = parts + 0.3 * metrics["loss/confusion"]
    assert total.item() == pytest.approx(parts.item(), rel=1e-4)


def test_without_weights_nothing_is_made_and_nothing_changes(labelled, tmp_path):
    plain, without = tiny_module(labelled), (labelled[0]._replace(labels=None), 0)
    metrics = steps(plain, without, tmp_path, 2).callback_metrics
    assert plain.modality is None and {name for name in metrics if name.startswith("loss/")} == {"loss/contrastive"}
    assert not [name for name in plain.state_dict() if not name.startswith("joint.")]


def test_the_modality_discriminator_is_trained_and_stays_out_of_the_encoders_file(labelled, tmp_path):
    module = tiny_module(labelled, adversarial_weight=0.3)
    before = copy.deepcopy(module.modality.state_dict())
    steps(module, labelled, tmp_path, 1)
    assert all(not torch.equal(before[name], value) for name, value in module.modality.state_dict().items())
    module.joint.save(tmp_path / "joint.safetensors")
    again = JointEncoder.load(tmp_path / "joint.safetensors")
    assert again.config.adversarial_weight == 0.3 and not [name for name in again.state_dict() if "modality" in name]


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_both_terms_train_in_mixed_precision(labelled, precision, tmp_path):
    scaler = ScalerForEach("cpu")
    scaler.of(0)._init_scale = 2.0**10  # 2^16 comes down by steps that are left out
    kind = {"plugins": [scaler]} if precision == "16-mixed" else {"precision": precision}
    module = tiny_module(labelled, **BOTH)
    before = copy.deepcopy(module.state_dict())
    metrics = steps(module, labelled, tmp_path, 1, **kind).callback_metrics
    plain = steps(tiny_module(labelled, **BOTH), labelled, tmp_path, 1).callback_metrics
    for name in ("loss/labels", "loss/modality"):
        assert metrics[name].item() == pytest.approx(plain[name].item(), rel=0.03)
    for name in ("joint.text.sentence.weight", "modality.hidden.weight"):
        after = module.state_dict()[name]
        assert after.isfinite().all() and not torch.equal(before[name], after)


def test_a_training_goes_on_from_a_checkpoint_exactly_where_it_stopped(labelled, tmp_path):
    whole = tiny_module(labelled, **BOTH, decay_from=1.0)
    steps(whole, labelled, tmp_path, 4)
    half = tiny_module(labelled, **BOTH, decay_from=1.0)
    steps(half, labelled, tmp_path, 2).save_checkpoint(tmp_path / "half.ckpt")
    rest = tiny_module(labelled, **BOTH, decay_from=1.0)
    steps(rest, labelled, tmp_path, 4, ckpt_path=tmp_path / "half.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


# ---------------------------------------------------------------------------------------------- processes


class Gradients(pl.Callback):
    """Those of the first step, after they were averaged over processes."""

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.seen = {name: value.grad.clone() for name, value in module.named_parameters()}


def gradients(labelled: tuple[Batch, int], part: slice, folder: Path, **settings) -> dict[str, torch.Tensor]:
    module, kept = tiny_module(labelled, **BOTH), Gradients()
    module.joint.image.eval()  # batch statistics would be those of each process alone
    mine = Batch(*(column[part] for column in labelled[0][:3]), labels=labelled[0].labels[part])
    fit(module, folder, 1, batches=[mine], callbacks=[kept], **settings)
    return kept.seen


def one_process(rank: int, labelled: tuple[Batch, int], folder: Path) -> None:
    """What one of two processes of Lightning finds for its half of a batch."""
    meet(rank, 2, folder)
    os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    settings = {"strategy": "ddp_find_unused_parameters_true", "devices": 2, "use_distributed_sampler": False}
    torch.save(gradients(labelled, slice(4 * rank, 4 * rank + 4), folder, **settings), folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_find_the_gradient_of_one_with_the_whole_batch(labelled, tmp_path):
    batch = labelled[0]._replace(labels=labelled[0].labels.clone(), image_ids=torch.tensor([0, 1, 2, 3, 4, 1, 6, 7]))
    batch.labels[2] = -1  # a picture without labels
    in_processes(2, one_process, (batch, labelled[1]), tmp_path)
    expected = gradients((batch, labelled[1]), slice(0, 8), tmp_path)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, gradient in expected.items():
            assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-6), name
    assert expected["modality.hidden.weight"].abs().sum() > 0


# ---------------------------------------------------------------------------------------------- runs


class Unlabelled:
    """A user's data set without labels, or with them."""

    def __init__(self, *labels: str) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> Sample:
        image = torch.full((3, 32, 32), 8 * index, dtype=torch.uint8)
        return Sample(image, self.captions_of(index), index, self.labels)

    def captions_of(self, index: int) -> list[str]:
        return [f"a picture of {index}"]


class Seen(pl.Callback):
    """The names of the metrics of the last step."""

    def on_train_end(self, trainer, module) -> None:
        self.names = set(trainer.callback_metrics)


JOINT = [*TINY, "task=joint", "trainer.joint_images=64"]


def test_a_weight_for_labels_that_are_not_there_is_one_line(tmp_path):
    config = load_config([*JOINT, "joint.labels_weight=0.3", f"run_dir={tmp_path / 'run'}"])
    with pytest.raises(UserError, match="joint.labels_weight=0.3: no picture of the data has labels") as error:
        train(config, dataset=Unlabelled())
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", [None, Unlabelled("grey", "square")], ids=["scenes", "the user's own"])
def test_a_run_trains_by_labels_and_against_modalities_and_reports_both(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    more = [
        "joint.labels_weight=0.3",
        "joint.adversarial_weight=0.1",
        "data.test_images=8",
        f"run_dir={tmp_path / 'run'}",
    ]
    seen = Seen()
    result = train(load_config([*JOINT, *more]), dataset=dataset, callbacks=[seen])
    assert {"loss/labels", "loss/modality"} <= seen.names
    if dataset is None:
        assert 0 < result.metrics["image_to_text/ndcg@10"] <= 1 and 0 <= result.metrics["modality_gap"] <= 2
