"""Prepares a run directory for a training: locks and tidies it, moves an earlier training aside, writes settings."""

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
from cgan.interfaces import ImageTextDataset, Report, UserError, silent
from cgan.training.checkpoint_files import checkpoints_in
from cgan.training.processes import is_first_process, num_processes_of
from cgan.training.resume import MOVABLE, changes, stored_settings
from cgan.training.run_lock import (
    AGREED,
    LAUNCH,
    give_back,
    is_unused,
    job_name,
    launch,
    take,
    take_new,
    wait_for_first,
)
from cgan.training.run_records import SESSIONS, WHOLE, recorded_data
from cgan.training.sessions import note_session

MADE = (
    "best.ckpt", "joint.safetensors", "joint", "metrics.csv", "samples", "progress.json", "retrieval.json", "wandb",
    "wandb-id",
)  # fmt: skip
DESCRIBED = ("data.json", "config.yaml", SESSIONS)
HALF_ASIDE = ".earlier"  # where an earlier training's files are while they are put aside


@contextmanager
def taken(config: RunConfig, run_dir: Path) -> Iterator[Path]:
    """Lock a run directory for the block, so that no other training gets it; raises Busy or CannotWrite.

    It is run_dir, or, where the configuration names none, a new one of this name. Only the first process locks it; the
    others wait for that.
    """
    named = config.run_dir is not None or config.resume is not None or AGREED in os.environ
    if not is_first_process():
        if LAUNCH not in os.environ:
            wait_for_first(run_dir)
        yield run_dir
        return
    run_dir, lock = (run_dir, take(run_dir, patience_of(config))) if named else take_new(run_dir)
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


def patience_of(config: RunConfig) -> float:
    """Returns how many seconds to wait for the lock: a resumed job may start before a dead node's lock is free."""
    return 120.0 if job_name() and config.resume is not None else 1.0


def leave(run_dir: Path, lock: FileLock, remove: bool) -> None:
    """Unlock a run directory; a new one in which nothing has been written is removed."""
    remove = remove and is_unused(run_dir)
    if remove:
        removed = run_dir.with_name(f".{run_dir.name}-{os.getpid()}-unused")
        run_dir.rename(removed)  # at once, for whoever looks for a free name
        shutil.rmtree(removed, ignore_errors=True)
    give_back(run_dir, lock)


def tidy(run_dir: Path) -> None:
    """Remove the unfinished files of killed trainings, and put back files that were being moved aside."""
    check_writable(run_dir)
    for folder in (run_dir, run_dir / "samples", run_dir / "joint"):
        remove_abandoned(folder)
    half = run_dir / HALF_ASIDE
    if half.is_dir():
        for path in half.iterdir():
            path.replace(run_dir / path.name)
        half.rmdir()


# ---------------------------------------------------------------------------------------------- the beginning


def begin(config: RunConfig, run_dir: Path, dataset: ImageTextDataset, report: Report = silent) -> None:
    """Write the settings and the record of the pictures into a locked run directory; every process calls it.

    A training that it held is moved to earlier-1 and so on, unless it is resumed; then what has changed in the pictures
    is reported. Raises UserError where the pictures of a resumed run have moved and are not the same.
    """
    if config.resume is None and not is_first_process():
        return
    now = fingerprint_of(dataset)
    may_lack_words = config.joint.checkpoint is not None  # trained on other captions
    if config.resume is not None:
        may_lack_words = compare(config, run_dir, now, report)
    if not is_first_process():
        return
    if may_lack_words:
        report_unknown_words(config, run_dir, dataset, report)
    if config.resume is None:
        set_aside(run_dir, report)
    write_json(run_dir / "data.json", now._asdict())
    write_settings(config, run_dir)
    note_session(run_dir, config.resume is not None)


def write_settings(config: RunConfig, run_dir: Path) -> None:
    """Write config.yaml with a mark at its end, by which a file that was cut off is recognised."""
    content = OmegaConf.to_yaml(OmegaConf.structured(replace(config, resume=None)))
    write_text(run_dir / "config.yaml", content + WHOLE)


def compare(config: RunConfig, run_dir: Path, now: Fingerprint, report: Report) -> bool:
    """Returns whether the pictures of a resumed run have changed, after reporting it.

    Raises UserError where they have moved and are not the same.
    """
    before = recorded_data(run_dir)
    before = Fingerprint(**before) if before is not None and set(before) == set(Fingerprint._fields) else None
    changed = None if before is None else differences(before, now)
    moved = moved_data(config, run_dir)
    if moved and (before is None or changed):
        why = changed or "it has no record of its pictures, by which to know them again"
        raise UserError(f"resume={run_dir}: {', '.join(moved)} can't change on the way ({why}); start a new run")
    if changed:
        report(f"{changed}: to go on is no longer the same, bit for bit, as never to have stopped")
    return bool(changed)


def moved_data(config: RunConfig, run_dir: Path) -> list[str]:
    """Returns the names of those settings for the place of the pictures that have changed."""
    return [key for key in changes(stored_settings(run_dir), config) if key in MOVABLE]


def report_unknown_words(config: RunConfig, run_dir: Path, dataset: ImageTextDataset, report: Report) -> None:
    """Report the words of captions that the joint encoder of a run has not learned."""
    from cgan.models.joint import JointEncoder

    path = Path(config.joint.checkpoint or run_dir / "joint.safetensors")
    if config.text.encoder == "pretrained" or not path.exists():
        return
    unknown = JointEncoder.load(path).text.unknown_words(all_captions(dataset))
    if unknown:
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        report(f"words that the vocabulary does not hold: {', '.join(unknown[:10])}{more}")


def set_aside(run_dir: Path, report: Report = silent) -> None:
    """Move all that an earlier training has left in a directory to earlier-1 and so on, where it can be resumed."""
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
    report(f"{run_dir} held a training; all of it is in {folder} now (to go on: cgan train --resume {folder})")
