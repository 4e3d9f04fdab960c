"""Reads Flickr30k (Young et al. 2014): results_20130124.token, or the results.csv of later copies, and the pictures."""

import re
from pathlib import Path

from cgan.data.pictures import Entry
from cgan.data.text_files import read_text
from cgan.interfaces import UserError

TOKEN = re.compile(r"(?P<name>[^\t]+)#\d+\t(?P<caption>.*)")
CSV = re.compile(r"(?P<name>[^|]+)\|\s*\d+\s*\|?(?P<caption>.*)")  # the published file lacks one of the last bars


def read_flickr30k(root: Path, annotations: Path) -> list[Entry]:
    """Returns the pictures of a captions file, each with all of its captions; raises UserError."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds the pictures")
    if not annotations.is_file():
        raise UserError(f"data.annotations={annotations}: no such file; give results_20130124.token or results.csv")
    form = CSV if annotations.suffix.lower() == ".csv" else TOKEN
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(annotations).split("\n"), start=1):
        found = form.fullmatch(line)
        if found is not None:
            captions.setdefault(found["name"].strip(), []).append(found["caption"])
        elif line.strip() and not (number == 1 and form is CSV and line.lstrip().startswith("image")):  # its header
            raise UserError(f"{annotations}, line {number}: expected NAME#0, tab, caption; or NAME| 0| caption")
    return [Entry(root / name, texts, i, name) for i, (name, texts) in enumerate(captions.items())]
