"""cgan ask: answers a question about a picture by a joint encoder."""

import argparse
import json
from pathlib import Path

from cgan.cli.parsing import Parser, warn

EPILOG = """questions, by what they ask for:
  colour    "what colour is the dog?"         object    "what is on the grass?"  "is it a cat or a dog?"
  ground    "where is the dog?"               position  "which side is the dog on?"
  size      "how big is it?"                  number    "how many dogs are there?", if training captions count
any other with --among, the answers to choose from"""


def main(arguments: list[str]) -> None:
    """Prints the answers, best first; raises UserError for a picture or a question that can't be read."""
    options = parser().parse_args(arguments)
    from cgan.retrieval.asking import ask

    among = None if options.among is None else options.among.split(",")
    asked = {"among": among, "top": options.top, "checkpoint": options.checkpoint}
    answers = ask(options.picture, options.question, **asked, report=warn)
    if options.json:
        print(json.dumps({"picture": str(options.picture), **answers.as_json()}, indent=2))
        return
    print(f"{answers.best}\nrank  probability  answer")
    for rank, answer in enumerate(answers.answers, start=1):
        print(f"{rank:4d}  {answer.probability:11.3f}  {answer.answer}")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan ask`."""
    result = Parser(
        prog="cgan ask",
        description="Answer a question about a picture.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("picture", type=Path, help="a picture; its centre square is looked at")
    add("question", help='such as "what colour is the dog?"')
    add("--among", metavar="A,B,...", help="answers to choose from; default: all that the training captions name")
    add("--top", type=int, default=5, help="how many answers to print; default: 5")
    add("--json", action="store_true", help="print a JSON object: answers, probabilities, the captions behind them")
    add("--checkpoint", type=Path, help="joint.safetensors or a run directory; default: the newest run's, else starter "
        "weights")  # fmt: skip
    return result
