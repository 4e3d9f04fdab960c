"""A process that has no pictures to measure, and networks that leave the GPU when all are measured."""

import pytest
import torch
from torch import nn
from torchmetrics import MetricCollection

from cgan.data.scenes.dataset import Scenes
from cgan.evaluation.loop import CollectedFrom, measure, of_dataset, real_features, shares
from cgan.evaluation.multi_object import JUDGES, MultiObjectReading
from cgan.evaluation.scenes import SceneReading
from cgan.metrics.features import GivenFeatures, MatchingNetwork
from cgan.metrics.matching import CaptionScore, GeneratedRPrecision
from cgan.metrics.names import SCENE_FEATURES
from cgan.metrics.quality import PictureQuality
from cgan.metrics.retrieval import RPrecision
from cgan.metrics.scenes import IntraCaptionDiversity, SceneClassifier, SceneClassifierConfig

COUNT = 12


class Colours(MatchingNetwork):
    """The mean colour of pictures; captions by their lengths. It has no answer to nothing."""

    name, num_features = "colours", 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert len(images)
        return images.float().mean(dim=(2, 3)) / 255 * self.scale.detach()

    def embed_captions(self, captions: list[str]) -> torch.Tensor:
        return torch.tensor([[len(caption), 1.0, 2.0] for caption in captions])


def classifier(num_values: tuple[int, ...] = SceneClassifierConfig().num_values) -> SceneClassifier:
    torch.manual_seed(0)
    return SceneClassifier(SceneClassifierConfig(num_values, width=4, feature_dim=8)).eval().requires_grad_(False)


def all_metrics() -> dict:
    features, others = torch.rand(COUNT, 3), torch.tensor([[(i + 1) % COUNT, (i + 2) % COUNT] for i in range(COUNT)])
    pairs = PictureQuality(GivenFeatures(8, SCENE_FEATURES), torch.rand(COUNT, 8), ("fid", "kid"))
    return {
        "collected": CollectedFrom(Colours()),
        "quality": PictureQuality(Colours(), features),
        "clip_score": CaptionScore(Colours()),
        "choice": GeneratedRPrecision(Colours(), captions(), others),
        "scenes": SceneReading(classifier(), PictureQuality(GivenFeatures(8, SCENE_FEATURES), torch.rand(COUNT, 8))),
        "pairs": MultiObjectReading(JUDGES["two"], classifier((8, 8, 8, 8, 2, 6)), pairs),
    }


def captions() -> list[str]:
    return ["a dog to the left of a cat" + " now" * i for i in range(COUNT)]


def batch(places: torch.Tensor) -> dict:
    images = torch.randint(256, (COUNT, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    empty = torch.zeros(0, 3, 1, 1, dtype=torch.uint8)
    some = images[places] if len(places) else empty
    return {"images": some, "captions": [captions()[i] for i in places.tolist()], "ids": places}


@pytest.mark.parametrize("name", all_metrics())
def test_a_metric_without_pictures_adds_nothing_to_those_of_other_processes(name):
    values = []
    for parts in ([range(COUNT)], [range(0), range(COUNT)]):
        torch.manual_seed(2)
        metric = MetricCollection({name: all_metrics()[name]}, compute_groups=False)
        for places in parts:
            metric.update(**batch(torch.tensor(places, dtype=torch.int64)))
        values.append(metric.compute())
    one, two = values
    assert one.keys() == two.keys()
    for key in one:
        assert torch.equal(one[key].nan_to_num(), two[key].nan_to_num()), key


def test_no_captions_change_neither_diversity_nor_r_precision():
    diversity, precision = IntraCaptionDiversity(), RPrecision()
    diversity.update(torch.zeros(0, 8, 5))
    precision.update(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, 9, 4))
    assert diversity.total == 0 and precision.total == 0
    diversity.update(torch.rand(2, 8, 5))
    precision.update(torch.eye(4)[:2], torch.eye(4)[:2], torch.eye(4)[2:].expand(2, 2, 4))
    assert diversity.compute() > 0 and precision.compute() == 1


def test_a_process_without_a_share_updates_its_metrics_all_the_same(monkeypatch):
    monkeypatch.setattr("cgan.evaluation.loop.num_processes", lambda: 3)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 2)
    (places,) = shares(2)
    assert len(places) == 0
    metrics = MetricCollection({"clip_score": CaptionScore(Colours())})
    measure(of_dataset(Scenes(2, 32, 0), captions=captions()[:2]), metrics)
    assert metrics["clip_score"].score.n_samples == 0


# ------------------------------------------------------------------------------------------------ devices


class Probe:
    """In place of a weight: says where it is sent."""

    def __init__(self) -> None:
        self.sent = []

    def to(self, device, *_) -> "Probe":
        self.sent.append(str(device))
        return self

    def is_floating_point(self) -> bool:
        return True

    def dim(self) -> int:
        return 1


class Travelling(Colours):
    """A network that stays on the CPU, and remembers where it was to be."""

    def __init__(self) -> None:
        super().__init__()
        self.probe = Probe()

    def _apply(self, move, *_) -> "Travelling":
        move(self.probe)
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.probe.sent.append("used")
        return super().forward(images)


def test_networks_are_on_the_device_while_they_measure_and_on_the_cpu_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))
    network, pictures = Travelling(), of_dataset(Scenes(4, 32, 0), captions=captions()[:4])
    real_features(network, pictures, "cpu:0")
    measure(pictures, MetricCollection({"clip_score": CaptionScore(network)}), "cpu:0")
    measure(pictures, MetricCollection({"clip_score": CaptionScore(network)}), "cpu:0")
    assert network.probe.sent == ["cpu:0", "used", "cpu"] * 3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_holds_no_weights_after_measuring(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))
    network, pictures = Colours(), of_dataset(Scenes(4, 32, 0), captions=captions()[:4])
    real_features(network, pictures, "cuda")
    assert network.scale.device.type == "cpu"
