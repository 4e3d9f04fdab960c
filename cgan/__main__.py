"""cgan VERB: every command of the project; train.py and sample.py call two of them."""

import importlib
import sys

from cgan.cli import run
from cgan.cli.commands import root_parser


def main() -> None:
    """Run a verb on the rest of the command line."""
    verb = root_parser().parse_args(sys.argv[1:2] or ["--help"]).verb
    del sys.argv[1]
    run(importlib.import_module(f"cgan.cli.{verb}").main)


if __name__ == "__main__":
    main()
