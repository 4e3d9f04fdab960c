"""The file tree of the README is what lies there, and fits on one screen."""

import re
from pathlib import Path

from helpers import ROOT

LINES = 50  # of a screen


def tree() -> list[str]:
    """The lines of the README's file tree."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## The pipeline as a file tree\n")[1]
    return [line[4:] for line in section.split("\n## ")[0].splitlines() if line.startswith("    ")]


def named() -> set[Path]:
    """The files and folders at the start of each line, and files that its description names beside them."""
    found, folders = set(), {}
    for line in tree():
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth] = None
        parent = ROOT.joinpath(*(folders[i] for i in range(depth)))
        names, _, about = line.strip().partition("  ")
        for name in names.split(", "):
            found.add(parent / name.rstrip("/"))
            folders[depth] = name.rstrip("/")
        inside = parent / names.rstrip("/") if names.endswith("/") else parent
        found |= {inside / name for name in re.findall(r"\b\w+\.py\b", about)}
    return found


def test_the_file_tree_fits_on_a_screen():
    assert len(tree()) <= LINES
    assert max(len(line) for line in tree()) <= 120


def test_the_readme_is_a_front_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_everything_in_the_file_tree_is_there():
    assert not [str(path) for path in named() if not path.exists()]


def test_every_part_of_the_package_is_in_the_file_tree():
    package = ROOT / "cgan"
    folders = {path for path in package.rglob("*") if path.is_dir() and path.name != "__pycache__"}
    files = {path for path in package.glob("*.py") if not path.name.startswith("__")}
    assert folders | files <= named()
