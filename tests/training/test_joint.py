import copy
import math
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from cgan.data.scenes.dataset import Scenes
from cgan.interfaces import Batch, UserError
from cgan.models.decoders import DecoderConfig
from cgan.models.encoders.resnet import ImageEncoderConfig
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.lstm import LSTMConfig, Vocabulary
from cgan.pixels import as_floats
from cgan.training import losses
from cgan.training.joint import JointTraining
from helpers import ROOT
from helpers.forked import in_processes, meet
from helpers.gan import fit

NEGATIVES = ["all", "hardest", "semihard", "weighted"]


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> Batch:
    """Scenes with their longest captions; the last three are of one picture."""
    scenes = Scenes(32, 32, cache=tmp_path_factory.mktemp("cache"))
    samples = [scenes[i] for i in range(32)]
    captions = [max(sample.captions, key=len) for sample in samples]
    return Batch(as_floats(torch.stack([s.image for s in samples])), captions, torch.arange(32).clamp(max=29))


def first(batch: Batch, number: int) -> Batch:
    return Batch(*(column[:number] for column in batch[:3]))


def tiny_joint(batch: Batch, width: int = 4, dim: int = 16, **changes) -> JointEncoder:
    torch.manual_seed(0)
    config = JointConfig(
        image=ImageEncoderConfig(width=width, embedding_dim=dim),
        text=LSTMConfig(dim=dim, embedding_dim=8, word_dropout=0),
        decoder=DecoderConfig(width=4, max_channels=16, word_dim=8, hidden_dim=32),
        **changes,
    )
    return JointEncoder(config, Vocabulary.of(batch.captions), 32)


def trained(joint: JointEncoder, batch: Batch, max_steps: int, **settings) -> pl.Trainer:
    return fit(JointTraining(joint), ".", max_steps, batches=[batch] * max_steps, **settings)


# ---------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("coattention_weight", [0.0, 1.0])
def test_training_makes_pictures_find_their_captions(batch, coattention_weight):
    settings = {"coattention_weight": coattention_weight, "picture_weight": 0.0, "caption_weight": 0.0}
    joint = tiny_joint(batch, width=8, dim=64, learning_rate=3e-3, **settings)
    trained(joint, batch, 60)
    found = joint.eval().scores(batch.images, batch.captions).argmax(dim=1) == torch.arange(32)
    assert found.float().mean() > 0.8


def test_muon_moves_all_convolutions_but_the_first_by_steps_of_its_rate(batch):
    joint = tiny_joint(batch, matrix_learning_rate=0.05)
    before = copy.deepcopy(joint)
    trained(joint, batch, 1)
    layers = zip(before.image.stages.modules(), joint.image.stages.modules(), strict=True)
    moves = [new.weight - old.weight for old, new in layers if isinstance(new, torch.nn.Conv2d)]
    assert all(0.2 < move.square().mean().sqrt() / (0.2 * 0.05) < 1.3 for move in moves)
    for old, new in ((before.image.stem[0], joint.image.stem[0]), (before.text.sentence, joint.text.sentence)):
        assert 0 < (new.weight - old.weight).abs().max() < 1.1e-3  # by Adam, at another rate


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_kind_of_negatives_trains_with_finite_weights(batch, negatives, precision):
    joint = tiny_joint(batch, negatives=negatives, coattention_weight=0.5)
    before = {name: value.clone() for name, value in joint.named_parameters()}
    trained(joint, first(batch, 8), 4, precision=precision)
    assert all(value.isfinite().all() for value in joint.state_dict().values())
    still = {name for name, value in joint.named_parameters() if torch.equal(value, before[name])}
    assert not still


def ranking_loss(config: JointConfig, scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    match config.negatives:
        case "all":
            return losses.info_nce(scores / config.temperature, ids, ids)
        case "hardest":
            return losses.hardest_negative(scores, ids, ids, config.margin)
        case "semihard":
            return losses.semi_hard_negative(scores, ids, ids, config.margin)
        case "weighted":
            return losses.weighted_negatives(scores, ids, ids, config.margin, config.temperature)


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("coattention_weight", [0.0, 0.5])
@pytest.mark.parametrize("similarity", ["cosine", "inner"])
def test_training_compares_the_scores_that_retrieval_uses(batch, negatives, coattention_weight, similarity):
    settings = {"negatives": negatives, "coattention_weight": coattention_weight, "similarity": similarity}
    joint = tiny_joint(batch, learning_rate=0.0, warm_up=0.0, **settings).eval()  # Lightning leaves it so
    scores = joint.scores(batch.images, batch.captions)
    loss = trained(joint, batch, 1).callback_metrics["loss/contrastive"]
    expected = sum(ranking_loss(joint.config, s, batch.image_ids) for s in (scores, scores.t())) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("weight", ["picture_weight", "caption_weight"])
def test_a_decoder_learns_what_its_weight_asks_for(batch, weight):
    batch, name = first(batch, 8), f"loss/{weight.removesuffix('_weight')}"

    def ratio(**weights: float) -> float:
        """Of the decoder's loss at the end to that at the start."""
        joint = tiny_joint(batch, contrastive_weight=1e-9, learning_rate=1e-2, **weights)
        start = trained(joint, batch, 1).callback_metrics[name]
        return float(trained(joint, batch, 40).callback_metrics[name] / start)

    others = {"picture_weight": 1e-9, "caption_weight": 1e-9}
    assert ratio(**others | {weight: 1.0}) < 0.6


def test_a_picture_is_described_as_it_was_in_training(batch):
    batch = first(batch, 4)
    joint = tiny_joint(batch, learning_rate=1e-2, picture_weight=0.0, caption_weight=1.0, decay_from=1.0)
    trained(joint, batch, 75)
    known = [joint.vocabulary.decode(joint.vocabulary.encode(caption)) for caption in batch.captions]
    joint.eval()
    assert joint.captions_of(batch.images) == known
    assert joint.greedy_decode(joint.text(batch.captions).sentence) == known


class Record(pl.Callback):
    """Hardness and learning rate of each step."""

    def __init__(self) -> None:
        self.hardness, self.rates = [], []

    def on_train_batch_start(self, trainer, module, *_) -> None:
        self.hardness.append(module.hardness())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_hardness_rises_to_1_in_the_warm_up(batch):
    for warm_up, expected in ((0.5, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]), (0.0, [1] * 8)):
        record, joint = Record(), tiny_joint(batch, negatives="hardest", warm_up=warm_up)
        trained(joint, first(batch, 4), 8, callbacks=[record])
        assert record.hardness == pytest.approx(expected)


def test_the_learning_rate_falls_to_a_twentieth_at_the_end(batch):
    record, joint = Record(), tiny_joint(batch, learning_rate=0.01, decay_from=0.5)
    trainer = trained(joint, first(batch, 4), 8, callbacks=[record])
    assert record.rates == pytest.approx([0.01] * 5 + [0.007625, 0.00525, 0.002875])
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0005)


def test_the_temperature_is_learned_and_the_scale_is_100_at_most(batch):
    joint = tiny_joint(batch, temperature=0.001, learning_rate=0.0, matrix_learning_rate=0.0).eval()
    assert joint.log_scale.item() == pytest.approx(math.log(1000), rel=1e-5)
    loss = trained(joint, batch, 1).callback_metrics["loss/contrastive"]
    scores, ids = 100 * joint.scores(batch.images, batch.captions), batch.image_ids
    expected = (losses.info_nce(scores, ids, ids) + losses.info_nce(scores.t(), ids, ids)) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


# ---------------------------------------------------------------------------------------------- processes

CASES = [(negatives, coattention_weight) for negatives in NEGATIVES for coattention_weight in (0.0, 0.5)]


class Gradients(pl.Callback):
    """Those of the first step, after they were averaged over processes."""

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.seen = {name: value.grad.clone() for name, value in module.named_parameters()}


def gradients(batch: Batch, negatives: str, coattention_weight: float, **settings) -> dict[str, torch.Tensor]:
    decoders = {"picture_weight": 0.0, "caption_weight": 0.0}
    joint = tiny_joint(batch, negatives=negatives, coattention_weight=coattention_weight, warm_up=0.0, **decoders)
    joint.image.eval()  # batch statistics would be those of each process alone
    kept = Gradients()
    mine = settings.pop("part", batch)
    trained(joint, mine, 1, callbacks=[kept], **settings)
    return kept.seen


def one_process(rank: int, batch: Batch, folder: Path) -> None:
    """What one of two processes of Lightning finds for its half of a batch."""
    meet(rank, 2, folder)
    os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    half = slice(4 * rank, 4 * rank + 4)
    settings = {"part": Batch(*(column[half] for column in batch[:3])), "strategy": "ddp", "devices": 2}
    found = [gradients(batch, *case, **settings, use_distributed_sampler=False) for case in CASES]
    torch.save(found, folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_find_the_gradient_of_one_with_the_whole_batch(batch, tmp_path):
    captions = [*batch.captions[:4], *(" ".join(caption.split()[:3]) for caption in batch.captions[4:8])]  # unequal
    batch = Batch(batch.images[:8], captions, torch.tensor([0, 1, 2, 3, 4, 1, 6, 7]))  # two pairs are of one picture
    in_processes(2, one_process, batch, tmp_path)
    of_ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for case, *found in zip(CASES, *of_ranks, strict=True):
        expected = gradients(batch, *case)
        for name, gradient in expected.items():
            for mine in found:
                assert torch.allclose(mine[name], gradient, rtol=1e-3, atol=1e-6), (case, name)
        assert sum(gradient.abs().sum() for gradient in expected.values()) > 0.1


# ---------------------------------------------------------------------------------------------- use


def test_scores_are_cosines_or_inner_products(batch):
    for similarity in ("cosine", "inner"):
        joint = tiny_joint(batch, similarity=similarity).eval()
        images, captions = joint.image(batch.images).embedding, joint.text(batch.captions).sentence
        expected = images @ captions.t()
        if similarity == "cosine":
            expected = F.cosine_similarity(images[:, None], captions, dim=2)
        assert torch.allclose(joint.scores(batch.images, batch.captions), expected, atol=1e-5)
        embedded = joint.embed_images(batch.images) @ joint.embed_captions(batch.captions).t()
        assert torch.allclose(embedded, expected, atol=1e-5)


def test_scores_with_coattention_add_it_to_the_similarity(batch):
    joint = tiny_joint(batch, coattention_weight=0.3).eval()
    pictures, text = joint.image(batch.images), joint.text(batch.captions)
    cosine = F.cosine_similarity(pictures.embedding[:, None], text.sentence, dim=2)
    expected = cosine + 0.3 * joint.coattention(pictures.maps[-1], text.words, text.mask)
    assert torch.allclose(joint.scores(batch.images, batch.captions), expected, atol=1e-5)


def test_vectors_of_batches_fit_together(batch):
    joint = tiny_joint(batch, coattention_weight=0.3).eval()
    images, captions = batch.images.repeat(5, 1, 1, 1), ["a dog", *batch.captions * 5]  # more than one block
    parts = [joint.caption_vectors(some) for some in ([captions[0]], captions[1:90], captions[90:])]
    scores = joint.score_vectors(joint.image_vectors(images), torch.cat(parts))
    assert torch.allclose(scores[:32, 1:33], joint.scores(batch.images, batch.captions), atol=1e-5)
    assert torch.allclose(scores[128:, 129:], scores[:32, 1:33], atol=1e-5)
    assert torch.allclose(scores[:, :1], joint.scores(images, ["a dog"]), atol=1e-5)


def test_decoders_that_are_switched_off_are_not_there(batch):
    joint = tiny_joint(batch, picture_weight=0.0, caption_weight=0.0).eval()
    assert not [name for name in joint.state_dict() if "decoder" in name]
    for use, said in ((joint.captions_of, "caption_weight"), (lambda x: joint.redraw(torch.zeros(1, 16)), "picture_w")):
        with pytest.raises(UserError, match=said) as error:
            use(batch.images)
        assert "\n" not in str(error.value)


def test_both_halves_must_share_a_latent():
    config = JointConfig(image=ImageEncoderConfig(embedding_dim=64), text=LSTMConfig(dim=32))
    with pytest.raises(UserError, match="joint.image.embedding_dim and joint.text.dim"):
        JointEncoder(config, Vocabulary(["dog"]), 32)


# ---------------------------------------------------------------------------------------------- file


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"coattention_weight": 0.5, "similarity": "inner", "negatives": "hardest"},
        {"picture_weight": 0.0, "caption_weight": 0.0},
    ],
    ids=["default", "coattention", "no decoders"],
)
@pytest.mark.parametrize("half", [False, True])
def test_a_joint_encoder_comes_back_from_its_file(batch, settings, half, tmp_path):
    joint = tiny_joint(batch, **settings)
    trained(joint, batch, 3)
    joint.eval().save(tmp_path / "joint.safetensors", half)
    again = JointEncoder.load(tmp_path / "joint.safetensors")
    near = {"atol": 1e-2, "rtol": 1e-2} if half else {"atol": 1e-6}
    assert asdict(again.config) == asdict(joint.config) and not again.training and again.resolution == 32
    assert torch.allclose(
        again.scores(batch.images, batch.captions), joint.scores(batch.images, batch.captions), **near
    )
    embeddings = joint.embed_images(batch.images)
    if joint.picture_decoder is not None:
        assert torch.allclose(again.redraw(embeddings), joint.redraw(embeddings), **near)
    if joint.caption_decoder is not None and not half:
        assert again.captions_of(batch.images) == joint.captions_of(batch.images)
    assert [path.name for path in tmp_path.iterdir()] == ["joint.safetensors"]


def test_weights_of_the_training_are_not_asked_for_again(batch, tmp_path):
    joint = tiny_joint(batch)
    joint.config.image.weights = "/gone/resnet50.pth"
    joint.save(tmp_path / "joint.safetensors")
    assert JointEncoder.load(tmp_path / "joint.safetensors").config.image.weights is None


@pytest.mark.parametrize("damage", ["empty", "text", "cut off", "of something else", "of other sizes"])
def test_a_damaged_file_is_one_line(batch, damage, tmp_path):
    from safetensors.torch import save_file

    path, joint = tmp_path / "joint.safetensors", tiny_joint(batch)
    joint.save(path)
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("not weights")
        case "cut off":
            path.write_bytes(path.read_bytes()[:-100])
        case "of something else":
            save_file({"x": torch.zeros(1)}, path)
        case "of other sizes":
            joint.config.image.width = 8
            joint.save(path)
    with pytest.raises(UserError, match="damaged, or not a joint encoder") as error:
        JointEncoder.load(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        JointEncoder.load(tmp_path / "joint.safetensors")


@pytest.mark.slow
def test_using_a_joint_encoder_imports_no_lightning():
    imports = "import sys, cgan.models.joint, cgan.retrieval, cgan.sampling.pipeline, cgan.evaluation.joint"
    code = f"{imports}; print('pytorch_lightning' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout.strip() == "False", ended.stderr
