"""cgan VERB: every command of the project; train.py and sample.py call two of them."""

import importlib

from cgan.cli import run
from cgan.cli.commands import root_parser


def main() -> None:
    """The entry point of `cgan` and `python -m cgan`."""
    run(dispatch)


def dispatch(arguments: list[str]) -> None:
    """Run a verb, the first argument, on the other ones; imports the verb's module alone."""
    verb = root_parser().parse_args(arguments[:1] or ["--help"]).verb
    importlib.import_module(f"cgan.cli.{verb}").main(arguments[1:])


if __name__ == "__main__":
    main()
