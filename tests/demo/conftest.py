"""What the tests of the demo share: pictures, what answers requests, and cgan demo in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from cgan.data.scenes.dataset import Scenes
from cgan.demo.backend import Backend
from cgan.resources import STARTER_GAN
from helpers import ROOT
from helpers.ports import free_port

RECORDER = """
import os, socket
def recorded(function, place):
    def call(*arguments, **more):
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{arguments[place]}\\n")
        return function(*arguments, **more)
    return call
socket.socket.connect = recorded(socket.socket.connect, 1)
socket.getaddrinfo = recorded(socket.getaddrinfo, 0)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of scenes."""
    folder, scenes = tmp_path_factory.mktemp("pictures"), Scenes(12, 64, 0)
    for i in range(12):
        Image.fromarray(scenes[i].image.permute(1, 2, 0).numpy()).save(folder / f"scene-{i}.png")
    return folder


@pytest.fixture
def backend(tmp_path, pictures, monkeypatch) -> Backend:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "answers").mkdir()
    return Backend({"assets/scenes-64.safetensors": STARTER_GAN}, tmp_path / "answers", pictures)


@pytest.fixture(scope="module")
def served(tmp_path_factory, pictures) -> Iterator[SimpleNamespace]:
    """cgan demo in a process of its own, which writes down each address that it connects to."""
    pytest.importorskip("gradio")
    home = tmp_path_factory.mktemp("served")
    (home / "recorder").mkdir()
    (home / "recorder" / "sitecustomize.py").write_text(RECORDER)
    (home / "temporary").mkdir()
    (home / "secret.txt").write_text("secret")
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": f"{home / 'recorder'}{os.pathsep}{ROOT}", "TMPDIR": f"{home}/temporary",
                   "CONNECTIONS": str(home / "connections"), "CGAN_CACHE": str(home / "cache")}  # fmt: skip
    command = [sys.executable, "-m", "cgan", "demo", "--port", str(port), "--images", str(pictures)]
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True)
    assert "the page is at" in process.stdout.readline()
    yield SimpleNamespace(home=home, port=port, url=f"http://127.0.0.1:{port}/")
    process.terminate()
    process.wait(300)
    assert not list((home / "temporary").glob("cgan-demo-*"))  # nothing is left
