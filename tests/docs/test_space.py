"""The Hugging Face Space: its header, what it installs, and its page, which is built but not served."""

import importlib.util
import re
import tomllib
from types import ModuleType

import pytest
import yaml

from cgan.resources import STARTER_GAN
from helpers import ROOT

SPACE = ROOT / "spaces"


def loaded(name: str) -> ModuleType:
    """A script of the folder, as a module."""
    spec = importlib.util.spec_from_file_location(f"space_{name}", SPACE / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_header_is_what_a_space_needs():
    header = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert header["sdk"] == "gradio" and (SPACE / header["app_file"]).is_file() and header["license"] == "mit"
    assert re.fullmatch(r"6\.\d+\.\d+", header["sdk_version"]) and len(header["short_description"]) <= 60
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={header['python_version']}"
    assert project["optional-dependencies"]["demo"] == ["gradio>=6"]


def test_what_is_installed_is_what_the_package_asks_for():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (SPACE / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} <= set(wanted)


def test_the_page_offers_the_generators_that_come_with_cgan_and_no_other_weights():
    found = loaded("app").starter_weights()
    assert next(iter(found.values())) == STARTER_GAN
    assert {"emoji-128.safetensors", "scenes-64.safetensors", "scenes-two-64.safetensors"} <= {
        file.name for file in found.values()
    }
    assert not [file for file in found.values() if file.name.startswith(("joint", "judge"))]


@pytest.mark.slow
def test_the_page_is_built(tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    from cgan.demo import page

    served = []
    monkeypatch.setattr(page, "serve", lambda *arguments: served.append(arguments))
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE"):
        monkeypatch.setenv(name, "")  # set by the app, restored after the test
    app = loaded("app")
    app.main(tmp_path)
    ((backend, host, port, _),) = served
    assert (host, port) == ("0.0.0.0", 7860)
    components = [type(block).__name__ for block in page.page(backend).blocks.values()]
    assert {"Textbox", "Gallery", "Button"} <= set(components)


def test_a_folder_is_made_that_holds_all_a_space_needs(tmp_path):
    folder = loaded("make").make_space(tmp_path / "space")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"app.py", "README.md", "requirements.txt", "LICENSE", ".gitattributes"} <= names
    assert {"cgan/demo/page.py", "cgan/assets/scenes-64.safetensors", "cgan/configs/gan/scenes.yaml"} <= names
    assert {"cgan/assets/emoji-128.safetensors", "cgan/assets/emoji-128.md"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
    with pytest.raises(FileExistsError):
        loaded("make").make_space(folder)
