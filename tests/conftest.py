"""Tests run in two processes, so each takes one thread; it is set before torch is imported."""

import os
from pathlib import Path
from unittest import mock

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that are marked cuda are skipped where there is no GPU."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    for item in marked if not torch.cuda.is_available() else []:
        item.add_marker(pytest.mark.skip(reason="no GPU"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def pipe():
    """The starter weights."""
    from cgan.resources import STARTER_GAN
    from cgan.sampling.pipeline import TextToImage

    return TextToImage.load(STARTER_GAN)


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that torch-fidelity accepts in place of the real ones, which are not on every machine."""
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as module

    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.manual_seed(0)
    with (
        mock.patch.object(module, "load_state_dict_from_url", lambda *_, **__: {}),
        mock.patch.object(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None),
    ):
        torch.save(module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).state_dict(), file)
    return file
