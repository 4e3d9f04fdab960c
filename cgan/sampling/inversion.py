"""The posterior of a generator: in its checkpoint, in a file beside it, or shipped with cgan."""

import json
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from cgan.damage import building, reading
from cgan.interfaces import UserError
from cgan.models.inverter import Inverter, restore_inverter
from cgan.resources import STARTER_POSTERIOR
from cgan.sampling.weights import INVERTER, INVERTER_PARTS, POSTERIOR, write

DAMAGED = "damaged, or not a posterior of `cgan posterior`; give another file"
FITTED_TO = "generator"  # the metadata with the hash of the generator


def save_inverter(inverter: Inverter, path: Path, generator: str, half: bool = True) -> None:
    """Writes a fitted posterior with all that it stands on, in half precision if asked; raises CannotWrite.

    generator is the hash of the pipeline that it was fitted to.
    """
    write(path, inverter.tensors(), half, {INVERTER: inverter.spec(), FITTED_TO: generator})


def fitted_to(path: Path) -> str | None:
    """Returns the hash of the generator that a file's posterior was fitted to; None where it is no such file."""
    if not path.is_file():
        return None
    with reading(path, DAMAGED), safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(FITTED_TO)


def load_inverter(path: Path, generator: str) -> Inverter:
    """Returns the posterior of a file; raises UserError where it is damaged, or fitted to another generator."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; fit a posterior with `cgan posterior`")
    found = fitted_to(path)
    if found != generator:
        other = "no fitted posterior" if found is None else f"fitted to another generator ({found[:12]})"
        raise UserError(f"{path}: {other}; fit one to these weights ({generator[:12]}) with `cgan posterior`")
    with reading(path, DAMAGED), safe_open(path, "pt") as file:
        spec, tensors = file.metadata()[INVERTER], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with building(path, DAMAGED):
        return restore_inverter(spec, tensors)


def find_inverter(checkpoint: Path | None, spec: dict, tensors: dict[str, Tensor], generator: str) -> Inverter:
    """Returns the posterior of a pipeline with settings and tensors of its checkpoint.

    One that was fitted comes first, as it is made for edits: from beside the checkpoint, or shipped with cgan. Then
    comes that of the checkpoint itself. Raises UserError where there is none.
    """
    places = [STARTER_POSTERIOR] if checkpoint is None else [checkpoint.with_name(POSTERIOR), STARTER_POSTERIOR]
    for path in places:
        if fitted_to(path) == generator:
            return load_inverter(path, generator)
    mine = {name: value for name, value in tensors.items() if name.startswith(INVERTER_PARTS)}
    if not spec.get(INVERTER) or not mine:
        name = checkpoint or "this generator"
        raise UserError(f"{name}: it has no posterior, which finds pictures' noise; fit one with `cgan posterior`")
    with building(checkpoint or Path(POSTERIOR), DAMAGED):
        return restore_inverter(json.dumps(spec[INVERTER]), mine)
