"""The example notebooks run from top to bottom, and are kept without what they print."""

import ast
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from helpers import ROOT
from helpers.forked import Forked
from helpers.runs import ended

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SMALL = """[
    "gan.generator.width=4", "gan.discriminator.width=4", "joint.image.width=8", "joint.image.embedding_dim=16",
    "joint.text.dim=16", "trainer.images=96", "trainer.joint_images=96", "trainer.joint_batch_size=32",
    "trainer.sample_every=96", "trainer.evaluate_every=0", "trainer.precision=32-true",
]"""


def cells_of(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def code_of(name: str) -> list[str]:
    return ["".join(cell["source"]) for cell in cells_of(ROOT / "examples" / name) if cell["cell_type"] == "code"]


def with_value_shown(cell: str, picture: Path) -> str:
    """A cell as Jupyter runs it: what its last line is worth is shown, a picture in a file."""
    tree = ast.parse(cell)
    if not isinstance(tree.body[-1], ast.Expr):
        return cell
    value = ast.unparse(tree.body.pop())
    show = f"value.save({str(picture)!r}) if hasattr(value, 'save') else print(value)"
    return f"{ast.unparse(tree)}\nvalue = {value}\n{show}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_not_kept(notebook):
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells_of(notebook))


@pytest.mark.parametrize("name", ["own-pictures.ipynb", "sampling.ipynb"])
def test_in_colab_a_notebook_asks_for_the_address_of_the_project(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AssertionError, match="fill in REPOSITORY"):
        exec(code_of(name)[0], {})


def run_all(cells: list[str], folder: Path) -> tuple[str, list[tuple[int, int]]]:
    """What the cells print, and the sizes of the pictures that they show."""
    script = [with_value_shown(cell, folder / f"{number:02d}.png") for number, cell in enumerate(cells)]
    (folder / "all.py").write_text("\n".join(script))
    places = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "CGAN_CACHE": str(folder / "cache")}
    process = Forked(folder / "all.py", cwd=ROOT, environment={**os.environ, **places})
    status, stdout, stderr = ended(process, timeout=600)
    assert status == 0, stderr
    return stdout, [Image.open(path).size for path in sorted(folder.glob("*.png"))]


@pytest.mark.slow
def test_the_notebook_of_scenes_runs_from_top_to_bottom(tmp_path):
    printed, sizes = run_all(code_of("scenes.ipynb"), tmp_path)
    assert "['zeppelin']" in printed and "scene_accuracy" in printed
    assert sizes == [(384, 231), (512, 64), (384, 77), (384, 231)]


@pytest.mark.slow
def test_the_notebook_on_sampling_runs_from_top_to_bottom(tmp_path):
    printed, sizes = run_all(code_of("sampling.ipynb"), tmp_path)
    assert "['zeppelin']" in printed and sizes[0] == (64, 64) and len(sizes) == 6


@pytest.mark.slow
def test_the_notebook_on_own_pictures_trains_exports_and_samples(tmp_path):
    cells = [cell.replace("RESOLUTION = 64", "RESOLUTION = 32") for cell in code_of("own-pictures.ipynb")]
    cells = [cell.replace("result = train(", f"settings += {SMALL}\nresult = train(") for cell in cells]
    printed, sizes = run_all(cells, tmp_path)
    assert "96 pictures; a red disc on a white card" in printed and "['purple', 'zeppelin']" in printed
    assert "'README.md', 'config.json', 'model.safetensors', 'samples.png'" in printed and len(sizes) == 3
