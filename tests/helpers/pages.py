"""The pages of the documentation, and the commands on them."""

import re
import shlex
from pathlib import Path

from helpers import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    """The name of a page in the list of tests: its path inside the repository."""
    return str(page.relative_to(ROOT))


def code_lines(page: Path) -> list[str]:
    """Of indented blocks, and of fenced ones in bash or no language; lines that a backslash continues are one."""
    lines, fence = [], None
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fence = line[3:] if fence is None else None
        elif fence in ("", "bash") or (fence is None and line.startswith("    ")):
            lines.append(line.strip())
    return lines


def commands_in(page: Path) -> list[list[str]]:
    """The words of each command of cgan, without comments and what is optional."""
    lines = [re.sub(r"\[[^\]]*\.\.\.\]", "", line) for line in code_lines(page)]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    starts = ("cgan ", "python train.py", "python sample.py", "torchrun ")
    return [shlex.split(part, comments=True) for part in parts if part.startswith(starts)]


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """The verb and its arguments."""
    for script, verb in (("train.py", "train"), ("sample.py", "sample")):
        if script in words:
            return verb, words[words.index(script) + 1 :]
    return words[1], words[2:]
