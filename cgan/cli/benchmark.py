"""cgan benchmark: trains and compares variants, or measures speed, and prints a table."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from cgan.cli.option_checks import refuse_unused
from cgan.cli.parsing import Parser, ParserOf, add_subcommands
from cgan.cli.tables import print_parts, print_table
from cgan.errors import UserError
from cgan.files import check_writable, check_writable_file, write_json

if TYPE_CHECKING:
    from cgan.benchmarks.race import Run
    from cgan.config import RunConfig

SUBJECTS = {
    "quality": "train variants of a configuration at an equal budget over several seeds",
    "guidance": "measure what truncation, best of several and negative captions gain and cost",
    "edits": "measure what captions change in pictures of scenes, and what they keep",
    "speed": "measure what a configuration's training and sampling take here, or plan larger ones",
    "leaderboard": "list the minutes of training until runs drew scenes right",
}


def main(arguments: list[str]) -> None:
    """Run one benchmark; raises UserError for a mistake in its arguments."""
    subject = subject_parser().parse_args(arguments[:1] or ["--help"]).subject
    make_parser, command = COMMANDS[subject]
    command(make_parser().parse_intermixed_args(arguments[1:]))


def subject_parser(parser_of: ParserOf | None = None) -> Parser:
    """Returns the parser of the benchmark's name; with parser_of, of all that follows it as well."""
    result = Parser(prog="cgan benchmark", usage="cgan benchmark SUBJECT ...")
    add_subcommands(result, "subject", SUBJECTS, parser_of)
    return result


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan benchmark` with the arguments of every subject."""
    return subject_parser(lambda subject: COMMANDS[subject][0]())


def quality_parser() -> argparse.ArgumentParser:
    """Returns the parser of cgan benchmark quality."""
    result = Parser(
        prog="cgan benchmark quality",
        description="Train the variants that a race file names, each with several seeds; an interrupted race "
        "goes on with the same command.",
    )
    result.add_argument("race", type=Path, help="for instance configs/race/joint-scenes.yaml")
    result.add_argument("settings", nargs="*", metavar="key=value", help="settings of every variant")
    result.add_argument("--out", type=Path, metavar="DIR", help="default: runs/race-<name of the race file>")
    result.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the CPU cores")
    result.add_argument("--plan", action="store_true", help="print what would be run and for how long, and stop")
    modes = ("auto", "online", "offline", "disabled")
    result.add_argument("--wandb", choices=modes, default="disabled", help="log the runs to W&B, as a group")
    return result


def quality(options: argparse.Namespace) -> None:
    """Train what has no result yet, then write and print the table; raises UserError when a run failed."""
    if options.jobs < 1:
        raise UserError(f"--jobs={options.jobs}: must be at least 1")
    from cgan.benchmarks.race import read_race, runs_of
    from cgan.benchmarks.race_run import check_result, run_race

    out = options.out or Path(f"runs/race-{options.race.stem}")
    race = read_race(options.race, options.settings)
    if options.plan:
        print(plan(runs_of(race, out, options.wandb), options.jobs))
        return
    try:
        result = run_race(race, out, options.jobs, report, options.wandb)
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the runs that are missing")
        raise SystemExit(130) from None
    if result.table is not None:
        print_table(result.table)
        print_files(out, "results.json", "table.md", "curves.png")
    check_result(race, result)


def report(line: str) -> None:
    """Print a message at once, also into a file or pipe."""
    print(line, flush=True)


def print_files(folder: Path, *names: str) -> None:
    """Print the names of those files that exist in a folder."""
    print(f"in {folder}: {' '.join(name for name in names if (folder / name).is_file())}")


def plan(runs: "list[Run]", jobs: int) -> str:
    """Returns a line for each run, and one with the minutes of all runs to train."""
    from cgan.benchmarks.race_run import minutes_of

    lines = [f"{'finished' if run.result.is_file() else 'to train'}  {shlex.join(run.command[1:])}" for run in runs]
    left = [minutes_of(run.config) for run in runs if not run.result.is_file()]
    minutes = [each for each in left if each is not None]
    if len(minutes) < len(left):
        return "\n".join([*lines, f"{len(left)} runs to train, not limited in time"])
    total = f"{sum(minutes) / jobs:.1f} minutes of training with --jobs {jobs}, and a while for the evaluations"
    return "\n".join([*lines, f"{len(left)} runs to train: {total}"])


def guidance_parser() -> argparse.ArgumentParser:
    """Returns the parser of cgan benchmark guidance."""
    result = Parser(
        prog="cgan benchmark guidance", description="Curves of accuracy against diversity, on scenes of one object."
    )
    result.add_argument("checkpoint", type=Path, help="a .ckpt or .safetensors file")
    result.add_argument("--joint", type=Path, help="joint encoder that chooses the best; default: starter weights")
    result.add_argument("--num-images", type=int, default=1000, help="captions; an eighth of them for diversity")
    result.add_argument("--seed", type=int, default=1234)
    result.add_argument("--out", type=Path, default=Path("runs/guidance"), metavar="DIR")
    return result


def guidance(options: argparse.Namespace) -> None:
    """Measure all techniques, then write and print the table."""
    from cgan.benchmarks.guidance import measure_guidance, write_guidance

    check_writable(options.out, "give another --out")
    settings = {"num_images": options.num_images, "seed": options.seed}
    points = measure_guidance(options.checkpoint, joint=options.joint, **settings, report=report)
    print_table(write_guidance(points, {"checkpoint": str(options.checkpoint), **settings}, options.out))
    print_files(options.out, "guidance.json", "table.md", "guidance.png")


def edits_parser() -> argparse.ArgumentParser:
    """Returns the parser of cgan benchmark edits."""
    result = Parser(
        prog="cgan benchmark edits",
        description="Change one attribute of held-out scenes by a caption, and let the scene classifier judge it.",
    )
    result.add_argument("checkpoint", type=Path, help="a .ckpt or .safetensors file")
    result.add_argument("--posterior", type=Path, metavar="FILE", help="a fitted posterior; default: the checkpoint's")
    result.add_argument("--num-images", type=int, default=500, help="scenes; each is edited in five attributes")
    result.add_argument("--keep", type=float, default=1.0, metavar="0..1", help="how much of a picture stays")
    result.add_argument("--seed", type=int, default=1234)
    result.add_argument("--out", type=Path, default=Path("runs/edits"), metavar="DIR")
    return result


def edits(options: argparse.Namespace) -> None:
    """Measure edits, then write and print the table."""
    from cgan.benchmarks.edits import measure_edits, write_edits
    from cgan.sampling.weights import find

    check_writable(options.out, "give another --out")
    settings = {"keep": options.keep, "seed": options.seed}
    more = {"posterior": options.posterior, "num_scenes": options.num_images}
    pipe, found = measure_edits(find(options.checkpoint), **more, **settings, report=report)
    print_table(write_edits(pipe, found, {"checkpoint": str(options.checkpoint), **settings}, options.out))
    print_files(options.out, "edits.json", "table.md", "edits.png")


def speed_parser() -> argparse.ArgumentParser:
    """Returns the parser of cgan benchmark speed."""
    result = Parser(
        prog="cgan benchmark speed",
        description="Measure a GAN's training step, its parts, its memory and its sampling on this machine. Images "
        "and captions are made up, so no data set is needed.",
    )
    result.add_argument("settings", nargs="*", metavar="CONFIG.yaml|key=value", help="default: configs/gan/scenes.yaml")
    result.add_argument("--steps", type=int, default=60, metavar="N", help="steps, plus as many of a bare loop")
    result.add_argument("--json", type=Path, metavar="FILE", help="all numbers, versions and settings")
    growing = "how speed, operations and memory change with these"
    result.add_argument("--grow", nargs="+", default=[], choices=["resolution", "width", "batch"], help=growing)
    different = "compare with these settings on top, alternating; each is compiled as its trainer.compile says"
    result.add_argument("--against", nargs="+", metavar="CONFIG.yaml|key=value", help=different)
    result.add_argument("--plan", action="store_true", help="a table of larger sizes instead, mostly predicted")
    result.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs of the plan, with --tflops")
    result.add_argument("--tflops", type=float, metavar="T", help="TFLOP/s that each of the plan's GPUs sustains")
    return result


def speed(options: argparse.Namespace) -> None:
    """Measure speed and print tables; raises UserError for a mistake in the arguments."""
    for name in ("steps", "gpus", "tflops"):
        if getattr(options, name) is not None and getattr(options, name) <= 0:
            raise UserError(f"--{name} {getattr(options, name)}: must be above 0")
    check_together(options)
    if options.json is not None and not options.json.parent.is_dir():
        raise UserError(f"--json {options.json}: there is no folder {options.json.parent}")
    if options.json is not None:
        check_writable_file(options.json, "give another --json")
    from cgan.benchmarks.speed import prepared
    from cgan.config import load_config
    from cgan.resources import DEFAULT_CONFIG

    given = any(setting.endswith((".yaml", ".yml")) and "=" not in setting for setting in options.settings)
    settings = options.settings if given else [str(DEFAULT_CONFIG), *options.settings]
    config = prepared(load_config(settings))
    if options.plan:
        found, parts = plan_speed(config, options)
    elif options.against:
        found, parts = compare(config, prepared(load_config([*settings, *options.against])), options)
    else:
        found, parts = measure(config, options)
    print_parts(parts)
    if options.json is not None:
        write_json(options.json, found)


def check_together(options: argparse.Namespace) -> None:
    """Raise UserError for options that do not go together."""
    if options.plan:
        refuse_unused(options, speed_parser(), ("against", "grow"), "with --plan")
        if options.gpus > 1 and options.tflops is None:
            raise UserError("--gpus: needs --tflops, the speed that one GPU sustains, for instance --tflops 100")
        return
    refuse_unused(options, speed_parser(), ("gpus", "tflops"), "without --plan")
    if options.against:
        refuse_unused(options, speed_parser(), ("grow",), "with --against")


def compare(config: "RunConfig", other: "RunConfig", options: argparse.Namespace) -> tuple[dict, list]:
    """Measure two configurations in turns; returns the content of --json and the parts to print."""
    from cgan.benchmarks.speed import compare_speed
    from cgan.benchmarks.speed_report import comparison_parts

    found = compare_speed(config, other, options.steps)
    return found | {"against": options.against}, comparison_parts(found, options.against)


def measure(config: "RunConfig", options: argparse.Namespace) -> tuple[dict, list]:
    """Measure one configuration, with --grow also other sizes; returns the content of --json and the parts to print."""
    from cgan.benchmarks.sizing import measure_sizes
    from cgan.benchmarks.speed import measure_speed
    from cgan.benchmarks.speed_report import speed_parts

    found = measure_speed(config, options.steps, report)
    if options.grow:
        found["grow"] = {what: measure_sizes(config, what, min(options.steps, 10)) for what in options.grow}
    return found, speed_parts(found)


def plan_speed(config: "RunConfig", options: argparse.Namespace) -> tuple[dict, list]:
    """Predict the speed of larger sizes; returns the content of --json and the parts to print."""
    from cgan.benchmarks.sizing import plan_sizes
    from cgan.benchmarks.speed import circumstances
    from cgan.benchmarks.speed_report import plan_parts

    sizes, around = plan_sizes(config, min(options.steps, 10)), circumstances(config)
    stated = {"gpus": options.gpus, "tflops": options.tflops}
    found = around | sizes._asdict() | {"rows": [row._asdict() for row in sizes.rows]} | stated
    return found, plan_parts(sizes, around["device"], options.gpus, options.tflops)


def leaderboard_parser() -> argparse.ArgumentParser:
    """Returns the parser of cgan benchmark leaderboard."""
    result = Parser(
        prog="cgan benchmark leaderboard",
        description="List the minutes of training until runs on scenes reached scene_accuracy 0.5, 0.8, 0.9 and 0.95, "
        "with commit, machine and command.",
    )
    result.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories")
    result.add_argument("--out", type=Path, metavar="FILE.md", help="a page whose table is updated")
    return result


def print_leaderboard(options: argparse.Namespace) -> None:
    """Print the leaderboard of runs, and update a page if asked; raises UserError for a run that can't be taken."""
    from cgan.benchmarks.leaderboard import leaderboard, update_page

    if options.out is not None:
        check_writable_file(options.out, "give another --out")
    print_table(leaderboard(options.runs) if options.out is None else update_page(options.out, options.runs))


COMMANDS = {
    "quality": (quality_parser, quality),
    "guidance": (guidance_parser, guidance),
    "edits": (edits_parser, edits),
    "speed": (speed_parser, speed),
    "leaderboard": (leaderboard_parser, print_leaderboard),
}
