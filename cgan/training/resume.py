"""Which run directory a training goes on in, with which settings, and what of it is done."""

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from cgan.config import RunConfig, load_config
from cgan.files import write_json
from cgan.interfaces import UserError
from cgan.training.checkpoints import Found, checkpoints_in, newest_intact
from cgan.training.run_directory import MOVABLE
from cgan.training.run_lock import is_of_others
from cgan.training.run_records import finished_stages, settings_in
from cgan.training.trainer import AGREED, chosen_run_dir, is_first_process, job_name, say

FIXED = ("trainer.batch_size",)  # of the trainer's keys, those that a training can't change on its way
OWN = ("run_dir", "resume", "init")


def chosen_run(config: RunConfig, given: list[str], time: str) -> tuple[RunConfig, Path]:
    """The settings and the directory of a new run, or, where resume asks for it, of one that goes on.

    given are the arguments that config is made of. config.resume is afterwards the directory that training goes on in,
    or None.
    """
    match config.resume:
        case None:
            run_dir = None
        case "auto":
            run_dir = unfinished_run(config)
        case path:
            run_dir = Path(path)
            if not os.path.isfile(run_dir / "config.yaml"):
                raise UserError(f"resume={path}: no run directory; give the folder that holds its config.yaml")
    if run_dir is None:
        fresh = Path(config.run_dir) if config.run_dir else chosen_run_dir(config.name, time, config.trainer)
        return replace(config, resume=None), fresh
    stored = stored_settings(run_dir)
    wanted = config if config.resume == "auto" else load_config([str(run_dir / "config.yaml"), *given])
    if wanted.trainer.precision == "auto":
        wanted.trainer.precision = stored.trainer.precision
    init = chosen_init(config.resume, stored, wanted, run_dir)
    check_changes(changes(stored, wanted), run_dir)
    return replace(wanted, resume=str(run_dir), run_dir=str(run_dir), init=init), run_dir


def stored_settings(run_dir: Path) -> RunConfig:
    """The settings of a run; raises UserError where its config.yaml is not whole, or not what cgan has written."""
    settings_in(run_dir)
    return load_config([str(run_dir / "config.yaml")])


def chosen_init(resume: str, stored: RunConfig, wanted: RunConfig, run_dir: Path) -> str | None:
    """What a run starts from that goes on before its first checkpoint; raises UserError for what can't be heeded."""
    if wanted.init is None or wanted.init == stored.init:
        return stored.init
    if resume != "auto":
        raise UserError(
            f"resume={run_dir}: init={wanted.init} is for a new training, and this one goes on with weights "
            "of its own; leave init out"
        )
    if checkpoints_in(run_dir):
        say(f"init={wanted.init} is not used: {run_dir} goes on with weights of its own")
        return stored.init
    return wanted.init


def unfinished_run(config: RunConfig) -> Path | None:
    """The run in run_dir, or the newest one of this name, where it has begun and, run_dir apart, is not at its end.

    In a job of a cluster its own runs come first, of these the newest of the same settings, finished or not; and runs
    that are under way are passed over. Elsewhere such a run is returned, so that it is refused.
    """
    if config.run_dir or os.environ.get(AGREED):
        run_dir = Path(config.run_dir or os.environ[AGREED])
        return run_dir if os.path.isfile(run_dir / "config.yaml") else None
    runs = runs_named(config.name)
    if job_name():
        own = chosen_run_dir(config.name, "", config.trainer).name
        mine = [path for path in runs if re.fullmatch(rf"{re.escape(own)}(-\d+)?", path.name)]
        if mine:
            same = (path for path, stored in with_settings(mine) if not fixed_changes(changes(stored, config)))
            return next(same, None)
        runs = [path for path in runs if not is_of_others(path)]
    newest = next((path for path, _ in with_settings(runs)), None)
    return None if newest is None or is_finished(newest, config) else newest


def runs_named(name: str) -> list[Path]:
    """The runs of a name under runs/, the newest first; damaged ones are passed over with a word."""
    found = []
    for path in Path("runs").glob(f"{glob.escape(name)}-*/config.yaml"):
        try:
            if settings_in(path.parent).get("name") == name:
                found.append((path.stat().st_mtime, path.parent))
        except (UserError, OSError) as error:
            say(f"passed over: {error}")
    return [path for _, path in sorted(found, reverse=True)]


def with_settings(runs: list[Path]) -> Iterator[tuple[Path, RunConfig]]:
    """Each run with its settings; those whose settings can't be understood are passed over with a word."""
    for path in runs:
        try:
            yield path, stored_settings(path)
        except UserError as error:
            say(f"passed over: {error}")


def changes(stored: RunConfig, wanted: RunConfig) -> dict[str, tuple]:
    """The keys in which two settings differ, with both values."""
    one, two = (dict(leaves(OmegaConf.to_container(OmegaConf.structured(c)))) for c in (stored, wanted))
    keys = [key for key in one | two if one.get(key) != two.get(key) and key not in OWN]
    return {key: (one.get(key), two.get(key)) for key in keys}


def leaves(tree: dict, prefix: str = "") -> list[tuple[str, object]]:
    return [
        leaf
        for name, value in tree.items()
        for leaf in (leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)])
    ]


def check_changes(changed: dict[str, tuple], run_dir: Path) -> None:
    """Says what is overridden; raises UserError for what would make another training of it."""
    wrong = fixed_changes(changed)
    if wrong:
        raise UserError(
            f"resume={run_dir}: {', '.join(wrong)} can't change on the way; start a new run, with "
            f"init={run_dir}/last.ckpt and joint.checkpoint={run_dir}/joint.safetensors to build on this one"
        )
    for key, (before, after) in changed.items():
        say(f"{key}: {after} from now on, {before} before")


def fixed_changes(changed: dict[str, tuple]) -> list[str]:
    """The keys that can't change on the way. Pictures may lie elsewhere, as long as they are the same."""
    return [key for key in changed if not key.startswith("trainer.") and key not in MOVABLE or key in FIXED]


# ---------------------------------------------------------------------------------------------- progress.json


def note_done(run_dir: Path, stage: str, what: object) -> None:
    if is_first_process():
        write_json(run_dir / "progress.json", finished_stages(run_dir) | {stage: what})


def budget(config: RunConfig) -> dict:
    return {"images": config.trainer.images, "minutes": config.trainer.minutes}


def is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Whether this much training was done before."""
    stages = finished_stages(run_dir)
    return stages.get("gan") == budget(config) if config.task == "gan" else "joint" in stages


def has_joint(config: RunConfig, run_dir: Path) -> bool:
    """Whether the joint encoder of a run that goes on is trained to its end."""
    path = run_dir / "joint.safetensors"
    begun = bool(checkpoints_in(run_dir))  # the GAN comes after it
    return config.resume is not None and path.exists() and ("joint" in finished_stages(run_dir) or begun)


def checkpoint_of(config: RunConfig, run_dir: Path) -> Found | None:
    """Where the GAN's training goes on from; None for the start."""
    if config.resume is None:
        return None
    found = newest_intact(run_dir)
    if found is None:
        say(f"{run_dir} has no checkpoint yet: the GAN starts from the beginning")
        return None
    for line in found.damaged:
        say(f"{line}; passed over")
    say(f"going on from {found.path}, after {found.content['images_seen']:,} images")
    return found
