"""Tests run in two processes, so each takes one thread; it is set before torch is imported.

The dearest files begin first, so that no process has one left when the other has nothing more to do.
"""

import os
from pathlib import Path
from unittest import mock

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


DEAREST = """test_docs_run test_inductor test_recovery test_race test_quality test_compiled test_distributed test_cli
    test_wheel test_wandb_resume test_notebook test_docs test_emoji_example test_images
    test_evaluation_callback test_stress_data test_stress test_host_work test_two_objects test_three_objects
    test_demo test_sample test_joint test_run test_networks test_resume test_tracking test_pipeline
    test_posterior_fit test_shards""".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The dearest files come first, and tests that are marked cuda are skipped where there is no GPU."""
    places = {name: place for place, name in enumerate(DEAREST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
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


@pytest.fixture
def quick_drawers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that draw for a scene classifier are forks of one that has imported torch, which spawned ones do."""
    from helpers.forked import ITS_PATH, SERVER

    monkeypatch.setattr("cgan.evaluation.scene_classifier_training.get_context", lambda _: SERVER)
    for name, value in ITS_PATH.items():
        monkeypatch.setenv(name, value)
