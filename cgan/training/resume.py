"""Chooses the run directory of a training: a new one, or one that it resumes with its settings and finished stages."""

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from omegaconf import OmegaConf

from cgan.config import RunConfig, left_out, load_config
from cgan.files import write_json
from cgan.interfaces import Report, UserError, silent
from cgan.training.checkpoint_files import Found, checkpoints_in, newest_intact
from cgan.training.processes import is_first_process, num_processes_of
from cgan.training.run_lock import AGREED, found_by_first, is_of_others, job_name
from cgan.training.run_records import finished_stages, settings_in

FIXED = ("trainer.batch_size",)  # of the trainer's keys, those that can't change during a training
MOVABLE = ("data.root", "data.annotations", "data.labels")  # settings that may change where the pictures are the same
OWN = ("run_dir", "resume", "init", "gan.size")  # not compared; the widths of a size are settings by themselves


def chosen_run(config: RunConfig, time: str, report: Report = silent) -> tuple[RunConfig, Path]:
    """Returns the settings and the directory of a new run, or, where config.resume asks for it, of one that is resumed.

    time names a new run. config.resume of the result is the directory that is resumed, or None. report gets the
    settings that are overridden and the runs that can't be read. Raises UserError for a directory that is no run, for
    changes that can't be made during a training, and where processes that were started together find no common one.
    """
    join_first(config)
    match config.resume:
        case None:
            run_dir = None
        case "auto":
            run_dir = unfinished_run(config, report)
        case path:
            run_dir = Path(path)
            if not os.path.isfile(run_dir / "config.yaml"):
                raise UserError(f"resume={path}: no run directory; give the folder that holds its config.yaml")
    if run_dir is None:
        fresh = Path(config.run_dir) if config.run_dir else chosen_run_dir(config.name, time)
        return replace(config, resume=None), fresh
    stored, trainer = stored_settings(run_dir), config.trainer
    if trainer.precision == "auto":
        trainer = replace(trainer, precision=stored.trainer.precision)
    init = chosen_init(config, stored, run_dir, report)
    resumed = replace(config, resume=str(run_dir), run_dir=str(run_dir), init=init, trainer=trainer)
    check_changes(changes(stored, resumed), run_dir, report)
    return resumed, run_dir


def chosen_init(config: RunConfig, stored: RunConfig, run_dir: Path, report: Report) -> str | None:
    """Returns the init of a resumed run that has no checkpoint yet; raises UserError for an init that can't be used."""
    if config.init is None or config.init == stored.init:
        return stored.init
    if config.resume != "auto":
        raise UserError(
            f"resume={run_dir}: init={config.init} is for a new training, and this one goes on with weights "
            "of its own; leave init out"
        )
    if checkpoints_in(run_dir):
        report(f"init={config.init} is not used: {run_dir} goes on with weights of its own")
        return stored.init
    return config.init


def unfinished_run(config: RunConfig, report: Report) -> Path | None:
    """Returns the run that resume=auto resumes: run_dir, or the newest unfinished one of this name; None if none.

    In a cluster's job its own runs come first, of these the newest with the same settings, finished or not; and runs
    in which another training writes are skipped. Elsewhere such a run is returned, so that it is refused.
    """
    if config.run_dir or os.environ.get(AGREED):
        run_dir = Path(config.run_dir or os.environ[AGREED])
        return run_dir if os.path.isfile(run_dir / "config.yaml") else None
    runs = runs_named(config.name, report)
    if job_name():
        own = chosen_run_dir(config.name, "").name
        mine = [path for path in runs if re.fullmatch(rf"{re.escape(own)}(-\d+)?", path.name)]
        if mine:
            same = (path for path, stored in with_settings(mine, report) if not fixed_changes(changes(stored, config)))
            return next(same, None)
        runs = [path for path in runs if not is_of_others(path)]
    newest = next((path for path, _ in with_settings(runs, report)), None)
    return None if newest is None or is_finished(newest, config) else newest


def runs_named(name: str, report: Report) -> list[Path]:
    """Returns the runs of a name under runs/, the newest first; damaged ones are reported and skipped."""
    found = []
    for path in Path("runs").glob(f"{glob.escape(name)}-*/config.yaml"):
        try:
            if settings_in(path.parent).get("name") == name:
                found.append((path.stat().st_mtime, path.parent))
        except (UserError, OSError) as error:
            report(f"passed over: {error}")
    return [path for _, path in sorted(found, reverse=True)]


def with_settings(runs: list[Path], report: Report) -> Iterator[tuple[Path, RunConfig]]:
    """Yields each run with its settings; those whose settings can't be read are reported and skipped."""
    for path in runs:
        try:
            yield path, stored_settings(path)
        except UserError as error:
            report(f"passed over: {error}")


# ---------------------------------------------------------------------------------------------- the processes


def chosen_run_dir(name: str, time: str) -> Path:
    """Returns the run directory that a new run asks for, or that the first process has taken already.

    Raises UserError where several processes were started together and have no name to agree on.
    """
    started_together = int(os.environ.get("WORLD_SIZE", 1)) > 1 and AGREED not in os.environ
    if started_together and not job_name():
        raise UserError("run_dir is not set; processes that torchrun starts need it to agree: run_dir=runs/NAME")
    return Path(os.environ.get(AGREED) or f"runs/{name}-{job_name() or time}")


def join_first(config: RunConfig) -> None:
    """Let processes that were started together, without run_dir, learn the run directory from the first one.

    Raises UserError where that one has locked no directory.
    """
    alone = is_first_process() or AGREED in os.environ or config.run_dir is not None
    if alone or config.resume not in (None, "auto") or num_processes_of(config.trainer) == 1:
        return
    os.environ[AGREED] = str(found_by_first(f"runs/{config.name}-*"))


# ---------------------------------------------------------------------------------------------- settings


def stored_settings(run_dir: Path) -> RunConfig:
    """Returns the settings of a run; raises UserError if its config.yaml is not whole, or not one of cgan's."""
    settings_in(run_dir)
    file = run_dir / "config.yaml"
    return load_config([*left_out(file), str(file)], silent)  # load_config has reported old names before


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


def check_changes(changed: dict[str, tuple], run_dir: Path, report: Report) -> None:
    """Report the settings that are overridden; raises UserError for those that can't change during a training."""
    wrong = fixed_changes(changed)
    if wrong:
        raise UserError(
            f"resume={run_dir}: {', '.join(wrong)} can't change on the way; start a new run, with "
            f"init={run_dir}/last.ckpt and joint.checkpoint={run_dir}/joint.safetensors to build on this one"
        )
    for key, (before, after) in changed.items():
        report(f"{key}: {after} from now on, {before} before")


# ---------------------------------------------------------------------------------------------- progress.json


def note_done(run_dir: Path, stage: str, what: object) -> None:
    """Note in progress.json that a stage, "joint" or "gan", is finished, and what it took."""
    if is_first_process():
        write_json(run_dir / "progress.json", finished_stages(run_dir) | {stage: what})


def budget(config: RunConfig) -> dict:
    """Returns how much training of the GAN a configuration asks for."""
    return {"images": config.trainer.images, "minutes": config.trainer.minutes}


def is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Returns whether a run has had as much training as the configuration asks for."""
    stages = finished_stages(run_dir)
    return stages.get("gan") == budget(config) if config.task == "gan" else "joint" in stages


def has_joint(config: RunConfig, run_dir: Path) -> bool:
    """Returns whether the joint encoder of a run that goes on is trained to its end."""
    path = run_dir / "joint.safetensors"
    begun = bool(checkpoints_in(run_dir))  # the GAN comes after it
    return config.resume is not None and path.exists() and ("joint" in finished_stages(run_dir) or begun)


def checkpoint_of(config: RunConfig, run_dir: Path, report: Report) -> Found | None:
    """Returns the checkpoint that the GAN's training resumes from; None for a start from the beginning."""
    if config.resume is None:
        return None
    found = newest_intact(run_dir)
    if found is None:
        report(f"{run_dir} has no checkpoint yet: the GAN starts from the beginning")
        return None
    for line in found.damaged:
        report(f"{line}; passed over")
    report(f"going on from {found.path}, after {found.content['images_seen']:,} images")
    return found
