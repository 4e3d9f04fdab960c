"""Distances of pictures: against torch-fidelity, against loops over all pairs, and between processes."""

import json
import shutil
import urllib.request
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch.utils.data import Dataset
from torch_fidelity import feature_extractor_inceptionv3
from torch_fidelity.metric_isc import isc_features_to_metric
from torchmetrics import MetricCollection
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

from cgan.interfaces import UserError
from cgan.metrics import distances, neighbours, required_weights
from cgan.metrics.distances import frechet_distance, inception_score, kernel_distance, memorization
from cgan.metrics.features import GivenFeatures, Inception, MatchingNetwork, resized_clean
from cgan.metrics.matching import CaptionScore, GeneratedRPrecision
from cgan.metrics.names import SCENE_FEATURES
from cgan.metrics.neighbours import neighbourhoods
from cgan.metrics.quality import PictureQuality
from cgan.metrics.required_weights import MissingWeights, in_lines, inception_weights, missing_weights
from cgan.pixels import as_bytes, as_floats
from helpers.clip import save_clip
from helpers.forked import in_processes
from helpers.measured_apart import measured


class Pictures(Dataset):
    """As torch-fidelity takes them."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def some_pictures(count: int, seed: int, darkest: int = 0) -> torch.Tensor:
    """Coarse patterns, uint8 (count, 3, 40, 40)."""
    coarse = torch.randint(darkest, 256, (count, 3, 5, 5), generator=torch.Generator().manual_seed(seed))
    return coarse.byte().repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)


@pytest.fixture(scope="module")
def peer(random_inception) -> dict[str, float]:
    """What torch-fidelity finds."""
    return torch_fidelity.calculate_metrics(
        input1=Pictures(some_pictures(20, 0, 20)), input2=Pictures(some_pictures(22, 1)), batch_size=20, cuda=False,
        fid=True, kid=True, prc=True, kid_subset_size=12, kid_subsets=7, verbose=False, cache=False,
        feature_layer_fid="64", feature_layer_kid="64", feature_layer_prc="64", save_cpu_ram=False,
        feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(random_inception),
    )  # fmt: skip


def on_inception(file: Path) -> PictureQuality:
    network = Inception(file, num_features=64)
    return PictureQuality(network, network(some_pictures(22, 1)))


def test_distances_are_those_of_torch_fidelity(random_inception, peer, monkeypatch):
    monkeypatch.setattr(distances, "SUBSETS", 7)
    monkeypatch.setattr(distances, "SUBSET_SIZE", 12)
    metric, images = on_inception(random_inception), some_pictures(20, 0, 20)
    metric.update(images[:13], torch.arange(13))
    metric.update(images[13:], torch.arange(13, 20))
    values = metric.compute()
    assert float(values["fid"]) == pytest.approx(peer["frechet_inception_distance"], rel=1e-3)
    assert float(values["kid"]) == pytest.approx(peer["kernel_inception_distance_mean"], rel=1e-3)
    assert float(values["precision"]) == pytest.approx(peer["precision"])
    assert float(values["recall"]) == pytest.approx(peer["recall"])
    assert 0 < peer["recall"] < 1


def test_the_frechet_distance_is_that_of_the_symmetric_root(random_inception):
    """As it was computed here before torchmetrics: by the eigenvalues of b^(1/2) a b^(1/2), which are real."""
    fake, real = (torch.rand(n, 24, generator=torch.Generator().manual_seed(n)).double() ** 2 for n in (20, 70))
    a, b = torch.cov(fake.t()), torch.cov(real.t())
    values, vectors = torch.linalg.eigh(b)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.t()
    roots = torch.linalg.eigvalsh(root @ a @ root).clamp(min=0).sqrt()
    expected = (fake.mean(0) - real.mean(0)).square().sum() + a.trace() + b.trace() - 2 * roots.sum()
    assert frechet_distance(fake, real) == pytest.approx(float(expected), rel=1e-6)


def test_the_frechet_distance_is_the_same_where_eigenvalues_do_not_converge(monkeypatch):
    torch.manual_seed(0)
    fake, real = torch.randn(40, 16), torch.randn(40, 16) + 0.3
    expected = frechet_distance(fake, real)

    def diverge(matrix: torch.Tensor) -> torch.Tensor:
        raise torch.linalg.LinAlgError("the algorithm failed to converge")

    monkeypatch.setattr(torch.linalg, "eigvals", diverge)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-6)


def test_values_are_in_float64_whatever_autocast_says():
    fake, real = (torch.rand(40, 6, generator=torch.Generator().manual_seed(i)) for i in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = PictureQuality(GivenFeatures(6), real)
        mixed.update(fake, torch.arange(40))
        found = mixed.compute()
    plain = PictureQuality(GivenFeatures(6), real)
    plain.update(fake, torch.arange(40))
    assert all(value.dtype == torch.float64 for value in found.values())
    assert {**found} == {**plain.compute()}


def test_real_pictures_are_kept_and_a_second_evaluation_finds_the_same():
    fake, real = torch.rand(40, 6), torch.rand(30, 6)
    metric = PictureQuality(GivenFeatures(6), real)
    metric.update(fake, torch.arange(40))
    first = metric.compute()
    metric.reset()
    metric.update(fake[20:], torch.arange(20, 40))
    metric.update(fake[:20], torch.arange(20))
    assert metric.frechet.real_features_num_samples == 30
    assert {name: float(x) for name, x in metric.compute().items()} == pytest.approx(
        {name: float(x) for name, x in first.items()}, rel=1e-12
    )


def test_the_kernel_distance_draws_the_same_subsets_each_time_and_leaves_the_global_generator(monkeypatch):
    monkeypatch.setattr(distances, "SUBSET_SIZE", 10)
    fake, real = torch.rand(40, 6).double(), torch.rand(50, 6).double()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    values = {float(kernel_distance(fake, real)) for _ in range(2)}
    assert len(values) == 1 and torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("count", [12, 200])
def test_the_inception_score_is_torch_fidelity_s(count):
    logits = 3 * torch.randn(count, 30, generator=torch.Generator().manual_seed(0))
    expected = isc_features_to_metric(logits, splits=10)
    assert float(inception_score(logits)) == pytest.approx(expected["inception_score_mean"], rel=1e-9)


def features_of_training(count: int) -> torch.Tensor:
    return torch.rand(count, 32, generator=torch.Generator().manual_seed(0)).double() ** 4


def test_a_generator_that_repeats_ten_training_pictures_has_memorised_them(monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", 7)
    training, novel = features_of_training(300), torch.rand(100, 32).double() ** 4
    copies = training[:10].repeat(10, 1) * 1.001
    found = {name: memorization(fake, training) for name, fake in (("copies", copies), ("novel", novel))}
    assert float(found["copies"]["memorization_distance"]) == pytest.approx(0, abs=1e-6)
    assert float(found["copies"]["mifid"]) > 1e6 * frechet_distance(copies, training)
    unit = [x / x.norm(dim=1, keepdim=True) for x in (novel, training)]
    nearest = (1 - (unit[0] @ unit[1].t()).abs()).min(dim=1).values.mean()
    assert float(found["novel"]["memorization_distance"]) == pytest.approx(float(nearest)) and nearest > 0.1
    assert float(found["novel"]["mifid"]) == pytest.approx(frechet_distance(novel, training))


def test_torchmetrics_own_mifid_looks_from_each_training_picture_and_misses_that():
    """The fault for which TrainingMIFID is a class of its own; without it the class can go."""
    training = features_of_training(300)
    copies = training[:10].repeat(10, 1) * 1.001
    theirs = MemorizationInformedFrechetInceptionDistance(GivenFeatures(32))
    theirs.update(training, real=True)
    theirs.update(copies, real=False)
    assert float(theirs.compute()) == pytest.approx(frechet_distance(copies, training))


def test_each_distance_is_a_class_of_torchmetrics():
    metric = PictureQuality(GivenFeatures(6), torch.rand(30, 6), ("fid",))
    assert isinstance(metric.frechet, FrechetInceptionDistance) and isinstance(metric.frechet.inception, GivenFeatures)
    assert issubclass(distances.FidelityKID, KernelInceptionDistance)
    assert issubclass(distances.FidelityInceptionScore, InceptionScore)
    assert issubclass(distances.TrainingMIFID, MemorizationInformedFrechetInceptionDistance)


class Counting(MatchingNetwork):
    """Counts the batches that it sees."""

    name, num_features, seen = "counting", 3, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return images.float().mean(dim=(2, 3)) / 255

    def embed_captions(self, captions: list[str]) -> torch.Tensor:
        return torch.rand(len(captions), 3)


def test_one_pass_through_a_network_serves_all_its_metrics():
    network, images, captions = Counting(), some_pictures(12, 0), [f"a {i}" for i in range(12)]
    others = torch.tensor([[(i + 1) % 12] for i in range(12)])
    metrics = MetricCollection(
        {
            "quality": PictureQuality(network, torch.rand(20, 3)),
            "clip_score": CaptionScore(network),
            "r_precision": GeneratedRPrecision(network, captions, others),
        },
        compute_groups=False,
    )
    for places in torch.arange(12).split(6):
        some = images[places]
        metrics.update(images=some, captions=[captions[i] for i in places.tolist()], ids=places)
    assert network.seen == 2 and len(metrics.compute()) == 8


@pytest.mark.slow
def test_all_of_inception_s_blocks_give_the_features_of_torch_fidelity(random_inception):
    peer = feature_extractor_inceptionv3.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["192", "768", "2048", "logits_unbiased"], str(random_inception)
    )
    images = some_pictures(2, 0)
    *layers, logits = peer(images)
    for num_features, expected in zip((192, 768, 2048), layers, strict=True):
        network = Inception(random_inception, num_features=num_features)
        torch.testing.assert_close(network(images), expected)
    torch.testing.assert_close(network.logits(network(images)), logits)


@pytest.mark.slow
def test_inception_score_and_kid_come_from_the_same_pass(random_inception):
    network = Inception(random_inception)
    metric = PictureQuality(network, network(some_pictures(8, 1)), ("inception_score", "kid"))
    images = some_pictures(9, 0)
    metric.update(images, torch.arange(9))
    values = metric.compute()
    assert set(values) == {"inception_score", "kid"}
    assert float(values["inception_score"]) == pytest.approx(float(inception_score(network.logits(network(images)))))
    with pytest.raises(ValueError, match="inception_score needs Inception"):
        PictureQuality(GivenFeatures(3), torch.rand(9, 3), ("inception_score",))


def test_clean_resizing_is_pillow_s():
    image = some_pictures(1, 0)
    expected = [Image.fromarray(c.numpy().astype(np.float32)).resize((299, 299), Image.BICUBIC) for c in image[0]]
    difference = resized_clean(image)[0] - torch.from_numpy(np.stack(expected)).clamp(0, 255)
    assert difference.abs().max() < 1e-2


def test_pictures_are_rounded_to_bytes_and_come_back():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(as_bytes(as_floats(images) + 0.003), images) and as_bytes(torch.tensor([1.5])).item() == 255


def naive(fake: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Kynkaanniemi et al. (2019) and Naeem et al. (2020), pair by pair."""

    def radius(points, i, k):
        return sorted(np.linalg.norm(points[i] - other) for j, other in enumerate(points) if j != i)[k - 1]

    def inside(point, points, i, k):
        return np.linalg.norm(point - points[i]) <= radius(points, i, k)

    return {
        "precision": np.mean([any(inside(x, real, i, 3) for i in range(len(real))) for x in fake]),
        "recall": np.mean([any(inside(x, fake, i, 3) for i in range(len(fake))) for x in real]),
        "density": np.mean([sum(inside(x, real, i, 5) for i in range(len(real))) / 5 for x in fake]),
        "coverage": np.mean([any(inside(x, real, i, 5) for x in fake) for i in range(len(real))]),
    }


def test_precision_recall_density_and_coverage_are_those_of_all_pairs(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(31, 4)), rng.normal(size=(26, 4)) * 0.7 + 0.8
    expected, found = naive(fake, real), neighbourhoods(torch.from_numpy(fake), torch.from_numpy(real))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected)
    assert 0 < expected["recall"] < expected["precision"] < 1 and 0 < expected["coverage"] < 1


def test_equal_sets_are_at_no_distance_and_cover_each_other():
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double()
    metric = PictureQuality(GivenFeatures(6, SCENE_FEATURES), features)
    metric.update(features, torch.arange(40))
    values = metric.compute()
    assert float(values["scene_classifier/frechet_distance"]) == pytest.approx(0, abs=1e-6)
    assert (
        float(values["scene_classifier/precision"])
        == float(values["scene_classifier/recall"])
        == float(values["scene_classifier/coverage"])
        == 1
    )
    assert (
        float(values["scene_classifier/kernel_distance"]) < 0
    )  # it is unbiased, and a picture is not compared with itself


def test_the_kernel_distance_is_the_unbiased_estimate_over_all_pairs():
    rng = torch.Generator().manual_seed(0)
    fake, real = (torch.randn(9, 4, generator=rng).double() + i for i in range(2))

    def mean(a, b, same):
        kernel = [(float(x @ y) / 4 + 1) ** 3 for i, x in enumerate(a) for j, y in enumerate(b) if not same or i != j]
        return sum(kernel) / len(kernel)

    expected = mean(fake, fake, True) + mean(real, real, True) - 2 * mean(fake, real, False)
    assert float(kernel_distance(fake, real)) == pytest.approx(expected)


def test_mifid_stands_beside_the_distance_that_divides_it():
    metric = PictureQuality(GivenFeatures(3), torch.rand(20, 3), ("mifid",))
    metric.update(torch.rand(20, 3), torch.arange(20))
    values = metric.compute()
    assert set(values) == {"mifid", "memorization_distance"} and min(values.values()) > 0


def test_only_inception_s_distance_is_called_fid(random_inception):
    metric = PictureQuality(GivenFeatures(3, "joint"), torch.randn(20, 3), ("fid",))
    metric.update(torch.randn(20, 3), torch.arange(20))
    assert list(metric.compute()) == ["joint/frechet_distance"]


def test_too_few_pictures_are_an_error():
    metric = PictureQuality(GivenFeatures(3, SCENE_FEATURES), torch.randn(20, 3), ("prdc",))
    metric.update(torch.randn(5, 3), torch.arange(5))
    with pytest.raises(ValueError, match="too few"):
        metric.compute()


def test_missing_weights_are_a_line_before_a_silent_name_server_answers(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    end, answers = Event(), []

    def unanswered(*_, **__) -> None:
        answers.append(end.wait(600))
        raise OSError

    monkeypatch.setattr(urllib.request, "urlopen", unanswered)
    missing = missing_weights(("fid", "kid", "r_precision", "scenes"), fetch=True)
    assert required_weights.PATIENCE < 2 and not answers
    end.set()
    assert set(missing) == {"fid", "kid"} and len(in_lines(missing)) == 1
    assert "weights-inception-2015-12-05-6726825d.pth" in in_lines(missing)[0] and "--inception" in in_lines(missing)[0]


def test_a_file_that_is_not_inception_s_is_one_line(tmp_path):
    with pytest.raises(MissingWeights, match="no such file"):
        inception_weights(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="not the Inception weights"):
        inception_weights(tmp_path / "other.pth")
    (tmp_path / "damaged.pth").write_bytes(b"damaged")
    with pytest.raises(UserError, match="not the Inception weights"):
        inception_weights(tmp_path / "damaged.pth")


# ------------------------------------------------------------------------------------------------ processes


@pytest.mark.slow
def test_several_processes_find_what_one_finds(random_inception, tmp_path):
    """A set of 53 pictures: the shares of two are 27 and 26; of three processes one has none."""
    found, clip = {}, tmp_path / "clip"
    clip.mkdir()
    save_clip(clip)
    for world in (1, 2, 3):
        if world > 1:  # scenes are drawn once, before there are threads of gloo; features are measured by all
            shutil.copytree(
                tmp_path / "cache1", tmp_path / f"cache{world}", ignore=shutil.ignore_patterns("features-*")
            )
        in_processes(world, measured, world, random_inception, str(clip), tmp_path)
        found[world] = [json.loads((tmp_path / f"{world}-{rank}.json").read_text()) for rank in range(world)]
    (one,), (first, second) = found[1], found[2]
    assert first == second and all(values == found[3][0] for values in found[3]) and set(first) == set(one)
    assert first == pytest.approx(one, rel=1e-6) and found[3][0] == pytest.approx(one, rel=1e-6)
    names = {"fid", "kid", "mifid", "density", "clip_score", "r_precision", "scene_accuracy", "scenes/diversity"}
    assert names <= set(one)
    assert one["floor/frechet_distance"] > 0
    assert 0 < one["scene_accuracy"] < 1 and 0 < one["r_precision"] < 1 and one["image_to_text/recall@1"] > 0
    assert all(np.isfinite(list(one.values())))
