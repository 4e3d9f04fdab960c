"""The verbs of cgan, and what each of them understands: its options, or the keys of a run's settings."""

import argparse
import importlib
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Literal, NamedTuple, get_args, get_origin, get_type_hints

VERBS = {
    "prepare": "make shards of a data set, or check one",
    "train": "train a text-to-image GAN or a joint encoder",
    "sample": "draw pictures from captions",
    "evaluate": "measure a checkpoint, or a folder of pictures",
    "retrieve": "find pictures by a caption or a picture, or captions by a picture",
    "caption": "say what is in pictures",
    "demo": "serve a page in the browser that draws",
    "runs": "list trainings and what they reached",
    "plot": "draw the curves of trainings",
    "export": "write what sampling needs as a small file",
    "judge": "train the judge of scenes",
    "benchmark": "compare variants over several seeds, or measure speed",
    "env": "describe this machine and its software, for a bug report",
    "completion": "print what lets a shell complete commands",
}
# these take CONFIG.yaml and key=value
WITH_SETTINGS = ("train", "prepare", "evaluate", "benchmark quality", "benchmark speed")


class Option(NamedTuple):
    name: str
    takes_value: bool  # one
    choices: tuple[str, ...]
    help: str


class Key(NamedTuple):
    name: str
    choices: tuple[str, ...]


def parsers() -> dict[str, argparse.ArgumentParser]:
    """By verb, or by verb and subject; train has none, as it takes settings."""
    found = {}
    for verb in VERBS:
        module = importlib.import_module(f"cgan.cli.{verb}")
        if hasattr(module, "parser"):
            found[verb] = module.parser()
        for name, make in vars(module).items():
            if name.endswith("_parser"):  # of a subject
                found[f"{verb} {name.removesuffix('_parser')}"] = make()
    return found


def options_of(parser: argparse.ArgumentParser) -> list[Option]:
    """The long ones."""
    found = []
    for action in parser._actions:
        for name in action.option_strings:
            if name.startswith("--"):
                choices = tuple(str(choice) for choice in action.choices or ())
                found.append(Option(name, action.nargs is None, choices, (action.help or "").partition(";")[0]))
    return found


def all_options() -> dict[str, list[Option]]:
    train = [Option("--help", False, (), "how to use it"), Option("--resume", True, (), "go on in a run directory")]
    return {"train": train} | {verb: options_of(parser) for verb, parser in parsers().items()}


def keys_of(settings: type, prefix: str = "") -> Iterator[Key]:
    """Every dotted key of a dataclass of settings, with the values of those that are a choice."""
    for name, kind in get_type_hints(settings).items():
        if is_dataclass(kind):
            yield from keys_of(kind, f"{prefix}{name}.")
        else:
            yield Key(prefix + name, choices_of(kind))


def choices_of(kind: object) -> tuple[str, ...]:
    """The values of a Literal or a boolean, also where None may stand in its place."""
    if kind is bool:
        return "true", "false"
    if get_origin(kind) is Literal:
        return tuple(str(choice) for choice in get_args(kind))
    if isinstance(kind, types.UnionType):
        return tuple(choice for part in get_args(kind) for choice in choices_of(part))
    return ()
