"""Which run directory a training goes on in, with which settings, and what of it is done."""

import json
import os
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from cgan.checkpoints import Found, newest_intact
from cgan.cli.fitting import chosen_run_dir, is_first_process, say
from cgan.config import RunConfig, load_config
from cgan.interfaces import UserError

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
            if not (run_dir / "config.yaml").is_file():
                raise UserError(f"resume={path}: no run directory; give the folder that holds its config.yaml")
    if run_dir is None:
        fresh = Path(config.run_dir) if config.run_dir else chosen_run_dir(config.name, time, config.trainer)
        return replace(config, resume=None), fresh
    stored = load_config([str(run_dir / "config.yaml")])
    wanted = config if config.resume == "auto" else load_config([str(run_dir / "config.yaml"), *given])
    if wanted.trainer.precision == "auto":
        wanted.trainer.precision = stored.trainer.precision
    check_changes(changes(stored, wanted), run_dir)
    return replace(wanted, resume=str(run_dir), run_dir=str(run_dir), init=None), run_dir


def unfinished_run(config: RunConfig) -> Path | None:
    """The run in run_dir, or the newest one of this name, where it has begun and, run_dir apart, is not at its end."""
    if config.run_dir or os.environ.get("CGAN_RUN_DIR"):
        run_dir = Path(config.run_dir or os.environ["CGAN_RUN_DIR"])
        return run_dir if (run_dir / "config.yaml").is_file() else None
    runs = [path.parent for path in Path("runs").glob(f"{config.name}-*/config.yaml") if is_of(path, config.name)]
    job = chosen_run_dir(config.name, "", config.trainer, agree=False)
    if job in runs:
        return job
    newest = max(runs, key=lambda path: (path / "config.yaml").stat().st_mtime, default=None)
    return None if newest is None or is_finished(newest, config) else newest


def is_of(path: Path, name: str) -> bool:
    return OmegaConf.load(path).get("name") == name


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
    wrong = [key for key in changed if not key.startswith("trainer.") or key in FIXED]
    if wrong:
        raise UserError(
            f"resume={run_dir}: {', '.join(wrong)} can't change on the way; start a new run, with "
            f"init={run_dir}/last.ckpt and joint.checkpoint={run_dir}/joint.safetensors to build on this one"
        )
    for key, (before, after) in changed.items():
        say(f"{key}: {after} from now on, {before} before")


# ---------------------------------------------------------------------------------------------- progress.json


def done(run_dir: Path) -> dict:
    """What of a run is finished: {"joint": {"images_seen": ...}, "gan": {"images": ..., "minutes": ...}}."""
    path = run_dir / "progress.json"
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        raise UserError(f"{path}: damaged; delete it, and the last stage of the run is done once more") from None


def note_done(run_dir: Path, stage: str, what: object) -> None:
    if is_first_process():
        unfinished = run_dir / "progress.json.tmp"
        unfinished.write_text(json.dumps(done(run_dir) | {stage: what}) + "\n")
        unfinished.replace(run_dir / "progress.json")


def budget(config: RunConfig) -> dict:
    return {"images": config.trainer.images, "minutes": config.trainer.minutes}


def is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Whether this much training was done before."""
    stages = done(run_dir)
    return stages.get("gan") == budget(config) if config.task == "gan" else "joint" in stages


def has_joint(config: RunConfig, run_dir: Path) -> bool:
    """Whether the joint encoder of a run that goes on is trained to its end."""
    begun = any(run_dir.glob("last*.ckpt"))  # the GAN comes after it
    path = run_dir / "joint.safetensors"
    return config.resume is not None and path.exists() and ("joint" in done(run_dir) or begun)


def set_aside(run_dir: Path) -> None:
    """Checkpoints of an earlier training in the same directory, which a new one must not be taken for."""
    earlier = [path for path in (*run_dir.glob("last*.ckpt"), run_dir / "progress.json") if path.exists()]
    if not earlier:
        return
    folder = run_dir / "earlier"
    folder.mkdir(exist_ok=True)
    for path in earlier:
        path.replace(folder / path.name)
    print(f"{run_dir} held a training; its checkpoints are in {folder} now (to go on with it: --resume {run_dir})")


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
    say(f"going on from {found.path}, after {found.content['global_step'] * config.trainer.batch_size:,} images")
    return found
