"""Two trainings are started into one run directory, a random time apart: one trains, the other says one line.

    python tests/stress/two_trainings.py [ROUNDS] [SEED]

Each round takes about half a minute on one core; it ends with status 1 at the first round in which anything is mixed.
A second training that starts when the first has ended sets that aside, as it should; it is counted as "one after the
other".
"""

import csv
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from cgan.training.run_records import settings_in  # noqa: E402
from helpers.runs import TINY, ended, start, state  # noqa: E402

IMAGES, BATCH, SEEDS = 1600, 16, (1, 2)
LONGEST = 6.0  # seconds between the starts


def one_round(folder: Path, seconds: float) -> str:
    """Start both, the second so many seconds after the first; returns what came of it, raises AssertionError."""
    processes = []
    for seed in SEEDS:
        settings = [*TINY, f"trainer.images={IMAGES}", "trainer.sample_every=1600", f"seed={seed}", "run_dir=run"]
        processes.append(start(*settings, cwd=folder))
        time.sleep(seconds if seed == SEEDS[0] else 0)
    ends = [ended(process) for process in processes]
    statuses = [status for status, _, _ in ends]
    if statuses == [0, 0]:
        assert "held a training" in ends[1][1], ends
        check_training(folder / "run/earlier-1", SEEDS[0])
        check_training(folder / "run", SEEDS[1])
        return "one after the other"
    assert sorted(statuses) == [0, 1], ends
    winner, loser = statuses.index(0), statuses.index(1)
    lines = ends[loser][2].splitlines()
    assert len(lines) == 1 and "another training is under way" in lines[0], ends[loser]
    assert not ends[loser][1], f"the refused training has begun to work: {ends[loser][1]}"
    assert not list((folder / "run").glob("earlier*")), "something was set aside"
    check_training(folder / "run", SEEDS[winner])
    return f"the {('first', 'second')[winner]} trained, the other said one line"


def check_training(run: Path, seed: int) -> None:
    """A whole training of one seed, with nothing of another's."""
    assert settings_in(run)["seed"] == seed, "the settings are of the other training"
    assert state(run)["global_step"] * BATCH == state(run)["images_seen"] == IMAGES
    rows = csv.DictReader((run / "metrics.csv").open(newline=""))
    steps = [int(row["step"]) for row in rows if row["loss/generator"]]
    assert steps == list(range(19, IMAGES // BATCH, 20)), f"rows of two trainings: {steps}"
    assert not [path for path in run.rglob("*.tmp") if "wandb" not in path.parts], "a temporary file stays"


def main(rounds: int = 20, seed: int = 0) -> None:
    chance, found = random.Random(seed), Counter()
    for number in range(rounds):
        seconds = chance.choice([0.0, LONGEST * chance.random()])
        with tempfile.TemporaryDirectory() as folder:
            result = one_round(Path(folder), seconds)
        found[result] += 1
        print(f"round {number + 1} of {rounds}, {seconds:.2f} s apart: {result}", flush=True)
    print(", ".join(f"{count} x {result}" for result, count in found.items()))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
