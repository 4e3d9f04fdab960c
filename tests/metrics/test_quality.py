"""Distances of pictures: against torch-fidelity, against loops over all pairs, and between processes."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch.utils.data import Dataset
from torch_fidelity import feature_extractor_inceptionv3

from cgan.interfaces import UserError
from cgan.metrics import distances, neighbours
from cgan.metrics.distances import kernel_distance
from cgan.metrics.features import GivenFeatures, Inception, resized_clean
from cgan.metrics.names import SCENE_FEATURES
from cgan.metrics.neighbours import neighbourhoods
from cgan.metrics.quality import PictureQuality
from cgan.metrics.required_weights import MissingWeights, in_lines, inception_weights, missing_weights
from cgan.pixels import as_bytes, as_floats
from helpers import ROOT
from helpers.clip import save_clip


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


@pytest.mark.slow
def test_all_of_inception_s_blocks_give_the_features_of_torch_fidelity(random_inception):
    peer = feature_extractor_inceptionv3.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["192", "768", "2048"], str(random_inception)
    )
    images = some_pictures(2, 0)
    for num_features, expected in zip((192, 768, 2048), peer(images), strict=True):
        torch.testing.assert_close(Inception(random_inception, num_features=num_features)(images), expected)


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


def test_only_inception_s_distance_is_called_fid(random_inception):
    metric = PictureQuality(GivenFeatures(3, "joint"), torch.randn(20, 3), ("fid",))
    metric.update(torch.randn(20, 3), torch.arange(20))
    assert list(metric.compute()) == ["joint/frechet_distance"]


def test_too_few_pictures_are_an_error():
    metric = PictureQuality(GivenFeatures(3, SCENE_FEATURES), torch.randn(20, 3), ("prdc",))
    metric.update(torch.randn(5, 3), torch.arange(5))
    with pytest.raises(ValueError, match="too few"):
        metric.compute()


def unanswered(*_, **__) -> None:
    """A name server that is silent."""
    time.sleep(5)
    raise OSError


def test_missing_weights_are_a_line_in_less_than_two_seconds(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", unanswered)
    start = time.monotonic()
    missing = missing_weights(("fid", "kid", "r_precision", "scenes"), fetch=True)
    assert time.monotonic() - start < 2
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
    """A set of 53 pictures: the shares are 27 and 26, and the last batches of different sizes; a third one has none."""
    found, clip = {}, tmp_path / "clip"
    script = [sys.executable, "-m", "helpers.measured_apart"]
    clip.mkdir()
    save_clip(clip)
    for world in (1, 2, 3):
        environment = {**os.environ, "CGAN_CACHE": str(tmp_path / f"cache{world}"), "OMP_NUM_THREADS": "1"}
        environment |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "CUDA_VISIBLE_DEVICES": ""}
        outs = [tmp_path / f"{world}-{rank}.json" for rank in range(world)]
        shared = [str(world), f"file://{tmp_path}/meet{world}", str(random_inception), str(clip)]
        commands = [[*script, str(r), *shared, str(out)] for r, out in enumerate(outs)]
        processes = [subprocess.Popen(command, env=environment) for command in commands]
        assert [process.wait(timeout=500) for process in processes] == [0] * world
        found[world] = [json.loads(out.read_text()) for out in outs]
    (one,), (first, second) = found[1], found[2]
    assert first == second == found[3][0] == found[3][1] == found[3][2] and set(first) == set(one)
    assert first == pytest.approx(one, rel=1e-6)
    assert {"fid", "kid", "density", "clip_score", "r_precision", "scene_accuracy", "scenes/diversity"} <= set(one)
    assert one["floor/frechet_distance"] > 0
    assert 0 < one["scene_accuracy"] < 1 and 0 < one["r_precision"] < 1 and one["image_to_text/recall@1"] > 0
    assert all(np.isfinite(list(one.values())))
