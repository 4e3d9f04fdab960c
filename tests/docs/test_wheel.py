"""The wheel holds all that commands need, and works outside of the checkout."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from cgan.version import __version__
from helpers import ROOT

WEIGHTS = ("emoji-128", "joint-64", "judge", "judge-three", "judge-two", "scenes-64", "scenes-two-64")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built without a network."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with what an installer would put into site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, place: Path, *arguments: str) -> str:
    """What `python ARGUMENTS` prints outside of the checkout, with the wheel's package before any other."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "CGAN_CACHE": str(place / "cache")}
    ended = subprocess.run([sys.executable, *arguments], cwd=place, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_wheel_holds_the_package_its_configurations_and_weights(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(f"cgan-{__version__}.dist-info/entry_points.txt").decode()
    configs = {f"cgan/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "cgan").rglob("*.py")}
    weights = {f"cgan/assets/{name}.safetensors" for name in WEIGHTS}
    others = {"cgan/py.typed", "cgan/assets/emoji-128.md"}
    assert len(configs) > 20 and configs | modules | weights | others <= names
    assert "cgan = cgan.__main__:main" in entry_points


def test_an_installed_wheel_samples_outside_of_the_checkout(installed, tmp_path):
    place = run(installed, tmp_path, "-c", "import cgan; print(cgan.__file__, cgan.__version__)").split()
    assert place == [str(installed / "cgan" / "__init__.py"), __version__]
    (path,) = run(installed, tmp_path, "-m", "cgan", "sample", "a dog on grass").splitlines()
    with Image.open(tmp_path / path) as picture:
        assert picture.size == (64, 64)


def test_an_installed_wheel_trains_samples_and_evaluates_outside_of_the_checkout(installed, tmp_path):
    settings = """data.num_images=64 trainer.joint_images=64 trainer.joint_batch_size=32 trainer.images=64
        trainer.evaluate_every=0 trainer.wandb=disabled gan.generator.width=4 gan.discriminator.width=4 run_dir=run"""
    said = run(installed, tmp_path, "-m", "cgan", "train", *settings.split())
    assert re.search(r"images seen +│ 64 ", said) and "next: cgan sample" in said
    (path,) = run(installed, tmp_path, "-m", "cgan", "sample", "a dog", "--checkpoint", "run").splitlines()
    assert (tmp_path / path).is_file()
    metrics = json.loads(run(installed, tmp_path, "-m", "cgan", "evaluate", "run", "--num-images", "8", "--json"))
    assert 0 <= metrics["scene_accuracy"] <= 1 and metrics["r_precision_real"] > 0.5


def test_an_installed_wheel_trains_a_scene_classifier_outside_of_the_checkout(installed, tmp_path):
    sizes = "--num-images 18 --images 128 --test-images 9 --out judge.safetensors".split()
    said = run(installed, tmp_path, "-m", "cgan", "judge", *sizes)
    table = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert (tmp_path / "judge.safetensors").is_file() and 0 <= table["real: recognisable"] <= 1


def test_an_installed_wheel_finds_its_weights_by_their_name_in_any_folder(installed, tmp_path):
    asked = [[caption, "--checkpoint", name] for caption, name in (
        ("a red dog", "assets/scenes-two-64.safetensors"), ("a red car", "scenes-two-64.safetensors")
    )]  # fmt: skip
    paths = set(run(installed, tmp_path, "-c", f"from cgan.cli.sample import main; [*map(main, {asked})]").splitlines())
    assert len(paths) == 2
    for path in paths:
        with Image.open(tmp_path / path) as picture:
            assert json.loads(picture.text["cgan"])["checkpoint"]["file"] == "assets/scenes-two-64.safetensors"


def test_an_installed_wheel_finds_its_configurations(installed, tmp_path):
    code = "from cgan.config import load_config; from cgan.resources import DEFAULT_CONFIG; "
    code += "print(load_config([str(DEFAULT_CONFIG)]).data.source, DEFAULT_CONFIG)"
    source, path = run(installed, tmp_path, "-c", code).split()
    assert source == "scenes" and Path(path).is_relative_to(installed)
