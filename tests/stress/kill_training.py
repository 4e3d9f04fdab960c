"""A training is ended by kill -9 at random moments, goes on, is begun anew, and is killed again.

    python tests/stress/kill_training.py [ROUNDS] [SEED]

After each kill all that is under its name must be whole, and no training may have lost what it had. The next start goes
on, or says one line. In the end a start that is not killed must succeed, and leave no temporary file. A round takes
about ten seconds on one core.
"""

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from cgan.models.joint import JointEncoder  # noqa: E402
from cgan.training.checkpoint_files import checkpoints_in, intact  # noqa: E402
from cgan.training.run_directory import HALF_ASIDE  # noqa: E402
from cgan.training.run_records import finished_stages, recorded_data, rows_of, settings_in  # noqa: E402
from helpers.runs import TINY, ended, kill, start  # noqa: E402

MORE = [
    "trainer.images=100000000",
    "trainer.sample_every=64",
    "trainer.evaluate_every=0",
    "trainer.checkpoint_every=48",
]
LONGEST = 12.0  # seconds until a kill, from the start or, in half of the rounds, from the first new checkpoint on
PATIENCE = 240.0  # seconds for that checkpoint
NEW, AUTO, RESUME = "begun anew", "resume=auto", "--resume"


def started(way: str, folder: Path, *more: str):
    match way:
        case "begun anew":
            return start(*TINY, *MORE, "run_dir=run", *more, cwd=folder)
        case "resume=auto":
            return start(*TINY, *MORE, "run_dir=run", "resume=auto", *more, cwd=folder)
        case "--resume":
            return start("--resume", "run", *more, cwd=folder)


def inventory(run: Path) -> list[int]:
    """Images seen by the newest checkpoint of each training in a run directory, after a look at all of its files.

    A file that is under its name is whole.
    """
    found = []
    for folder in (run, run / HALF_ASIDE, *run.glob("earlier-*")):
        contents = [intact(path) for path in checkpoints_in(folder)] if folder.is_dir() else []
        found += [max(content["images_seen"] for content in contents)] if contents else []
        if (folder / "joint.safetensors").exists():
            JointEncoder.load(folder / "joint.safetensors")
        if (folder / "config.yaml").exists():
            settings_in(folder)
        finished_stages(folder), recorded_data(folder)
        rows_of(folder / "metrics.csv"), rows_of(folder / "joint" / "metrics.csv")
    return sorted(found)


def lost(before: list[int], after: list[int]) -> bool:
    """Whether a training is gone, or is further back than it was."""
    return len(after) < len(before) or any(a < b for a, b in zip(after[::-1], before[::-1], strict=False))


def wait(process, seconds: float, done=lambda: False) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline and not done():
        time.sleep(0.01)


def one_round(folder: Path, way: str, seconds: float, in_training: bool) -> str:
    """A start that is killed after so many seconds; returns what came of it, raises AssertionError."""
    run, before = folder / "run", inventory(folder / "run")
    process, begin = started(way, folder), time.time()
    if in_training:
        wait(process, PATIENCE, lambda: any(path.stat().st_mtime > begin for path in run.glob("last.ckpt")))
    wait(process, seconds)
    if process.poll() is not None:
        status, _, stderr = ended(process)
        assert status == 1 and len(stderr.splitlines()) == 1, (status, stderr)
        return f"{way}: {stderr.strip()}"
    kill(process)
    after = inventory(run)
    assert not lost(before, after), f"{before} before, {after} now"
    return f"{way}: killed, images of each training: {after}"


def check_end(folder: Path) -> None:
    """The last start is not killed: it ends well, and tidies up."""
    goal = max(inventory(folder / "run"), default=0) + 64
    process = started(AUTO, folder, f"trainer.images={goal}")
    status, _, stderr = ended(process)
    assert status == 0, stderr
    left = [path for path in (folder / "run").rglob("*") if path.suffix == ".tmp" or path.name == HALF_ASIDE]
    assert not left, f"not tidied up: {left}"


def main(rounds: int = 20, seed: int = 0) -> None:
    chance, ways = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            way = chance.choices([NEW, AUTO, RESUME], [1, 3, 2])[0]
            seconds, in_training = chance.random() * LONGEST, chance.random() < 0.5
            result = one_round(Path(name), way, seconds, in_training)
            ways[way] += 1
            since = " of training" * in_training
            print(f"round {number + 1} of {rounds}, after {seconds:.1f} s{since}: {result}", flush=True)
        check_end(Path(name))
    print(f"all is whole after {', '.join(f'{count} x {way}' for way, count in ways.items())}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
