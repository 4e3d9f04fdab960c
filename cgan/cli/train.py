"""cgan train, or python train.py in a checkout: trains a joint encoder and a GAN from a configuration."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cgan.cli.parsing import warn
from cgan.errors import FirstProcessReports, UserError
from cgan.resources import DEFAULT_CONFIG

if TYPE_CHECKING:
    from cgan.config import RunConfig
    from cgan.training.run import TrainResult

USAGE = """usage: cgan train [CONFIG.yaml ...] [key=value ...]
       cgan train --resume RUN_DIR [trainer.key=value ...]
       cgan train --help-config [SECTION]
       cgan train --print-config [CONFIG.yaml ...] [key=value ...]
In a checkout, python train.py is the same as cgan train.

Trains a text-to-image GAN; without arguments on the built-in scenes. Writes checkpoints, sample grids and
metrics.csv into a run directory under runs/.

  cgan train
  cgan train trainer.minutes=60 gan.generator.width=24
  cgan train configs/gan/folder.yaml data.root=PICTURES
  cgan train configs/gan/coco.yaml data.root=train2017 data.annotations=captions_train2017.json
  cgan train configs/joint/scenes.yaml
  cgan train --resume runs/scenes-20261124-120000 trainer.images=500000
  cgan train resume=auto

--resume goes on exactly where a run stopped, by its own settings; resume=auto does so with run_dir's or the newest
run of the same name if it is unfinished, and begins one otherwise. One training at a time writes into a directory;
training again into one first moves what is there to earlier-1, earlier-2 and so on. SIGTERM and SIGUSR1 end a run
with a checkpoint and status 75, Ctrl-C with status 130.

CGAN_DEBUG=1 in the environment shows the traceback behind a one-line error.

--help-config lists every key with its type, default and meaning; with a section such as gan.generator, or one key,
those alone. --print-config prints the configuration that the arguments give, as YAML, and trains nothing.
"""

HELP_CONFIG, PRINT_CONFIG = "--help-config", "--print-config"


def main(arguments: list[str]) -> None:
    """Train by the configuration that arguments give, or explain it; raises UserError for a mistake in them."""
    if not {"-h", "--help", HELP_CONFIG, PRINT_CONFIG} & set(arguments):
        train_by(with_default_config(with_resume_as_key(arguments)))
    elif {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
    elif HELP_CONFIG in arguments:
        print_reference(section_in(arguments))
    else:
        print_config([argument for argument in arguments if argument != PRINT_CONFIG])


def train_by(arguments: list[str]) -> None:
    """Train by the configuration of files and key=value pairs, print the result, and exit with the run's status."""
    from cgan.cli.signals import leave_when_asked

    leave_when_asked()
    from cgan.config import load_config

    config = load_config(arguments, report)
    from rich.console import Console

    from cgan.training.processes import is_first_process
    from cgan.training.run import train

    try:
        result = train(config, report=report, console=Console(), handle_signals=True)
    except FirstProcessReports:
        sys.exit(0)
    if is_first_process() and result.images_seen > 0 and result.status != "stopped":
        print_result(result, config)
    if result.exit_status:  # Lightning kills the first process when another one's status is not 0
        sys.exit(result.exit_status if is_first_process() else 0)


def with_resume_as_key(arguments: list[str]) -> list[str]:
    """Returns the arguments with --resume RUN_DIR as resume=RUN_DIR; raises UserError where RUN_DIR is missing."""
    if "--resume" not in arguments:
        return arguments
    place = arguments.index("--resume")
    if place + 1 == len(arguments):
        raise UserError("--resume: give a run directory, or auto")
    return [*arguments[:place], f"resume={arguments[place + 1]}", *arguments[place + 2 :]]


def with_default_config(arguments: list[str]) -> list[str]:
    """Returns the arguments, after the default configuration where they name none and no run to resume."""
    has_file = any(argument.endswith((".yaml", ".yml")) and "=" not in argument for argument in arguments)
    resumes = any(argument.startswith("resume=") and argument != "resume=auto" for argument in arguments)
    return arguments if has_file or resumes else [str(DEFAULT_CONFIG), *arguments]


def section_in(arguments: list[str]) -> str:
    """Returns the section behind --help-config, empty where there is none; raises UserError for other arguments."""
    others = [argument for argument in arguments if argument != HELP_CONFIG]
    if len(others) > 1 or any("=" in each or each.endswith((".yaml", ".yml")) for each in others):
        raise UserError(f"{HELP_CONFIG}: takes one section or key, such as gan.generator, and nothing else")
    return others[0] if others else ""


def print_reference(section: str) -> None:
    """Print a table of keys for each section; raises UserError for a section that does not exist."""
    from itertools import groupby

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cgan.config_reference import HEADER, config_rows

    console = Console()
    if not console.is_terminal:  # in a file a key stands on one line
        console = Console(width=200)
    for prefix, rows in groupby(config_rows(section), key=lambda row: row.key.rpartition(".")[0]):
        table = Table(title=Text(f"{prefix}.*" if prefix else "top level"), title_justify="left")
        for title in HEADER:
            table.add_column(title, overflow="fold")
        for row in rows:
            name, *cells = row.cells()
            table.add_row(Text(name.removeprefix(f"{prefix}.")), *map(Text, cells))
        console.print(table)


def print_config(arguments: list[str]) -> None:
    """Print the configuration that arguments give, as YAML; raises UserError for a mistake in them."""
    from cgan.config import resolve_config
    from cgan.config_reference import config_yaml

    resolved = resolve_config(with_default_config(with_resume_as_key(arguments)), warn)
    print(config_yaml(resolved), end="")


def report(message: str) -> None:
    """Print a message at once, also into a file or pipe."""
    print(message, flush=True)


def print_result(result: TrainResult, config: RunConfig) -> None:
    """Print what came of a training as a table, and the next command to type."""
    from rich.console import Console
    from rich.table import Table

    run_dir, table = result.run_dir, Table("", "", show_header=False)
    table.add_row("time" if result.status == "finished" else "stopped after", f"{result.seconds / 60:.1f} min")
    table.add_row("images seen", f"{result.images_seen:,}")
    for name, value in result.metrics.items():
        table.add_row(name, f"{value:.3f}")
    files = ["last.ckpt", "best.ckpt", "retrieval.json", "samples/", "metrics.csv", "config.yaml", "joint.safetensors"]
    table.add_row(f"in {run_dir}", " ".join(name for name in files if (run_dir / name).exists()))
    Console().print(table)
    if config.task == "joint":
        print(f'next: cgan retrieve "YOUR WORDS" --images PICTURES --checkpoint {result.checkpoint}')
        print(f"or:   cgan train joint.checkpoint={result.checkpoint}")
        return
    of_scenes = {"en": "a dog on grass", "zh": "一只狗在草地上"}[config.data.language]
    caption = of_scenes if config.data.source == "scenes" else "YOUR WORDS"
    print(f'next: cgan sample "{caption}" --checkpoint {result.checkpoint}')
    print(f"curves: cgan plot {run_dir}")
