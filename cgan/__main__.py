"""python -m cgan VERB: the commands beside train.py and sample.py."""

import importlib
import sys

from cgan.cli import run

VERBS = ("train", "sample", "evaluate", "export", "judge")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in VERBS:
        sys.exit(f"usage: python -m cgan {{{','.join(VERBS)}}} ...; --help after a verb says more")
    verb = sys.argv.pop(1)
    run(importlib.import_module(f"cgan.cli.{verb}").main)


if __name__ == "__main__":
    main()
