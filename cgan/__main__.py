"""cgan VERB: every command of the project; train.py and sample.py call two of them."""

import importlib
import sys

from cgan.cli import run

VERBS = {
    "prepare": "make shards of a data set, or check one",
    "train": "train a text-to-image GAN or a joint encoder",
    "sample": "draw pictures from captions",
    "evaluate": "measure a checkpoint, or a folder of pictures",
    "retrieve": "find pictures by a caption or a picture, or captions by a picture",
    "caption": "say what is in pictures",
    "export": "write what sampling needs as a small file",
    "judge": "train the judge of scenes",
    "benchmark": "compare variants over several seeds, or measure speed",
}


def usage() -> str:
    lines = [f"  {verb:10s}{what}" for verb, what in VERBS.items()]
    return "\n".join(["usage: cgan VERB ...; --help after a verb says more", "", *lines])


def main() -> None:
    verb = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if verb in ("-h", "--help"):
        print(usage())
        return
    if verb not in VERBS:
        sys.exit(usage())
    run(importlib.import_module(f"cgan.cli.{verb}").main)


if __name__ == "__main__":
    main()
