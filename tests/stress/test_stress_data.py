"""A round of the stress tests, and signals that end a training while its pictures are decoded."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from helpers import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("script", ["kill_data.py", "full_disk.py"])
def test_one_round_of_what_breaks_the_data(script):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "stress" / script), "1", str(time.time_ns())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("whole again") == len(ended.stdout.splitlines()) >= 3


def slow_pictures(root):
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "000.png")
    for i in range(200):
        if i:
            os.link(root / "000.png", root / f"{i:03d}.png")
        (root / f"{i:03d}.txt").write_text("noise")
    return root


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_ends_decoding_with_its_status_and_leaves_no_file(tmp_path, number, status):
    cache = tmp_path / "cache"
    environment = {**os.environ, "CGAN_CACHE": str(cache), "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    settings = [f"data.root={slow_pictures(tmp_path / 'slow')}", f"run_dir={tmp_path / 'run'}", "data.resolution=32"]
    command = [sys.executable, str(ROOT / "train.py"), str(ROOT / "configs/gan/folder.yaml"), *settings]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    while process.poll() is None and not list(cache.glob(".*.tmp")):
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    assert process.wait(300) == status, (tmp_path / "log").read_text()
    assert list(cache.iterdir()) == [] and "Traceback" not in (tmp_path / "log").read_text()
