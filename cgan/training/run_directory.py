"""What happens to a run directory before a training: it is taken, tidied, emptied of an earlier training, described."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from omegaconf import OmegaConf

from cgan.config import RunConfig
from cgan.data.fingerprint import Fingerprint, all_captions, differences, fingerprint_of
from cgan.files import cannot_write, check_writable, remove_abandoned, sync_folder, write_json, write_text
from cgan.interfaces import UserError
from cgan.training.run_lock import LAUNCH, found_by_first, give_back, is_unused, launch, take, take_new, wait_for_first
from cgan.training.run_records import WHOLE, recorded_data
from cgan.training.trainer import AGREED, is_first_process, num_processes_of, say

MADE = (
    "best.ckpt", "joint.safetensors", "joint", "metrics.csv", "samples", "progress.json", "retrieval.json", "wandb",
    "wandb-id",
)  # fmt: skip
DESCRIBED = ("data.json", "config.yaml")
HALF_ASIDE = ".earlier"  # where an earlier training's files are while they are put aside
MOVABLE = ("data.root", "data.annotations")  # settings that may change on the way where the pictures are the same


@contextmanager
def taken(config: RunConfig, run_dir: Path) -> Iterator[Path]:
    """The run directory, which no other training gets before the block ends; raises Busy or CannotWrite.

    It is run_dir, or, where the configuration names none, one of this name that is new. Only the first process
    takes it.
    """
    named = config.run_dir is not None or config.resume is not None or AGREED in os.environ
    if not is_first_process():
        if LAUNCH not in os.environ:
            wait_for_first(run_dir)
        yield run_dir
        return
    run_dir, lock = (run_dir, take(run_dir)) if named else take_new(run_dir)
    shared = {AGREED: str(run_dir), LAUNCH: launch()} if num_processes_of(config.trainer) > 1 else {}
    shared = {key: value for key, value in shared.items() if key not in os.environ}
    os.environ.update(shared)
    try:
        tidy(run_dir)
        yield run_dir
    finally:
        for key in shared:
            os.environ.pop(key, None)
        leave(run_dir, lock, remove=not named)


def leave(run_dir: Path, lock: FileLock, remove: bool) -> None:
    """Give a run directory back; a new one in which nothing has been written is removed."""
    remove = remove and is_unused(run_dir)
    if remove:
        removed = run_dir.with_name(f".{run_dir.name}-{os.getpid()}-unused")
        run_dir.rename(removed)  # at once, for whoever looks for a free name
        shutil.rmtree(removed, ignore_errors=True)
    give_back(run_dir, lock)


def join_first(config: RunConfig) -> None:
    """Where processes were started together and run_dir is not set, they learn it from the first one.

    Raises UserError where that one has taken no directory.
    """
    alone = is_first_process() or AGREED in os.environ or config.run_dir is not None
    if alone or config.resume not in (None, "auto") or num_processes_of(config.trainer) == 1:
        return
    os.environ[AGREED] = str(found_by_first(f"runs/{config.name}-*"))


def tidy(run_dir: Path) -> None:
    """Remove what killed trainings have left unfinished, and put back what was on its way aside."""
    check_writable(run_dir)
    for folder in (run_dir, run_dir / "samples", run_dir / "joint"):
        remove_abandoned(folder)
    half = run_dir / HALF_ASIDE
    if half.is_dir():
        for path in half.iterdir():
            path.replace(run_dir / path.name)
        half.rmdir()


# ---------------------------------------------------------------------------------------------- the beginning


def begin(config: RunConfig, run_dir: Path, dataset) -> None:
    """Make a taken run directory one of this configuration and these pictures.

    A training that it held is put aside, unless it goes on; then what has changed since is said. Every process
    calls it.
    """
    if config.resume is None and not is_first_process():
        return
    now = fingerprint_of(dataset)
    if config.resume is not None:
        compare(config, run_dir, dataset, now)
    if not is_first_process():
        return
    if config.resume is None:
        if config.joint.checkpoint is not None:
            tell_unknown_words(config, run_dir, dataset)
        set_aside(run_dir)
    write_json(run_dir / "data.json", now._asdict())
    write_settings(config, run_dir)


def write_settings(config: RunConfig, run_dir: Path) -> None:
    """config.yaml, with the mark of its end, without which a file that is cut off could be taken for a whole one."""
    content = OmegaConf.to_yaml(OmegaConf.structured(replace(config, resume=None)))
    write_text(run_dir / "config.yaml", content + WHOLE)


def compare(config: RunConfig, run_dir: Path, dataset, now: Fingerprint) -> None:
    """Say what has changed in the pictures; raises UserError where they have moved and are not the same."""
    before = recorded_data(run_dir)
    changed = None if before is None else differences(Fingerprint(**before), now)
    moved = moved_data(config, run_dir)
    if moved and (before is None or changed):
        why = changed or "it has no record of its pictures, by which to know them again"
        raise UserError(f"resume={run_dir}: {', '.join(moved)} can't change on the way ({why}); start a new run")
    if changed:
        say(f"{changed}: to go on is no longer the same, bit for bit, as never to have stopped")
        tell_unknown_words(config, run_dir, dataset)


def moved_data(config: RunConfig, run_dir: Path) -> list[str]:
    """The settings of where the pictures are that are others than before."""
    from cgan.training.resume import changes, stored_settings

    return [key for key in changes(stored_settings(run_dir), config) if key in MOVABLE]


def tell_unknown_words(config: RunConfig, run_dir: Path, dataset) -> None:
    from cgan.training.joint import JointEncoder

    path = Path(config.joint.checkpoint or run_dir / "joint.safetensors")
    if config.text.encoder == "pretrained" or not path.exists():
        return
    unknown = JointEncoder.load(path).text.unknown_words(all_captions(dataset))
    if unknown:
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        say(f"words that the vocabulary does not hold: {', '.join(unknown[:10])}{more}")


def set_aside(run_dir: Path) -> None:
    """Move all that an earlier training has left in a directory to one of its own, from which it can go on."""
    from cgan.training.checkpoints import checkpoints_in

    made = [*checkpoints_in(run_dir), *(run_dir / name for name in MADE if (run_dir / name).exists())]
    if not made:
        return
    described = [run_dir / name for name in DESCRIBED if (run_dir / name).exists()]
    half, number = run_dir / HALF_ASIDE, 1
    while (run_dir / f"earlier-{number}").exists():
        number += 1
    folder = run_dir / f"earlier-{number}"
    try:
        half.mkdir()
        for path in [*made, *described]:
            path.replace(half / path.name)
        half.replace(folder)
        sync_folder(run_dir)
    except OSError as error:
        raise cannot_write(run_dir, error) from error
    print(f"{run_dir} held a training; all of it is in {folder} now (to go on: python train.py --resume {folder})")
