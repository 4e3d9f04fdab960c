"""The pictures and answers of docs/three-systems.md are what its commands give."""

import re
import shlex

import numpy as np
import pytest

from cgan.cli.cycle import main
from helpers import ROOT
from helpers.pages import commands_in
from helpers.pictures import pixels

PAGE = ROOT / "docs/three-systems.md"
DRAWN = [words for words in commands_in(PAGE) if words[:2] == ["cgan", "cycle"] and "--out" in words]


@pytest.mark.slow
@pytest.mark.parametrize("words", DRAWN, ids=lambda words: shlex.join(words)[:30])
def test_a_strip_of_the_page_is_what_its_command_makes(words, tmp_path, tmp_path_factory, monkeypatch, capsys):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path_factory.getbasetemp() / "three-systems-cache"))
    monkeypatch.chdir(tmp_path)
    main(words[2:])
    made, kept = (pixels(folder / words[-1]).astype(int) for folder in (tmp_path, ROOT / "assets"))
    assert made.shape == kept.shape and np.abs(made - kept).mean() < 0.5  # other processors round otherwise
    if "small red dog" in words[2]:
        printed = capsys.readouterr().out.split("strip: ")[0].strip()
        shown = re.findall(r"^```text\n(drawn.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)[0].strip()
        numbers = [re.findall(r"\d\.\d+", text) for text in (printed, shown)]
        assert re.sub(r"\d\.\d+", "x", printed) == re.sub(r"\d\.\d+", "x", shown)
        assert np.abs(np.array(numbers[0], float) - np.array(numbers[1], float)).max() < 0.02


def test_the_page_has_a_command_for_each_of_its_strips():
    shown = set(re.findall(r"\]\(\.\./assets/(three-systems\S*?\.png)\)", PAGE.read_text()))
    assert {words[-1] for words in DRAWN} == shown
    assert shown == {path.name for path in (ROOT / "assets").glob("three-systems*.png")}
