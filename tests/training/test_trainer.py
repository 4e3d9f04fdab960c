"""The trainer that train.py makes: where it trains, and what stands in for Lightning's own parts."""

import copy

import lightning_fabric
import pytest
import timm
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CPUAccelerator, MPSAccelerator
from torch import nn

from cgan.config import TrainerConfig
from cgan.models.encoders.resnet import SmallResNet
from cgan.training.distributed import SyncTrainedBatchNorm
from cgan.training.trainer import plugins_of, strategy_of, trainer_of


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it trains on the GPU")
def test_a_mac_trains_on_its_cpu(monkeypatch):
    for accelerator in (lightning_fabric.accelerators.MPSAccelerator, MPSAccelerator):
        monkeypatch.setattr(accelerator, "is_available", staticmethod(lambda: True))
    trainer = trainer_of(TrainerConfig(precision="32-true"), 1, None, 0, [], [])
    assert isinstance(trainer.accelerator, CPUAccelerator)


def test_batch_normalisation_is_shared_by_several_gpus_alone():
    assert [type(plugin).__name__ for plugin in plugins_of("32-true", True)] == ["PlainFiles", "SyncTrainedBatchNorm"]
    assert not any(isinstance(plugin, SyncTrainedBatchNorm) for plugin in plugins_of("32-true", False))
    settings = {"accelerator": "cpu", "devices": 2, "plugins": plugins_of("32-true", True), "logger": False}
    for strategy in (strategy_of(True, num_optimizers=1), strategy_of(True, num_optimizers=2)):
        assert isinstance(Trainer(**settings, strategy=strategy).strategy._layer_sync, SyncTrainedBatchNorm)


def test_frozen_features_keep_their_activations_when_batch_normalisation_is_shared():
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2))
    network = network.eval().requires_grad_(False)
    images = torch.randn(2, 3, 32, 32)
    before = network(images)
    shared = SyncTrainedBatchNorm().apply(nn.ModuleList([network]))
    assert all(torch.equal(a, b) for a, b in zip(before, shared[0](images), strict=True))


def test_only_trained_layers_share_their_batch_normalisation_and_get_it_back_as_it_was():
    trained, frozen = SmallResNet(4, 16), SmallResNet(4, 16).requires_grad_(False)
    both, sync = nn.ModuleList([trained, frozen]), SyncTrainedBatchNorm()
    kinds, weights = [type(layer) for layer in both.modules()], copy.deepcopy(both.state_dict())
    sync.apply(both)
    count = [sum(isinstance(layer, nn.SyncBatchNorm) for layer in network.modules()) for network in both]
    assert count[0] == kinds.count(nn.BatchNorm2d) / 2 and count[1] == 0
    trained.stem[1].running_mean.fill_(0.5)  # learned in between
    sync.revert(both)
    assert [type(layer) for layer in both.modules()] == kinds
    weights["0.stem.1.running_mean"].fill_(0.5)
    assert all(torch.equal(value, weights[name]) for name, value in both.state_dict().items())
