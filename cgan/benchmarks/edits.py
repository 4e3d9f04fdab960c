"""Measures edits of scenes by captions, and draws a page of them."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cgan.benchmarks.race_report import TextTable, number
from cgan.data.scenes.attributes import ATTRIBUTES, Scene
from cgan.data.scenes.captions import scene_in_english
from cgan.data.scenes.drawing import draw_scene
from cgan.evaluation.edits import EditReport, drawn, evaluate_edits
from cgan.figures.sheets import save_png, titled
from cgan.files import write_json, write_text
from cgan.interfaces import Report, silent
from cgan.ranges import check_seed
from cgan.sampling.pipeline import TextToImage
from cgan.sampling.request import check_keep

ORDER = ("colour", "ground", "object", "size", "position")  # of changed attributes, in the table and on the page
ENLARGED = 3  # pixels of the page, each way, for a pixel of a picture
EXAMPLES = (  # object, colour, size, position and ground of a source, and a new value of each attribute in ORDER
    (("dog", "red", "small", "left", "grass"), ("blue", "snow", "cat", "big", "right")),
    (("car", "yellow", "big", "centre", "sand"), ("purple", "brick", "house", "small", "left")),
    (("fish", "orange", "big", "right", "water"), ("green", "sand", "bird", "small", "centre")),
    (("house", "white", "small", "centre", "night sky"), ("red", "grass", "tree", "big", "left")),
)


def measure_edits(
    checkpoint: Path,
    *,
    posterior: Path | None = None,
    num_scenes: int = 500,
    keep: float = 1.0,
    seed: int = 1234,
    report: Report = silent,
) -> tuple[TextToImage, EditReport]:
    """Returns a checkpoint's pipeline and the scores of its edits of held-out scenes, on the CPU.

    posterior is a file of `cgan posterior`; without it that of the checkpoint is taken. Raises UserError.
    """
    check_keep(keep)
    check_seed(f"seed={seed}", seed)
    pipe = TextToImage.load(checkpoint)
    pipe.inverter(posterior)
    return pipe, evaluate_edits(pipe, num_scenes, keep, seed, report=report)


def write_edits(pipe: TextToImage, report: EditReport, settings: dict, out: Path) -> TextTable:
    """Writes edits.json, table.md and edits.png into a folder; returns the table. Raises CannotWrite."""
    write_json(out / "edits.json", settings | asdict(report))
    table = edit_table(report)
    write_text(out / "table.md", table.markdown())
    save_png(edit_page(pipe), out / "edits.png")
    return table


def edit_table(report: EditReport) -> TextTable:
    """Returns the scores as a table with a row for each changed attribute."""
    header = ["changed", "edit_accuracy", "kept_attributes", *(f"kept {name}" for name in ORDER)]
    header += ["resampled: edit_accuracy", "resampled: kept_attributes"]
    rows = []
    for name in ORDER:
        mine, fresh = report.edited[name], report.resampled[name]
        kept = [number(mine.kept[other]) if other != name else "" for other in ORDER]
        scores = [number(x) for x in (mine.edit_accuracy, mine.kept_attributes)]
        rows.append([name, *scores, *kept, number(fresh.edit_accuracy), number(fresh.kept_attributes)])
    redrawn = report.redrawn
    note = (
        f"{report.num_scenes} held-out scenes, keep={report.keep:g}. Redrawn by their own captions: mean absolute "
        f"difference {redrawn.l1:.1f} of 255 (new pictures {redrawn.l1_resampled:.1f}), all attributes agree in "
        f"{redrawn.agreement:.3f}, recognisable {redrawn.recognisable:.3f}."
    )
    return TextTable(header, rows, note)


# ------------------------------------------------------------------------------------------------ page


def edit_page(pipe: TextToImage) -> np.ndarray:
    """Returns a page, uint8 (H, W, 3), with a row for each example: the source, and an edit of each attribute."""
    rows = [edit_row(pipe, indexed(before), after, seed) for seed, (before, after) in enumerate(EXAMPLES)]
    return np.concatenate(rows)


def edit_row(pipe: TextToImage, scene: Scene, values: tuple[str, ...], seed: int) -> np.ndarray:
    """Returns a row of the page: a source, and its edits by captions that name the object and what has changed."""
    source = np.array(draw_scene(scene, pipe.generator.resolution, np.random.default_rng(seed)))
    captions = []
    for name, value in zip(ORDER, values, strict=True):
        wanted = Scene(scene.object, -1, -1, -1, -1)._replace(**{name: ATTRIBUTES[name].index(value)})
        captions.append(scene_in_english(wanted))
    images = torch.from_numpy(source).permute(2, 0, 1).expand(len(captions), -1, -1, -1)
    edits = drawn(pipe, images, captions, [0] * len(captions), 1.0).permute(0, 2, 3, 1).cpu().numpy()
    cells = [cell(p, c) for p, c in zip([source, *edits], ["source", *captions], strict=True)]
    height = max(len(each) for each in cells)
    padded = [np.pad(each, ((height - len(each), 0), (0, 0), (0, 0)), constant_values=255) for each in cells]
    return np.concatenate(padded, axis=1)


def cell(picture: np.ndarray, caption: str) -> np.ndarray:
    """Returns an enlarged picture below its caption."""
    height, width = (ENLARGED * side for side in picture.shape[:2])
    large = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST))
    return titled(large, caption)


def indexed(words: tuple[str, ...]) -> Scene:
    """Returns the scene of values, one of each attribute."""
    return Scene(*(values.index(word) for values, word in zip(ATTRIBUTES.values(), words, strict=True)))
