"""cgan benchmark: comparisons that run for a while and end in a table."""

import argparse
import shlex
from pathlib import Path

from cgan.cli.parsing import Parser, ParserOf, add_subcommands
from cgan.cli.unused import refuse_unused
from cgan.errors import UserError
from cgan.files import check_writable, check_writable_file, write_json

SUBJECTS = {
    "quality": "train variants of a configuration at an equal budget over several seeds",
    "guidance": "measure what truncation, best of several and negative captions win and cost",
    "speed": "measure what a configuration's training and drawing take here, or plan larger ones",
}


def main(arguments: list[str]) -> None:
    """Run one benchmark; raises UserError for a mistake in its arguments."""
    subject = subject_parser().parse_args(arguments[:1] or ["--help"]).subject
    make_parser, command = COMMANDS[subject]
    command(make_parser().parse_intermixed_args(arguments[1:]))


def subject_parser(parser_of: ParserOf | None = None) -> Parser:
    result = Parser(prog="cgan benchmark", usage="cgan benchmark SUBJECT ...")
    add_subcommands(result, "subject", SUBJECTS, parser_of)
    return result


def parser() -> argparse.ArgumentParser:
    """With the arguments of every subject."""
    return subject_parser(lambda subject: COMMANDS[subject][0]())


def quality_parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="cgan benchmark quality",
        description="Train the variants that a race file names, each with several seeds; a race that was interrupted "
        "goes on with the same command.",
    )
    result.add_argument("race", type=Path, help="for instance configs/race/joint-scenes.yaml")
    result.add_argument("settings", nargs="*", metavar="key=value", help="of every variant")
    result.add_argument("--out", type=Path, metavar="DIR", help="default: runs/race-<name of the race file>")
    result.add_argument("--jobs", type=int, default=1, help="trainings at a time; they share the processor's cores")
    result.add_argument("--plan", action="store_true", help="say what would be run and for how long, and stop")
    return result


def quality(options: argparse.Namespace) -> None:
    """Train what has no result yet, then write and print the table; raises UserError when a run failed."""
    if options.jobs < 1:
        raise UserError(f"--jobs={options.jobs}: must be at least 1")
    from cgan.benchmarks.race import finished, prepare_data, read_race, runs_of, train_all, with_precision

    out = options.out or Path(f"runs/race-{options.race.stem}")
    race = read_race(options.race, options.settings)
    runs = runs_of(race, out)
    if options.plan:
        print(plan(runs, options.jobs))
        return
    check_writable(out, "give another --out")
    runs = runs_of(with_precision(race, runs), out)
    if None in [finished(run) for run in runs]:
        prepare_data(runs)
    try:
        failed = train_all(runs, options.jobs)
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the runs that are missing")
        raise SystemExit(130) from None
    report(race, [finished(run) for run in runs if run not in failed], failed, options.jobs, out)


def report(race, results: list[dict], failed: list, jobs: int, out: Path) -> None:
    """All that can be told of the runs that ended well; then what is missing, as a UserError."""
    from cgan.benchmarks.race import nearest
    from cgan.benchmarks.race_report import write_report

    known = write_report(race, results, jobs, out) if results else []
    if failed:
        names = ", ".join(run.folder.name for run in failed)
        raise UserError(
            f"{len(failed)} of {len(failed) + len(results)} runs failed: {names}; see the .log files in {out}"
        )
    for measure in race.measures or []:
        if measure not in known:
            raise UserError(f"measures: no run reports '{measure}'. {nearest(measure, known)}")


def plan(runs: list, jobs: int) -> str:
    """A line for each run, and what they take together."""
    lines = [f"{'finished' if run.result.is_file() else 'to train'}  {shlex.join(run.command[1:])}" for run in runs]
    left = [minutes_of(run.config) for run in runs if not run.result.is_file()]
    if None in left:
        return "\n".join([*lines, f"{len(left)} runs to train, not limited in time"])
    total = f"{sum(left) / jobs:.1f} minutes of training with --jobs {jobs}, and a while for judging"
    return "\n".join([*lines, f"{len(left)} runs to train: {total}"])


def minutes_of(config) -> float | None:
    """The most that a training takes; None when no limit is set."""
    joint = 0.0 if config.task == "gan" and config.joint.checkpoint is not None else config.trainer.joint_minutes
    gan = config.trainer.minutes if config.task == "gan" else 0.0
    return None if joint is None or gan is None else joint + gan


def guidance_parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="cgan benchmark guidance", description="Curves of accuracy against diversity, on scenes of one object."
    )
    result.add_argument("checkpoint", type=Path, help="a .ckpt or .safetensors file")
    result.add_argument("--joint", type=Path, help="joint encoder that chooses the best; default: starter weights")
    result.add_argument("--num-images", type=int, default=1000, help="captions; an eighth as many for diversity")
    result.add_argument("--seed", type=int, default=1234)
    result.add_argument("--out", type=Path, default=Path("runs/guidance"), metavar="DIR")
    return result


def guidance(options: argparse.Namespace) -> None:
    from cgan.benchmarks.guidance import measure_guidance

    measure_guidance(options)


def speed_parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="cgan benchmark speed",
        description="Measure a GAN's training step, its parts, its memory and its drawing on this machine. Pictures "
        "and captions are made up, so no data set is needed.",
    )
    result.add_argument("settings", nargs="*", metavar="CONFIG.yaml|key=value", help="default: configs/gan/scenes.yaml")
    result.add_argument("--steps", type=int, default=60, metavar="N", help="of training, beside as many by a bare loop")
    result.add_argument("--json", type=Path, metavar="FILE", help="all numbers, versions and settings")
    growing = "how pace, operations and memory change with these"
    result.add_argument("--grow", nargs="+", default=[], choices=["resolution", "width", "batch"], help=growing)
    different = "compare with these settings on top instead, in turns"
    result.add_argument("--against", nargs="+", metavar="CONFIG.yaml|key=value", help=different)
    result.add_argument("--plan", action="store_true", help="a table of larger sizes instead, mostly predicted")
    result.add_argument("--gpus", type=int, default=1, metavar="N", help="of the plan, with --tflops")
    result.add_argument("--tflops", type=float, metavar="T", help="that each of the plan's GPUs sustains")
    return result


def speed(options: argparse.Namespace) -> None:
    """Measure, and print tables; raises UserError for a mistake."""
    for name in ("steps", "gpus", "tflops"):
        if getattr(options, name) is not None and getattr(options, name) <= 0:
            raise UserError(f"--{name} {getattr(options, name)}: must be above 0")
    check_together(options)
    if options.json is not None and not options.json.parent.is_dir():
        raise UserError(f"--json {options.json}: there is no folder {options.json.parent}")
    if options.json is not None:
        check_writable_file(options.json, "give another --json")
    from cgan.config import load_config
    from cgan.resources import DEFAULT_CONFIG

    given = any(setting.endswith((".yaml", ".yml")) and "=" not in setting for setting in options.settings)
    settings = options.settings if given else [str(DEFAULT_CONFIG), *options.settings]
    from cgan.benchmarks.speed import prepared

    config = prepared(load_config(settings))
    if options.plan:
        plan_speed(config, options)
    elif options.against:
        compare_speed(config, prepared(load_config([*settings, *options.against])), options)
    else:
        measure_speed(config, options)


def check_together(options: argparse.Namespace) -> None:
    """Raise UserError for options that do not go together."""
    if options.plan:
        refuse_unused(options, speed_parser(), ("against", "grow"), "with --plan")
        if options.gpus > 1 and options.tflops is None:
            raise UserError("--gpus: say with --tflops what one of them sustains, for instance --tflops 100")
        return
    refuse_unused(options, speed_parser(), ("gpus", "tflops"), "without --plan")
    if options.against:
        refuse_unused(options, speed_parser(), ("grow",), "with --against")


def compare_speed(config, other, options: argparse.Namespace) -> None:
    from cgan.benchmarks.speed import circumstances, side_by_side
    from cgan.benchmarks.speed_report import print_comparison

    report = circumstances(config) | {"against": options.against} | side_by_side(config, other, options.steps)
    print_comparison(report)
    if options.json is not None:
        write_json(options.json, report)


def measure_speed(config, options: argparse.Namespace) -> None:
    from cgan.benchmarks.sizing import grown
    from cgan.benchmarks.speed import circumstances, measured
    from cgan.benchmarks.speed_report import print_report

    report = circumstances(config) | measured(config, options.steps)
    if options.grow:
        report["grow"] = {what: grown(config, what, min(options.steps, 10)) for what in options.grow}
    print_report(report)
    if options.json is not None:
        write_json(options.json, report)


def plan_speed(config, options: argparse.Namespace) -> None:
    from cgan.benchmarks.sizing import plan as plan_of_sizes
    from cgan.benchmarks.speed import circumstances
    from cgan.benchmarks.speed_report import print_plan

    found, around = plan_of_sizes(config, min(options.steps, 10)), circumstances(config)
    print_plan(found, around["device"], options.gpus, options.tflops)
    if options.json is not None:
        rows = [row._asdict() for row in found.rows]
        stated = {"gpus": options.gpus, "tflops": options.tflops}
        write_json(options.json, around | found._asdict() | {"rows": rows} | stated)


COMMANDS = {
    "quality": (quality_parser, quality),
    "guidance": (guidance_parser, guidance),
    "speed": (speed_parser, speed),
}
