"""Flickr30k (Young et al. 2014): results_20130124.token, or the results.csv that goes round, and the pictures."""

import re
from pathlib import Path

from cgan.data.pictures import Entry
from cgan.interfaces import UserError

TOKEN = re.compile(r"(?P<name>[^\t]+)#\d+\t(?P<caption>.*)")
CSV = re.compile(r"(?P<name>[^|]+)\|\s*\d+\s*\|?(?P<caption>.*)")  # the published file lacks one of the last bars


def read_flickr30k(root: Path, annotations: Path) -> list[Entry]:
    """The pictures of a captions file, each with all of its captions; raises UserError."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds the pictures")
    if not annotations.is_file():
        raise UserError(f"data.annotations={annotations}: no such file; give results_20130124.token or results.csv")
    form, lines = (CSV, 1) if annotations.suffix == ".csv" else (TOKEN, 0)
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(lines_of(annotations)[lines:], start=lines + 1):
        if line.strip():
            found = form.fullmatch(line)
            if found is None:
                raise UserError(f"{annotations}, line {number}: expected NAME#0, tab, caption; or NAME| 0| caption")
            captions.setdefault(found["name"].strip(), []).append(found["caption"])
    return [Entry(root / name, texts, i) for i, (name, texts) in enumerate(captions.items())]


def lines_of(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not in UTF-8 ({error})") from None
