"""The settings of a run directory: read back, and compared with those of a training that resumes it."""

from pathlib import Path
from typing import cast

from omegaconf import OmegaConf

from cgan.config import RunConfig, load_config
from cgan.interfaces import silent
from cgan.training.run_records import settings_in

FIXED = ("trainer.batch_size",)  # of the trainer's keys, those that can't change during a training
MOVABLE = ("data.root", "data.annotations")  # settings that may change where the pictures are the same
OWN = ("run_dir", "resume", "init")  # settings that are no part of what is compared


def stored_settings(run_dir: Path) -> RunConfig:
    """Returns the settings of a run; raises UserError if its config.yaml is not whole, or not one of cgan's."""
    settings_in(run_dir)
    return load_config([str(run_dir / "config.yaml")], silent)  # load_config has reported old names before


def changes(stored: RunConfig, wanted: RunConfig) -> dict[str, tuple]:
    """Returns the keys in which two configurations differ, with both values; keys in OWN are left out."""
    trees = (cast(dict, OmegaConf.to_container(OmegaConf.structured(config))) for config in (stored, wanted))
    one, two = (dict(leaves(tree)) for tree in trees)
    keys = [key for key in one | two if one.get(key) != two.get(key) and key not in OWN]
    return {key: (one.get(key), two.get(key)) for key in keys}


def leaves(tree: dict, prefix: str = "") -> list[tuple[str, object]]:
    """Returns the dotted keys of nested dicts, with their values."""
    return [
        leaf
        for name, value in tree.items()
        for leaf in (leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)])
    ]


def fixed_changes(changed: dict[str, tuple]) -> list[str]:
    """Returns those of the changed keys that can't change during a training; the folder of the pictures can."""
    return [key for key in changed if not key.startswith("trainer.") and key not in MOVABLE or key in FIXED]
