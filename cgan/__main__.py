"""cgan VERB: every command of the project; train.py and sample.py call two of them."""

import importlib
import sys

from cgan.cli import run
from cgan.cli.commands import VERBS


def usage() -> str:
    lines = [f"  {verb:12s}{what}" for verb, what in VERBS.items()]
    return "\n".join(["usage: cgan VERB ...; --help after a verb says more", "       cgan --version", "", *lines])


def main() -> None:
    verb = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    match verb:
        case "-h" | "--help":
            print(usage())
        case "--version":
            from cgan.cli.env import cgan_version

            print(f"cgan {cgan_version()}")
        case verb if verb in VERBS:
            run(importlib.import_module(f"cgan.cli.{verb}").main)
        case _:
            sys.exit(usage())


if __name__ == "__main__":
    main()
