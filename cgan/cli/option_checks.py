"""Refuses options that have no effect beside the others."""

import argparse
from collections.abc import Iterable

from cgan.errors import UserError


def refuse_unused(options: argparse.Namespace, parser: argparse.ArgumentParser, names: Iterable[str], why: str) -> None:
    """Raises UserError for the first of some options that is given; why ends the line, such as "with --plan"."""
    for action in parser._actions:
        if action.dest in set(names) and getattr(options, action.dest) != action.default:
            shown = action.option_strings[-1] if action.option_strings else action.dest.upper()
            raise UserError(f"{shown} is not used {why}; leave it out")
