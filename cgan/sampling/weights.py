"""The weights that sampling needs: located by a path or a name on the hub, read, hashed and written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from cgan.damage import reading
from cgan.errors import UserError
from cgan.files import write_bytes
from cgan.resources import STARTER_GAN, shipped, shipped_weights
from cgan.sampling.hub import download, hub_name

PARTS = ("generator_ema.", "text_encoder.")  # of a checkpoint's weights, that sampling needs
INVERTER_PARTS = ("posterior.", "reader.", "image_encoder.")  # that editing pictures needs as well
INVERTER = "inverter"  # the entry of the settings that describes them, where a checkpoint holds them
POSTERIOR = "posterior.safetensors"  # a posterior fitted to a checkpoint, beside it
FORMAT = 1  # version of exported folders, stored in their config.json
EXPORTED, CONFIG, RUN = "model.safetensors", "config.json", "last.ckpt"
NO_RUN = "no run with a checkpoint under runs/; train one with `cgan train`, or give --checkpoint"
DAMAGED = "damaged, or not a checkpoint of cgan; try another one"


class Weights(NamedTuple):
    """The settings `spec`, by which networks are built, and their tensors, each under the name of its part."""

    spec: dict
    tensors: dict[str, Tensor]


def find(name: str | Path, revision: str | None = None) -> Path:
    """Returns the weights that a name stands for: a file, a run directory, an exported folder or owner/name on the hub.

    A file that does not exist may be one that comes with cgan, such as assets/scenes-64.safetensors, in any folder.
    On the hub owner/name@revision, or `revision`, is a branch, a tag or a commit. Raises UserError if there are no such
    weights.
    """
    path = Path(name).expanduser()
    if revision is not None and (path.exists() or shipped_weights(name) is not None):
        raise UserError(f"{name}: is on this machine, and revision={revision} is of a model on the hub; leave it out")
    if path.is_dir():
        return file_in(path)
    if path.is_file():
        return path
    starter = shipped_weights(name)
    if starter is not None:
        return starter
    on_hub = hub_name(str(name), revision)
    if on_hub is not None and not path.parent.is_dir():
        return download(on_hub, [EXPORTED, CONFIG]) / EXPORTED
    raise UserError(f"{name}: no such checkpoint; train one with `cgan train`")


def default_checkpoint(preferred: str | None = None) -> Path:
    """Returns the checkpoint in runs/ or the starter weights whose label is `preferred`, else that of the newest run.

    Without any run it is the starter weights; raises UserError if these are missing too.
    """
    runs = sorted(Path("runs").glob(f"*/{RUN}"), key=lambda path: path.stat().st_mtime)
    for path in (*reversed(runs), *Path("runs").glob("*/best.ckpt"), STARTER_GAN):
        if label(path) == preferred:
            return path
    if not runs and not STARTER_GAN.is_file():
        raise UserError(NO_RUN)
    return runs[-1] if runs else STARTER_GAN


def passed_over(checkpoint: Path) -> Path | None:
    """Returns the newest run in runs/ if it has no checkpoint to sample from, so that the starter weights stand in."""
    runs = sorted(Path("runs").glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
    return runs[-1].parent if runs and checkpoint == STARTER_GAN else None


def all_checkpoints(first: Path | None = None) -> dict[str, Path]:
    """Returns checkpoints by label: `first` if it is given, those in runs/ from the newest on, and all starter weights.

    Raises UserError if there is none at all.
    """
    runs = [path for name in (RUN, "best.ckpt") for path in Path("runs").glob(f"*/{name}")]
    found = sorted(runs, key=lambda path: path.stat().st_mtime, reverse=True)
    found = ([find(first)] if first is not None else []) + found + starter_generators()
    if not found:
        raise UserError(NO_RUN)
    by_label: dict[str, Path] = {}
    for path in found:
        by_label.setdefault(label(path), path)
    return by_label


def starter_generators() -> list[Path]:
    """Returns the generators that come with cgan; that of scenes with one object first."""
    files = sorted(shipped("assets", STARTER_GAN.name).parent.glob("*.safetensors"))
    return sorted(filter(holds_generator, files), key=lambda file: file != STARTER_GAN)


def holds_generator(file: Path) -> bool:
    """Returns whether exported weights are a generator's, and not those of a classifier or a joint encoder."""
    with reading(file, DAMAGED), safe_open(file, "pt") as weights:
        return any(name.startswith(PARTS[0]) for name in weights.keys())  # noqa: SIM118


def label(path: Path) -> str:
    """Returns the name of a file's folder, which is the name of a run, and of the file itself."""
    return f"{path.absolute().parent.name}/{path.name}"


def file_in(folder: Path) -> Path:
    """Returns the weights in an exported folder or a run directory; raises UserError where there are none."""
    for name in (EXPORTED, RUN):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: neither {RUN} nor {EXPORTED} is in it; give a run directory or an exported folder")


def read(path: Path) -> Weights:
    """Returns the weights of a checkpoint (.ckpt) or an export (.safetensors); nothing in the file is executed.

    Raises Damaged, or UserError where the file is of a later version of cgan or can't be read.
    """
    with reading(path, DAMAGED):
        return checked(*(read_exported(path) if path.suffix == ".safetensors" else read_checkpoint(path)))


def read_checkpoint(path: Path) -> Weights:
    """Returns the weights that sampling needs of a training's checkpoint."""
    with path.open("rb") as file:  # opened here, a disk that fails is an OSError
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    parts = PARTS + INVERTER_PARTS if checkpoint["sampler"].get(INVERTER) else PARTS
    tensors = {name: value for name, value in checkpoint["state_dict"].items() if name.startswith(parts)}
    return Weights(checkpoint["sampler"], tensors)


def read_exported(path: Path) -> Weights:
    """Returns the weights of a file that holds its own settings, or of one in an exported folder."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        alone = (file.metadata() or {}).get("sampler")
    return Weights(json.loads(alone) if alone is not None else read_config(path.with_name(CONFIG)), tensors)


def checked(spec: dict, tensors: dict[str, Tensor]) -> Weights:
    """Returns Weights; raises ValueError where something is missing that all of cgan's files have."""
    if not isinstance(spec, dict) or not {"generator", "text", "resolution"} <= set(spec) or not tensors:
        raise ValueError("it holds no generator")
    return Weights(spec, tensors)


def read_config(path: Path) -> dict:
    """Returns the sampler's settings from config.json of an exported folder; raises ValueError or UserError."""
    if not path.is_file():
        raise ValueError(f"there is no {path.name} beside it")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config["format"] > FORMAT:
        raise UserError(f"{path}: written by cgan {config['cgan']}, in a later format; install that version")
    return config["sampler"]


def write(path: Path, tensors: Mapping[str, Tensor], half: bool, metadata: dict[str, str]) -> None:
    """Writes tensors as safetensors, in half precision if asked.

    The file is written whole or, with CannotWrite, not at all.
    """
    write_bytes(path, save({name: shrunk(value, half) for name, value in tensors.items()}, metadata))


def shrunk(value: Tensor, half: bool) -> Tensor:
    """Returns a contiguous tensor, in half precision if asked."""
    return (value.half() if half and value.is_floating_point() else value).contiguous()
