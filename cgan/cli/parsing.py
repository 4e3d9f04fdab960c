"""Parsers of command lines, with mistakes reported in one line, and commands of two words."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from cgan.errors import UserError

ParserOf = Callable[[str], argparse.ArgumentParser]


class Parser(argparse.ArgumentParser):
    """A mistake in the arguments is a UserError, which is printed as one line, like any other mistake."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def add_subcommands(parser: Parser, kind: str, names: dict[str, str], parser_of: ParserOf | None = None) -> None:
    """Add a required word, one of names; without parser_of what follows the word is unknown to the parser.

    A command is dispatched by such a parser of its first word alone, since subparsers can't mix options with settings
    (`parse_intermixed_args`), and since only the module of the chosen one is to be imported. Completion needs it whole.
    """
    commands = parser.add_subparsers(title=f"{kind}s", dest=kind, metavar=kind.upper(), required=True)
    for name, what in names.items():
        commands.add_parser(name, help=what, parents=[parser_of(name)] if parser_of else [], add_help=False)
