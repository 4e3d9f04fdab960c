"""Writes README.md of an exported folder: what the model is, how to use it, its metrics and its training."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import ModelCard, ModelCardData

from cgan.version import __version__

TAGS = ("text-to-image", "gan", "pytorch")
NO_MEASURES = ("epoch", "step")  # columns beside the measures in their rows of metrics.csv
SECTIONS = ("seed", "data", "text", "joint", "gan", "trainer")  # of a run's settings that are listed
PLACES = ("root", "annotations", "checkpoint", "name", "clip", "inception", "weights")  # where things lie on a disk


class Facts(NamedTuple):
    """The facts about a checkpoint that its run directory holds."""

    measures: dict[str, float]  # while it trained
    evaluation: dict[str, float]  # by cgan evaluate
    settings: list[str]  # key=value


def facts_of(checkpoint: Path) -> Facts:
    """Returns the facts in the files beside a checkpoint; those of missing files are left out."""
    run = checkpoint.absolute().parent
    seen = images_seen(checkpoint)
    return Facts(measures_of(run / "metrics.csv", seen), evaluation_of(run), settings_of(run / "config.yaml"))


def images_seen(checkpoint: Path) -> int | None:
    """Returns how many images the generator was trained on; None for exported weights, which do not record it."""
    if checkpoint.suffix != ".ckpt":
        return None
    import torch

    return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True).get("images_seen")


def measures_of(path: Path, seen: int | None) -> dict[str, float]:
    """Returns the last metrics in a metrics.csv that were measured no later than the checkpoint."""
    if not path.is_file() or seen is None:
        return {}
    with path.open(encoding="utf-8") as file:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    rows = [row for row in rows if len(row) > 3 and 0 < float(row.get("images_seen", 0)) <= seen]
    return {name: float(value) for name, value in rows[-1].items() if name not in NO_MEASURES} if rows else {}


def evaluation_of(run: Path) -> dict[str, float]:
    """Returns the metrics of the newest report of `cgan evaluate --out` in a run directory."""
    for path in sorted(run.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            if "protocol" in report:
                return {name: float(value) for name, value in report["metrics"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return {}


def settings_of(path: Path) -> list[str]:
    """Returns the settings of a config.yaml as lines key=value, without absent values and without paths."""
    if not path.is_file():
        return []
    import yaml

    config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return [line for section in SECTIONS if section in config for line in flat(section, config[section])]


def flat(key: str, value: object) -> list[str]:
    """Returns nested settings as lines key=value, without paths."""
    if isinstance(value, dict):
        return [line for name, inner in value.items() for line in flat(f"{key}.{name}", inner)]
    private = key.rpartition(".")[2] in PLACES or (isinstance(value, str) and ("/" in value or "\\" in value))
    return [] if value is None or private else [f"{key}={json.dumps(value) if not isinstance(value, str) else value}"]


def model_card(pipe, name: str, licence: str, captions: list[str], facts: Facts, onnx: bool) -> str:
    """Returns the text of the page, in the layout of the Hugging Face hub.

    pipe is the exported model; captions are those of samples.png.
    """
    size, caption = pipe.generator.resolution, captions[0].replace('"', "'")
    place = "on the Hugging Face hub" if "/" in name else "this folder, or OWNER/NAME on the hub"
    data = ModelCardData(license=licence, library_name="cgan", pipeline_tag="text-to-image", tags=list(TAGS))
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}",
        f"A text-to-image GAN: one forward pass from a caption to a picture of {size} x {size} pixels. Written by cgan "
        f"{__version__}; SHA-256 of the weights `{pipe.sha256}`.",
        "![Rows of captions, columns of seeds](samples.png)",
        "Each row is a caption, with the seeds 0 to 7; none is chosen.",
        "## Use",
        "    from cgan import TextToImage\n\n"
        f'    pipe = TextToImage.from_pretrained("{name}")  # {place}\n'
        f'    pipe("{caption}", seed=0).save("picture.png")',
        f'Or `cgan sample "{caption}" --checkpoint {name} --num 4`.',
    ]
    if onnx:
        parts.append(
            "`generator.onnx` is the generator alone: `noise` (B, Z) of a normal distribution and the text encoder's "
            "`sentence` (B, D) to `images` (B, 3, H, W) in [-1, 1]."
        )
    parts += table("Measured by `cgan evaluate`", facts.evaluation)
    parts += table("Measured while it trained", facts.measures)
    if facts.settings:
        parts += ["## Training", "    " + "\n    ".join(facts.settings)]
    return str(ModelCard("\n\n".join(parts) + "\n"))


def table(title: str, values: dict[str, float]) -> list[str]:
    """Returns a heading and a Markdown table of metrics; an empty text if there are none."""
    rows = "\n".join(f"| `{name}` | {value:.6g} |" for name, value in values.items())
    return [f"## {title}", f"| | |\n|---|---|\n{rows}"] if values else []
