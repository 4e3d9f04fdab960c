"""A race: variants of one configuration, trained at an equal budget over the same seeds by `cgan train`."""

import csv
import difflib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, NotRequired, TypedDict, cast

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cgan.config import RunConfig, explain, load_config
from cgan.files import write_json
from cgan.interfaces import Report, UserError, silent
from cgan.workers import num_cores

OWN_KEYS = ("seed", "run_dir", "trainer.wandb")  # what the race itself sets in every run
WandbMode = Literal["auto", "online", "offline", "disabled"]
MOST_LETTERS = 64  # of a tag in W&B
NOT_MEASURES = (
    "epoch", "step", "images_", "loss/", "gradient_norm/", "learning_rate/", "data_wait", "evaluation_", "training_",
    "health/", "skipped_",
)  # fmt: skip


@dataclass
class Race:
    """The content of a race file."""

    config: str = MISSING  # the YAML file that all variants start from
    variants: dict[str, list[str]] = MISSING  # what each sets, after the settings
    settings: list[str] = field(default_factory=list)  # key=value of all variants
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    baseline: str | None = None  # the first variant when absent
    measures: list[str] | None = None  # all that are common when absent

    def arguments(self, variant: str) -> list[str]:
        """Returns the arguments of cgan train for a variant, without those for the seed and the folder."""
        return [self.config, *self.settings, *self.variants[variant]]


class Run(NamedTuple):
    """One training of a race."""

    variant: str
    seed: int
    folder: Path
    arguments: list[str]
    config: RunConfig

    @property
    def log(self) -> Path:
        """The file of what the training prints."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def result(self) -> Path:
        """The file of what the training reached, written when it ends well."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def command(self) -> list[str]:
        """The command line that trains the run."""
        return [sys.executable, "-m", "cgan", "train", *self.arguments]


class RunResult(TypedDict):
    """What a run reached: the content of its .json file and of an element of results.json."""

    variant: str
    seed: int
    seconds: float
    images_seen: NotRequired[int]
    measures: dict[str, float]  # the last value of each metric
    curve: NotRequired[list[dict[str, float]]]  # metrics with images_seen and minutes, of a GAN
    config: dict  # all settings


def read_race(path: Path, settings: list[str]) -> Race:
    """Returns the race of a file, with more settings for all variants; raises UserError for a mistake."""
    if not path.is_file():
        raise UserError(f"{path}: no such race file; configs/race/joint-scenes.yaml is one to start from")
    schema = OmegaConf.structured(Race)
    try:
        race = cast(Race, OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(path))))
    except (OmegaConfBaseException, TypeError, OSError, yaml.YAMLError) as error:
        raise UserError(explain(str(path), error, schema)) from None
    race.settings += settings
    if not race.variants:
        raise UserError(f"{path}: variants: there are none; name at least one, such as 'default: []'")
    if not race.seeds or len(set(race.seeds)) < len(race.seeds):
        raise UserError(f"{path}: seeds: {race.seeds}: give different numbers, at least one")
    race.baseline = race.baseline if race.baseline is not None else next(iter(race.variants))
    if race.baseline not in race.variants:
        raise UserError(f"{path}: baseline: no variant is '{race.baseline}'. {nearest(race.baseline, race.variants)}")
    return race


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a hint for a wrong name: the known one that is most like it, or all of them."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.3)
    return f"Did you mean: '{near[0]}'?" if near else f"Known here: {', '.join(known)}"


def runs_of(race: Race, out: Path, wandb: WandbMode = "disabled") -> list[Run]:
    """Returns all trainings, seed by seed, so that an interrupted race has complete pairs; raises UserError.

    wandb is trainer.wandb of each.
    """
    check_settings(race)
    runs = [run_of(race, out, variant, seed, wandb) for seed in race.seeds for variant in race.variants]
    if len({run.folder for run in runs}) < len(runs):
        raise UserError("variants: two names give the same file name; let them differ in letters or digits")
    if len({run.config.task for run in runs}) > 1:
        raise UserError("variants: some are of task=gan and some of task=joint; they have no measures in common")
    if any(run.config.task == "joint" and run.config.data.test_images == 0 for run in runs):
        raise UserError("data.test_images=0: joint encoders are evaluated on images kept out; add data.test_images=200")
    return runs


def check_settings(race: Race) -> None:
    """Raise UserError where a race file sets what the race itself sets in every run."""
    for setting in (setting for variant in race.variants for setting in race.arguments(variant)):
        if setting.partition("=")[0] in OWN_KEYS:
            raise UserError(f"{setting}: the race sets it for every run; seeds stand under seeds: in the race file")


def run_of(race: Race, out: Path, variant: str, seed: int, wandb: WandbMode = "disabled") -> Run:
    """Returns the training of a variant with a seed; raises UserError for a mistake in the variant's settings."""
    name = re.sub(r"[^\w.]+", "-", variant).strip("-")
    folder = out / f"{name}-{seed}"
    arguments = [*race.arguments(variant), f"seed={seed}", f"run_dir={folder}", f"trainer.wandb={wandb}"]
    try:
        return Run(variant, seed, folder, arguments, load_config(arguments))
    except UserError as error:
        raise UserError(f"variant '{variant}': {error}") from None


def prepare_data(runs: list[Run], report: Report = silent) -> None:
    """Prepare all images before the first run, so that no run shares the processor with it."""
    from cgan.data.sources import build_dataset

    for config in {json.dumps(asdict(run.config.data)): run.config.data for run in runs}.values():
        report("preparing the images (cached for later runs)")
        build_dataset(config)
        if config.test_images > 0:
            build_dataset(config, "test")


def with_precision(race: Race, runs: list[Run]) -> Race:
    """Returns a race in which trainer.precision=auto is replaced by one precision for all runs."""
    from cgan.auto_precision import chosen_precision

    if all(run.config.trainer.precision != "auto" for run in runs):
        return race
    earlier = [json.loads(run.result.read_text()) for run in runs if run.result.is_file()]
    chosen = earlier[0]["config"]["trainer"]["precision"] if earlier else chosen_precision("auto")
    race.settings.append(f"trainer.precision={chosen}")
    return race


# ---------------------------------------------------------------------------------------------- training


def train_all(runs: list[Run], jobs: int, report: Report = silent) -> list[Run]:
    """Trains the runs without a result, `jobs` at a time, each in its own process; returns the runs that failed."""
    waiting, running, failed = [run for run in runs if finished(run) is None], {}, []
    if len(waiting) < len(runs):
        report(f"{len(runs) - len(waiting)} of {len(runs)} runs were finished before")
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                running[run.folder] = run, start_training(run, jobs), time.monotonic()
            for run, process, start in list(running.values()):
                if process.poll() is not None:
                    del running[run.folder]
                    if not keep_result(run, process.returncode, time.monotonic() - start, report):
                        failed.append(run)
            time.sleep(0.1)
    finally:
        for _, process, _ in running.values():
            process.terminate()
            process.wait()
    return failed


def start_training(run: Run, jobs: int) -> subprocess.Popen:
    """Returns the process that trains a run, and writes what it prints into the run's log."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with run.log.open("w") as log:
        variables = environment(jobs) | wandb_variables(run)
        return subprocess.Popen(run.command, stdout=log, stderr=subprocess.STDOUT, env=variables)


def environment(jobs: int) -> dict[str, str]:
    """Returns environment variables that give each run its share of the cores, unless OMP_NUM_THREADS is set."""
    return {"OMP_NUM_THREADS": str(max(1, num_cores() // jobs)), **os.environ}


def wandb_variables(run: Run) -> dict[str, str]:
    """Returns W&B's variables for a run: its race as the group, its variant and seed as tags; the user's own stay."""
    tags = [os.environ.get("WANDB_TAGS", ""), run.variant[:MOST_LETTERS].replace(",", " "), f"seed {run.seed}"]
    group = {"WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP") or run.folder.absolute().parent.name}
    return group | {"WANDB_TAGS": ",".join(tag for tag in tags if tag)}


def keep_result(run: Run, status: int, seconds: float, report: Report) -> bool:
    """Keep the result of a run that went well, and report in one line how it went; returns whether it went well."""
    try:
        if status != 0:
            raise ValueError(f"exit status {status}: {last_line(run.log)}")
        result = {
            "variant": run.variant,
            "seed": run.seed,
            "seconds": round(seconds, 1),
            **RESULTS[run.config.task](run),
        }
    except (ValueError, OSError) as error:
        report(f"failed: {run.folder.name}: {error}; its output is in {run.log}")
        return False
    write_json(run.result, result | {"config": asdict(run.config)})
    report(f"{run.folder.name}: trained and evaluated in {seconds / 60:.1f} minutes")
    return True


def last_line(log: Path) -> str:
    """Returns the last line that a run printed, at most 200 characters of it."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "it printed nothing"


def finished(run: Run) -> RunResult | None:
    """Returns the result of a run that ended well before; raises UserError when it had other settings."""
    if not run.result.is_file():
        return None
    result, asked = json.loads(run.result.read_text()), flat(json.loads(json.dumps(asdict(run.config))))
    other = [key for key, value in flat(result["config"]).items() if key in asked and asked[key] != value]
    if set(other) - {"run_dir", "trainer.wandb"}:
        raise UserError(f"{run.result}: trained with another {', '.join(other)}; give another --out, or delete it")
    return result


def flat(settings: dict, prefix: str = "") -> dict:
    """Returns nested settings by their dotted keys."""
    pairs = {}
    for key, value in settings.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return pairs


# ---------------------------------------------------------------------------------------------- results


def joint_result(run: Run) -> dict:
    """Returns the metrics that train.py wrote at the end."""
    measures = json.loads((run.folder / "retrieval.json").read_text())
    measures.pop("test_images")
    progress = json.loads((run.folder / "progress.json").read_text())
    return {"images_seen": progress["joint"]["images_seen"], "measures": measures}


def gan_result(run: Run) -> dict:
    """Returns the last value of every metric in metrics.csv, and all values over images seen and minutes."""
    last, curve, seen = {}, [], 0
    for row in metrics_of(run):
        values = {name: float(value) for name, value in row.items() if value}
        seen = max(seen, int(values.get("images_seen", 0)))
        measures = {n: v for n, v in values.items() if not n.startswith(NOT_MEASURES)}
        if measures and "images_seen" in values:
            minutes = {"minutes": values["training_minutes"]} if "training_minutes" in values else {}
            curve.append({"images_seen": int(values["images_seen"]), **minutes, **measures})
        last |= measures
    if not last:
        raise ValueError(f"no measures in {run.folder / 'metrics.csv'}")
    return {"images_seen": seen, "measures": last, "curve": curve}


RESULTS: dict[str, Callable[[Run], dict]] = {"joint": joint_result, "gan": gan_result}


def metrics_of(run: Run) -> list[dict[str, str]]:
    """Returns the rows of metrics.csv."""
    with (run.folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
