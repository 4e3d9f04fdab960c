import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgan.benchmarks.edits import EXAMPLES, ORDER, cell, indexed
from cgan.cli.benchmark import main
from cgan.data.scenes.attributes import ATTRIBUTES
from cgan.errors import UserError
from cgan.resources import STARTER_GAN
from helpers.pictures import pixels


@pytest.mark.slow
def test_the_benchmark_writes_scores_a_table_and_a_page(tmp_path, capsys):
    main(["edits", str(STARTER_GAN), "--num-images", "8", "--out", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out/edits.json").read_text())
    assert set(found["edited"]) == set(ORDER) == set(ATTRIBUTES) and found["num_scenes"] == 8
    assert found["edited"]["colour"]["kept_attributes"] > found["resampled"]["colour"]["kept_attributes"]
    assert found["redrawn"]["l1"] < found["redrawn"]["l1_resampled"]
    assert "kept_attributes" in (tmp_path / "out/table.md").read_text() and "edits.png" in capsys.readouterr().out
    assert pixels(tmp_path / "out/edits.png").shape[1] == 6 * 3 * 64


def test_examples_change_every_attribute():
    for before, after in EXAMPLES:
        scene = indexed(before)._asdict()
        assert all(ATTRIBUTES[name].index(value) != scene[name] for name, value in zip(ORDER, after, strict=True))


def test_a_cell_shows_the_picture_enlarged_below_its_caption():
    picture = np.random.default_rng(0).integers(0, 255, (8, 30, 3), dtype=np.uint8)
    below = Image.fromarray(cell(picture, "a dog")[-24:]).resize((30, 8), Image.Resampling.NEAREST)
    assert (np.asarray(below) == picture).all()


@pytest.mark.parametrize("more, told", [(["--keep", "7"], "keep=7"), (["--seed", "-1"], "seed=-1"),
                                        (["--posterior", "gone"], "gone: no such file")])  # fmt: skip
def test_mistakes_of_the_benchmark_are_told_in_one_line(more, told, tmp_path):
    with pytest.raises(UserError, match=told) as error:
        main(["edits", str(STARTER_GAN), *more, "--out", str(Path(tmp_path, "out"))])
    assert "\n" not in str(error.value)
