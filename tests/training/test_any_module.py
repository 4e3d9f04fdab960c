"""Callbacks that work in any LightningModule with a sample(captions, noise)."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from cgan.data.scenes.dataset import Scenes
from cgan.errors import UserError
from cgan.metrics.features import FeatureNetwork
from cgan.training.callbacks import EvaluationCallback, SampleGridCallback
from cgan.training.callbacks.any_module import ImageCount, images_in, in_eval_mode
from helpers.gan import tiny_gan


class Colours(FeatureNetwork):
    """The mean colour of an image."""

    name, num_features = "colours", 3

    def forward(self, images):
        return images.float().mean(dim=(2, 3))

    def spec(self):
        return {"network": self.name}


class Foreign(pl.LightningModule):
    """Somebody else's generator, which never learns, and counts how often its samples are drawn in which mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.modes = nn.Sequential(nn.Linear(4, 3 * 32 * 32), nn.Dropout()), []

    def sample(self, captions, noise):
        self.modes.append(self.training)
        return self.layer(noise).tanh().view(len(captions), 3, 32, 32)

    def training_step(self, batch, batch_idx):
        return (self.layer(torch.randn(len(batch), 4)) ** 2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def trained(folder, *callbacks: pl.Callback, steps: int = 6) -> Foreign:
    module, loader = Foreign(), torch.utils.data.DataLoader(torch.rand(64, 1), batch_size=8)
    trainer = pl.Trainer(
        max_steps=steps, accelerator="cpu", logger=CSVLogger(folder), callbacks=list(callbacks),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    return module


def test_a_foreign_module_is_evaluated_in_evaluation_mode_by_steps_or_images(tmp_path, cache):
    scenes, heard = Scenes(16, 32), []
    options = {"noise_dim": 4, "features": Colours(), "num_images": 16, "report": heard.append}
    by_steps = EvaluationCallback(scenes, ["fid"], every_n_steps=2, folder=tmp_path, **options)
    by_images = EvaluationCallback(scenes, ["fid"], every_images=24, **options)
    module = trained(tmp_path, by_steps, by_images)
    assert len(heard) == 3 + 2 and all("colours/frechet_distance" in line for line in heard)
    assert by_images.evaluated_at == 48 and not any(module.modes) and module.training
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["callbacks"][by_steps.state_key]["followed"] == "colours/frechet_distance" == by_steps.followed
    assert by_steps.best == by_steps.best_metrics["colours/frechet_distance"]


def test_grids_of_a_foreign_module_are_named_for_its_images(tmp_path):
    grid = SampleGridCallback(tmp_path / "grids", ["a dog", "a cat"], 4, every_n_steps=4)
    module = trained(tmp_path, grid)
    assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == [
        "images_000000008.png", "images_000000032.png", "images_000000048.png",
    ]  # fmt: skip
    assert len(module.modes) == 6 and not any(module.modes)


def test_cgans_own_module_samples_by_its_average():
    gan, noise = tiny_gan(), torch.randn(2, 8)
    torch.nn.utils.vector_to_parameters(torch.zeros(sum(w.numel() for w in gan.generator.parameters())),
                                        gan.generator.parameters())  # fmt: skip
    expected = gan.generator_ema(noise, gan.text_encoder(["a red dog", "a tree"]))
    assert torch.equal(gan.sample(["a red dog", "a tree"], noise), expected)


@pytest.mark.parametrize(
    ("batch", "number"),
    [
        (torch.zeros(3, 1), 3),
        ({"captions": ["a"] * 9, "images": torch.zeros(5, 1)}, 5),
        ((["a", "b"], torch.zeros(4)), 4),
        (["a"], 0),
        (torch.tensor(1.0), 0),
    ],
)
def test_the_images_of_a_batch_are_counted_by_its_first_tensor(batch, number):
    assert images_in(batch) == number


def test_a_modules_own_count_counts():
    module, count = tiny_gan(), ImageCount()
    count.counted, module.images_seen = 7, 96
    assert count.of(module) == 96 and count.of(Foreign()) == 7


def test_every_part_has_its_own_mode_again():
    network = nn.Sequential(nn.Dropout(), nn.Dropout())
    network[1].eval()
    with in_eval_mode(network):
        assert not any(part.training for part in network.modules())
    assert [part.training for part in network.modules()] == [True, True, False]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give a data set with metrics, or an evaluator"),
        ({"metrics": []}, "metrics: none: give some of fid"),
        ({"metrics": ["fidd"]}, "metrics: fidd: give some of fid"),
        ({"metrics": ["clip_score"]}, "clip_score: give clip=NETWORK"),
        ({"metrics": ["fid"], "followed": "fidd"}, "followed=fidd: no such metric"),
    ],
)
def test_a_mistake_is_one_line(arguments, said):
    dataset = [Scenes(8, 32)] if arguments else []
    with pytest.raises(UserError, match=said):
        EvaluationCallback(*dataset, noise_dim=4, features=Colours(), **arguments)
