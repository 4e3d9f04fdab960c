"""cgan evaluate: computes metrics of a checkpoint or of a folder of pictures, with the protocol behind them."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cgan.cli.option_checks import refuse_unused
from cgan.cli.parsing import Parser
from cgan.evaluation.settings import evaluation_settings
from cgan.files import check_writable_file, write_json
from cgan.metrics.names import NAMES

if TYPE_CHECKING:
    from cgan.evaluation.protocol import EvaluationReport

EPILOG = """examples:
  cgan evaluate assets/scenes-64.safetensors
  cgan evaluate RUN/last.ckpt --data configs/gan/coco.yaml data.root=val2014 data.annotations=captions_val2014.json
  cgan evaluate RUN/last.ckpt --data data.level=two --anchors
  cgan evaluate --images DRAWN --reference REAL
  cgan evaluate --images DRAWN --data configs/gan/folder.yaml data.root=PICTURES
  cgan evaluate --retrieval CLIP --data data.source=karpathy data.root=COCO data.annotations=dataset_coco.json
  cgan evaluate --self-test

fid, kid and prdc (precision, recall, density, coverage) use Inception. If its weights are missing, they use the scene
classifier or the joint encoder, and have other names. Without --metrics, everything that this machine can measure is
measured, except mifid. Weights of metrics that you name may be downloaded."""
SETTINGS = (
    "checkpoint", "images", "reference", "data", "resolution", "num_images", "captions", "inception", "resize", "clip",
    "joint", "anchors", "seed", "truncation",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Returns the parser of cgan evaluate."""
    result = Parser(
        prog="cgan evaluate",
        description="Measure a checkpoint, or any folder of pictures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("checkpoint", type=Path, nargs="?", help="a .ckpt or .safetensors file, a run directory, ...")
    result.add_argument("--images", type=Path, metavar="DIR", help="pictures to measure instead of a checkpoint's")
    result.add_argument("--reference", type=Path, metavar="DIR", help="real pictures instead of a data set's")
    result.add_argument("--data", nargs="+", default=[], metavar="X", help="CONFIG.yaml key=value ...; default: scenes")
    result.add_argument("--resolution", type=int, metavar="PX", help="crop and resize folders to this; default: as is")
    result.add_argument("--num-images", type=int, help="captions; default: 2000 of each split of scenes, else 5000")
    result.add_argument("--captions", type=Path, metavar="FILE", help="ids of COCO captions, JSON or one per line")
    result.add_argument("--write-captions", type=Path, metavar="FILE", help="choose such ids with the seed, and stop")
    result.add_argument("--metrics", help=f"some of {','.join(NAMES)}; default: what can run here")
    result.add_argument("--inception", type=Path, metavar="FILE", help="torch-fidelity's weights of Inception")
    result.add_argument("--resize", choices=("torch-fidelity", "clean"), default="torch-fidelity", help="for Inception")
    result.add_argument("--clip", metavar="NAME", help="CLIP of clip_score, a folder or a name on the hub")
    result.add_argument("--joint", type=Path, help="joint encoder of r_precision; default on scenes: starter weights")
    result.add_argument("--anchors", action="store_true", help="measure real and nearest training pictures too")
    result.add_argument("--seed", type=int, default=1234)
    result.add_argument("--truncation", type=float, default=1.0, help="below 1: safer and less varied pictures")
    result.add_argument("--out", type=Path, metavar="FILE", help="write values and protocol as JSON")
    result.add_argument("--json", action="store_true", help="print the values as JSON instead of a table")
    result.add_argument("--retrieval", metavar="NAME", help="Recall@K of a joint encoder or a CLIP on --data, in place "
        "of a checkpoint")  # fmt: skip
    result.add_argument("--questions", metavar="NAME", help="share of questions about scenes that a joint encoder "
        "answers right, as `cgan ask` does")  # fmt: skip
    result.add_argument("--prompt", default="{}", help='with --retrieval: template for captions; CLIP: "a photo of {}"')
    result.add_argument(
        "--self-test", action="store_true", help="compare metrics of fixed pictures with shipped values"
    )
    return result


def main(arguments: list[str]) -> None:
    """Evaluate pictures, and print a table or JSON; raises UserError."""
    options = parser().parse_args(arguments)
    check_outputs(options)
    if options.self_test:
        self_test(options)
        return
    if options.retrieval is not None:
        retrieval(options, " ".join(["cgan", "evaluate", *arguments]))
        return
    if options.questions is not None:
        questions(options, " ".join(["cgan", "evaluate", *arguments]))
        return
    if options.write_captions is not None:
        write_captions(options)
        return
    given = {name: getattr(options, name) for name in SETTINGS}
    given["metrics"] = asked(options)
    evaluation_settings(**given)  # mistakes are reported before torch is loaded
    result = evaluated(given)
    result.protocol["command"] = " ".join(["cgan", "evaluate", *arguments])
    if options.out is not None:
        write_json(options.out, result.as_json())
    if options.json:
        print(json.dumps({name: round(value, 6) for name, value in result.metrics.items()}, indent=2))
    else:
        print_table(result)


def evaluated(given: dict) -> "EvaluationReport":
    """Returns the EvaluationReport, with a progress bar and messages on standard error meanwhile."""
    from cgan.cli.progress import progress_bar
    from cgan.evaluation.run import evaluate

    with progress_bar("measuring", "images") as bar:
        return evaluate(**given, report=on_stderr, progress=bar)


def check_outputs(options: argparse.Namespace) -> None:
    """Raise UserError for an output that can't be written, and for options that have no effect beside others."""
    if options.write_captions is not None:
        used = {"help", "write_captions", "data", "num_images", "seed"}
        refuse_unused(options, parser(), {action.dest for action in parser()._actions} - used, "with --write-captions")
    if options.self_test:
        used = {"help", "self_test", "inception", "clip"}
        refuse_unused(options, parser(), {action.dest for action in parser()._actions} - used, "with --self-test")
    if options.retrieval is not None:
        used = {"help", "retrieval", "prompt", "data", "out", "json"}
        refuse_unused(options, parser(), {action.dest for action in parser()._actions} - used, "with --retrieval")
    else:
        refuse_unused(options, parser(), ["prompt"], "without --retrieval")
    if options.questions is not None:
        used = {"help", "questions", "num_images", "seed", "out", "json"}
        refuse_unused(options, parser(), {action.dest for action in parser()._actions} - used, "with --questions")
    for path in (options.out, options.write_captions):
        if path is not None:
            check_writable_file(path, "give another place")


def asked(options: argparse.Namespace) -> list[str] | None:
    """Returns the names of --metrics; None where it is not given."""
    return None if options.metrics is None else [name.strip() for name in options.metrics.split(",") if name.strip()]


def write_captions(options: argparse.Namespace) -> None:
    """Write the ids of COCO captions, chosen by the seed, as JSON."""
    from cgan.config import load_config
    from cgan.evaluation.images import fixed_caption_ids
    from cgan.interfaces import UserError

    annotations = load_config(options.data).data.annotations
    if annotations is None or not Path(annotations).is_file():
        raise UserError(f"data.annotations={annotations}: no such file; give COCO's captions file after --data")
    count = options.num_images or 30_000
    write_json(options.write_captions, fixed_caption_ids(Path(annotations), count, options.seed))
    print(f"{options.write_captions}: the ids of {count} captions, one of each picture")


def retrieval(options: argparse.Namespace, command: str) -> None:
    """Print the rows of a table of Recall@K, or JSON; raises UserError."""
    from cgan.cli.progress import progress_bar
    from cgan.evaluation.retrieval import as_rows, evaluate_retrieval

    with progress_bar("encoding", "pictures") as bar:
        result = evaluate_retrieval(options.retrieval, options.data, options.prompt, report=on_stderr, progress=bar)
    result.protocol["command"] = command
    if options.out is not None:
        write_json(options.out, result.as_json())
    values = {name: round(value, 6) for name, value in result.metrics.items()}
    print(json.dumps(values, indent=2) if options.json else as_rows(result, options.retrieval))


def questions(options: argparse.Namespace, command: str) -> None:
    """Print a table of the share of questions answered right, or JSON; raises UserError."""
    from cgan.cli.progress import progress_bar
    from cgan.evaluation.asking import evaluate_asking

    num_scenes = 500 if options.num_images is None else options.num_images
    with progress_bar("asking", "scenes") as bar:
        result = evaluate_asking(Path(options.questions), num_scenes, options.seed, progress=bar)
    result.protocol["command"] = command
    if options.out is not None:
        write_json(options.out, result.as_json())
    if options.json:
        print(json.dumps({name: round(value, 6) for name, value in result.metrics.items()}, indent=2))
        return
    for name, value in result.metrics.items():
        print(f"{name:15} {value:.4f}")


def on_stderr(line: str) -> None:
    """Print a line on standard error at once."""
    print(line, file=sys.stderr, flush=True)


def self_test(options: argparse.Namespace) -> None:
    """Print a row for each comparison, with the number that differs most; exits with 1 if one differs too much."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from cgan.evaluation.self_test import self_test as checks_of

    checks = checks_of(options.inception, options.clip)
    table = Table("", "shipped", "here", "off by", "allowed", "", box=SIMPLE, padding=(0, 1, 0, 0))
    for check in checks:
        result = "not checked" if check.missing else "ok" if check.passed else "DIFFERS"
        numbers = ("", "") if check.missing else (f"{number:.5f}" for number in check.worst)
        difference = "" if check.missing else f"{check.difference:.0e}"
        table.add_row(check.name, *numbers, difference, f"{check.tolerance:.0e}", result)
    Console().print(table)
    for check in (check for check in checks if check.missing):
        print(f"not checked: {check.name}: {check.missing}")
    wrong = [check.name for check in checks if not check.passed]
    if wrong:
        print(f"{len(wrong)} of {len(checks)} differ: metrics of this machine can't be compared with those of others")
        raise SystemExit(1)


def print_table(report: "EvaluationReport") -> None:
    """Print a table with a row for each metric and a column for each anchor."""
    from rich.console import Console
    from rich.table import Table

    columns = {"": report.metrics, **report.anchors}
    protocol = report.protocol
    table = Table("", *(name.replace("_", " ") for name in columns))
    for name in dict.fromkeys(name for values in columns.values() for name in values):
        table.add_row(name, *(f"{values[name]:.4g}" if name in values else "" for values in columns.values()))
    Console().print(table)
    measured, real = protocol["pictures"], protocol["reference"]["num_images"]
    print(f"{measured['source']}: {measured['num_images']} pictures against {real}; {protocol['seconds']:.0f} s")
