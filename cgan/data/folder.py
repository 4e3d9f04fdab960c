"""A folder of pictures whose captions stand in metadata.jsonl, .csv or .parquet, or in a .txt beside each picture."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from cgan.data.parquet import rows_of_parquet
from cgan.data.pictures import Entry
from cgan.interfaces import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def read_folder(root: Path) -> list[Entry]:
    """The pictures of a folder with their captions; raises UserError where a caption file can't be understood."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds the pictures")
    readers = {"metadata.jsonl": rows_of_jsonl, "metadata.csv": rows_of_csv, "metadata.parquet": rows_of_parquet}
    for name, read in readers.items():
        if (root / name).is_file():
            try:
                return merged(root, read(root / name))
            except (UnicodeDecodeError, csv.Error) as error:
                raise UserError(f"{root / name}: can't be understood, it must be in UTF-8 ({error})") from None
    return sidecars(root)


def rows_of_jsonl(file: Path) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["file_name"], row["text"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UserError(f'{file}, line {number}: expected {{"file_name": "...", "text": "..."}}') from None
        yield str(name), [str(t) for t in text] if isinstance(text, list) else [str(text or "")]


def rows_of_csv(file: Path) -> Iterator[tuple[str, list[str]]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        if not {"file_name", "text"} <= set(rows.fieldnames or ()):
            raise UserError(f"{file}: its first line must name the columns file_name and text")
        for row in rows:
            if row["file_name"]:
                yield row["file_name"], [row["text"] or ""]


def merged(root: Path, rows: Iterator[tuple[str, list[str]]]) -> list[Entry]:
    """One entry a picture, with the captions of all its rows."""
    captions: dict[str, list[str]] = {}
    for name, texts in rows:
        captions.setdefault(name, []).extend(texts)
    return [Entry(root / name, texts, i) for i, (name, texts) in enumerate(captions.items())]


def sidecars(root: Path) -> list[Entry]:
    """Each line of dog.txt is a caption of dog.png."""
    pictures = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    entries = []
    for i, path in enumerate(pictures):
        text = path.with_suffix(".txt")
        captions = text.read_text(encoding="utf-8-sig", errors="replace").split("\n") if text.is_file() else []
        entries.append(Entry(path, captions, i))
    if pictures and not any(entry.captions for entry in entries):
        raise UserError(f"{root}: no captions; add metadata.jsonl, metadata.csv or a .txt beside each picture")
    return entries
