"""Each picture of docs/gallery.md, and that of the README, is what its command draws."""

import importlib.util
import re
import shlex

import numpy as np
import pytest

from cgan.cli.sample import main
from helpers import ROOT
from helpers.pictures import pixels

PAGE = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
SHOWN = re.compile(r"!\[[^\]]*\]\(\.\./(assets/\S+?)\)\s+(python sample\.py .*?)(?=\n\n|\Z)", re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("shown, command", SHOWN.findall(PAGE), ids=lambda text: text.split()[0])
def test_a_picture_of_the_gallery_is_what_its_command_draws(shown, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    words = shlex.split(command.replace("\\\n", " "))[2:]
    assert words[-2:] == ["--out", shown]
    main([*words[:-1], "here.png"])
    drawn, kept = (pixels(path).astype(int) for path in (tmp_path / "here.png", ROOT / shown))
    assert np.abs(drawn - kept).mean() < 0.5  # other processors round otherwise


def test_every_picture_of_the_gallery_has_a_command():
    assert len(SHOWN.findall(PAGE)) == PAGE.count("![") == len(list((ROOT / "assets").glob("gallery-*.png")))


@pytest.mark.slow
def test_the_readmes_picture_is_what_its_script_draws(monkeypatch):
    spec = importlib.util.spec_from_file_location("starter_picture", ROOT / "examples/starter_picture.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(ROOT)
    difference = script.picture().astype(int) - pixels(ROOT / "assets/starters.png")
    assert np.abs(difference).mean() < 0.5  # other processors round otherwise
