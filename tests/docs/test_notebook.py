"""The example notebook runs from top to bottom, and is kept without what it prints."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from helpers import ROOT

CELLS = json.loads((ROOT / "examples/scenes.ipynb").read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def with_value_shown(cell: str, picture: Path) -> str:
    """A cell as Jupyter runs it: what its last line is worth is shown, a picture in a file."""
    tree = ast.parse(cell)
    if not isinstance(tree.body[-1], ast.Expr):
        return cell
    value = ast.unparse(tree.body.pop())
    show = f"value.save({str(picture)!r}) if hasattr(value, 'save') else print(value)"
    return f"{ast.unparse(tree)}\nvalue = {value}\n{show}"


def test_outputs_are_not_kept():
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in CELLS)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    script = [with_value_shown(cell, tmp_path / f"{number}.png") for number, cell in enumerate(CODE)]
    (tmp_path / "all.py").write_text("\n".join(script))
    places = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "CGAN_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, str(tmp_path / "all.py")]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, **places}, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert "['zeppelin']" in ended.stdout and "scene_accuracy" in ended.stdout
    sizes = [Image.open(path).size for path in sorted(tmp_path.glob("*.png"))]
    assert sizes == [(384, 231), (512, 64), (384, 77), (384, 231)]
