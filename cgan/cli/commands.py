"""The verbs of cgan, and the parsers of their command lines."""

import argparse
import importlib

from cgan.cli.env import cgan_version
from cgan.cli.parsing import Parser, ParserOf, add_subcommands

VERBS = {
    "prepare": "make shards of a data set, or check one",
    "train": "train a text-to-image GAN or a joint encoder",
    "sample": "generate pictures from captions",
    "evaluate": "evaluate a checkpoint, or a folder of pictures",
    "retrieve": "find pictures by a caption or a picture, or captions by a picture",
    "caption": "write captions of pictures",
    "ask": "answer a question about a picture",
    "cycle": "draw a caption, describe the drawing, find real pictures like it, and score all three",
    "demo": "serve a page in the browser that generates pictures",
    "runs": "list runs and their best numbers",
    "plot": "plot the curves of runs",
    "export": "export a model for sampling, or publish it",
    "posterior": "fit the posterior that lets captions edit pictures",
    "judge": "train the scene classifier",
    "benchmark": "compare variants over several seeds, or measure speed",
    "env": "describe this machine and its software, for a bug report",
    "completion": "print a script that lets a shell complete commands",
}


class ShowVersion(argparse.Action):
    """Prints the version; in a checkout git finds it, so it is not looked up before."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"cgan {cgan_version()}")
        parser.exit()


def root_parser(parser_of: ParserOf | None = None) -> Parser:
    """Returns the parser of `cgan VERB`; it imports no verb, unless parser_of gives the parser of each."""
    result = Parser(prog="cgan", usage="cgan VERB ...", epilog="cgan VERB --help lists the options of a command")
    result.add_argument("--version", action=ShowVersion, nargs=0, help="print the version")
    add_subcommands(result, "verb", VERBS, parser_of)
    return result


def parser_of_verb(verb: str) -> argparse.ArgumentParser:
    """Returns the parser of a verb with all of its arguments; imports its module."""
    return train_parser() if verb == "train" else importlib.import_module(f"cgan.cli.{verb}").parser()


def train_parser() -> Parser:
    """Returns what `cgan train` takes, for completion; cgan/cli/train.py reads its arguments by itself."""
    result = Parser(prog="cgan train")
    result.add_argument("settings", nargs="*", metavar="CONFIG.yaml|key=value")
    result.add_argument("--resume", metavar="RUN_DIR", help="continue a run")
    result.add_argument("--help-config", nargs="?", metavar="SECTION", help="list keys, defaults and meanings")
    result.add_argument("--print-config", action="store_true", help="print the resolved configuration")
    return result
