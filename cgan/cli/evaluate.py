"""cgan evaluate: how good pictures are, of a checkpoint or of a folder, with the protocol by which that was found."""

import argparse
import json
import time
from pathlib import Path

from cgan.cli.unused import refuse_unused
from cgan.files import check_writable_file, write_json
from cgan.metrics.names import NAMES

EPILOG = """examples:
  cgan evaluate assets/scenes-64.safetensors
  cgan evaluate RUN/last.ckpt --data configs/gan/coco.yaml data.root=val2014 data.annotations=captions_val2014.json
  cgan evaluate RUN/last.ckpt --data data.level=two --anchors
  cgan evaluate --images DRAWN --reference REAL
  cgan evaluate --images DRAWN --data configs/gan/folder.yaml data.root=PICTURES

fid, kid and prdc (precision, recall, density, coverage) look through Inception; where its weights are missing, the
judge of scenes, the joint encoder or CLIP stands in, and the names say so. Without --metrics everything is measured
that can be on this machine; what is asked for by name may be downloaded."""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="cgan evaluate",
        description="Measure a checkpoint, or any folder of pictures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("checkpoint", type=Path, nargs="?", help="a .ckpt or .safetensors file, a run directory, ...")
    result.add_argument("--images", type=Path, metavar="DIR", help="pictures to measure in place of a checkpoint's")
    result.add_argument("--reference", type=Path, metavar="DIR", help="real pictures in place of a data set's")
    result.add_argument("--data", nargs="+", default=[], metavar="X", help="CONFIG.yaml key=value ...; default: scenes")
    result.add_argument(
        "--resolution", type=int, metavar="PX", help="of folders: crop and resize to it; default: as is"
    )
    result.add_argument("--num-images", type=int, help="captions; default: 2000 of each split of scenes, else 5000")
    result.add_argument("--captions", type=Path, metavar="FILE", help="fixed ids of COCO captions, JSON or one a line")
    result.add_argument("--write-captions", type=Path, metavar="FILE", help="draw such ids by the seed, and stop")
    result.add_argument("--metrics", help=f"some of {','.join(NAMES)}; default: what can run here")
    result.add_argument("--inception", type=Path, metavar="FILE", help="Inception's weights, those of torch-fidelity")
    result.add_argument("--resize", choices=("torch-fidelity", "clean"), default="torch-fidelity", help="for Inception")
    result.add_argument("--clip", metavar="NAME", help="CLIP of clip_score, a folder or a name on the hub")
    result.add_argument("--joint", type=Path, help="joint encoder of r_precision; default on scenes: starter weights")
    result.add_argument("--anchors", action="store_true", help="real pictures and nearest training pictures as well")
    result.add_argument("--seed", type=int, default=1234)
    result.add_argument("--truncation", type=float, default=1.0, help="below 1: safer and less varied pictures")
    result.add_argument("--out", type=Path, metavar="FILE", help="write values and protocol as JSON")
    result.add_argument("--json", action="store_true", help="print the values as JSON in place of a table")
    return result


def main(arguments: list[str]) -> None:
    """Measure, and print a table or JSON; raises UserError."""
    options = parser().parse_args(arguments)
    options.arguments = arguments
    check(options)
    if options.write_captions is not None:
        write_captions(options)
        return
    start = time.monotonic()
    report = report_of(options)
    report["protocol"]["seconds"] = round(time.monotonic() - start, 1)
    if options.out is not None:
        write_json(options.out, report)
    if options.json:
        print(json.dumps({name: round(value, 6) for name, value in report["metrics"].items()}, indent=2))
    else:
        print_table(report)


def report_of(options: argparse.Namespace) -> dict:
    """Metrics, anchors and protocol, of scenes of two objects or of any other pictures."""
    from cgan.config import load_config

    data = load_config(options.data).data
    if options.reference is None and data.source == "scenes" and data.level == "two":
        from cgan.evaluation.two_object_report import two_object_report

        return two_object_report(options, asked(options), data)
    from cgan.evaluation.report import EvaluationRun

    return EvaluationRun(options, asked(options)).report()


def check(options: argparse.Namespace) -> None:
    from cgan.interfaces import UserError

    if options.write_captions is None and (options.checkpoint is None) == (options.images is None):
        raise UserError("what shall be measured? give a checkpoint, or --images DIR; `cgan evaluate --help` says more")
    if options.reference is not None and (options.images is None or options.data):
        raise UserError("--reference goes with --images DIR, and without --data; a checkpoint is measured on --data")
    unknown = set(asked(options) or ()) - set(NAMES)
    if unknown:
        raise UserError(f"--metrics: {', '.join(sorted(unknown))} is not one of {', '.join(NAMES)}")
    check_numbers(options)
    check_together(options)
    for path in (options.out, options.write_captions):
        if path is not None:
            check_writable_file(path, "give another place")


def check_numbers(options: argparse.Namespace) -> None:
    """Raise UserError for a number that is out of its range."""
    from cgan.ranges import COUNT, NOT_NEGATIVE, check_number, check_seed

    check_seed(f"--seed={options.seed}", options.seed)
    check_number(f"--truncation={options.truncation}", options.truncation, NOT_NEGATIVE)
    for name in ("resolution", "num_images"):
        if getattr(options, name) is not None:
            check_number(f"--{name.replace('_', '-')}={getattr(options, name)}", getattr(options, name), COUNT)


def check_together(options: argparse.Namespace) -> None:
    """Raise UserError for options that others make idle."""
    if options.write_captions is not None:
        used = {"help", "write_captions", "data", "num_images", "seed"}
        names = {action.dest for action in parser()._actions} - used
        refuse_unused(options, parser(), names, "with --write-captions")
    elif options.checkpoint is not None:
        refuse_unused(options, parser(), ["resolution"], "with a checkpoint, which draws at its own")
    else:
        refuse_unused(options, parser(), ["truncation"], "with --images")
        if options.reference is not None:
            refuse_unused(options, parser(), ["num_images", "captions"], "with --reference")


def asked(options: argparse.Namespace) -> list[str] | None:
    return None if options.metrics is None else [name.strip() for name in options.metrics.split(",") if name.strip()]


def write_captions(options: argparse.Namespace) -> None:
    from cgan.config import load_config
    from cgan.evaluation.images import fixed_caption_ids
    from cgan.interfaces import UserError

    annotations = load_config(options.data).data.annotations
    if annotations is None or not Path(annotations).is_file():
        raise UserError(f"data.annotations={annotations}: no such file; give COCO's captions file after --data")
    count = options.num_images or 30_000
    write_json(options.write_captions, fixed_caption_ids(Path(annotations), count, options.seed))
    print(f"{options.write_captions}: the ids of {count} captions, one of each picture")


def print_table(report: dict) -> None:
    """A row for each metric; beside it what the anchors reach."""
    from rich.console import Console
    from rich.table import Table

    columns = {"": report["metrics"], **report["anchors"]}
    protocol = report["protocol"]
    table = Table("", *(name.replace("_", " ") for name in columns))
    for name in dict.fromkeys(name for values in columns.values() for name in values):
        table.add_row(name, *(f"{values[name]:.4g}" if name in values else "" for values in columns.values()))
    Console().print(table)
    measured, real = protocol["pictures"], protocol["reference"]["num_images"]
    print(f"{measured['source']}: {measured['num_images']} pictures against {real}; {protocol['seconds']:.0f} s")
