"""Parsers of command lines: mistakes in one line, commands of two words, files of captions."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from cgan.errors import UserError

ParserOf = Callable[[str], Any]  # the parser of a word, an argparse.ArgumentParser


class Parser(argparse.ArgumentParser):
    """A parser that raises a mistake in the arguments as a UserError, which is printed as one line like any other."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError in place of exiting."""
        raise UserError(f"{message}; see {self.prog} --help")


def add_subcommands(parser: Parser, kind: str, names: dict[str, str], parser_of: ParserOf | None = None) -> None:
    """Adds a required word, one of names; without parser_of what follows the word is unknown to the parser.

    A command is dispatched by such a parser of its first word alone, since subparsers can't mix options with settings
    (`parse_intermixed_args`), and since only the module of the chosen one is to be imported. Completion needs it whole.
    """
    commands = parser.add_subparsers(title=f"{kind}s", dest=kind, metavar=kind.upper(), required=True)
    for name, what in names.items():
        commands.add_parser(name, help=what, parents=[parser_of(name)] if parser_of else [], add_help=False)


def captions_in(file: Path) -> list[str]:
    """Returns the lines of a text file, or of standard input for "-", empty ones left out; raises UserError.

    The text is in UTF-8, or in UTF-16 with its mark.
    """
    from cgan.data.text_files import decode_text, read_text

    if str(file) != "-" and not file.is_file():
        raise UserError(f"--captions={file}: no such file; give a text file with one caption a line")
    text = decode_text(sys.stdin.buffer.read(), "standard input") if str(file) == "-" else read_text(file)
    captions = [line.strip() for line in text.splitlines() if line.strip()]
    if not captions:
        raise UserError(f"--captions={file}: no captions in it; write one a line")
    return captions


def warn(message: str) -> None:
    """Prints a warning on standard error."""
    print(f"warning: {message}", file=sys.stderr)
