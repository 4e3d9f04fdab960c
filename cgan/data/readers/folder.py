"""A folder of pictures whose captions stand in metadata.jsonl, .csv or .parquet, or in a .txt beside each picture."""

import csv
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from cgan.data.decoding import SUFFIXES
from cgan.data.listing import files_below, is_picture, is_unread, texts_by_stem, unread_pictures, unused_texts
from cgan.data.pictures import Entry, Skipped, left_out, stat_of
from cgan.data.records import captions_from, is_absent, kind_of, printable
from cgan.data.text_files import UnreadableFile, read_json_lines, read_text
from cgan.interfaces import UserError

PICTURE_NAME = re.compile(rf"({'|'.join(re.escape(suffix) for suffix in sorted(SUFFIXES))})\b", re.IGNORECASE)
SEPARATORS = ";\t|"  # in place of the comma that a CSV file should have


class NoCaptions(UserError):
    """A folder of pictures about which nothing is said."""


class Row(NamedTuple):
    """What a line of a metadata file says."""

    where: str  # the file and the line, for messages
    name: object
    text: object


def read_folder(root: Path) -> list[Entry]:
    """The pictures of a folder with their captions; raises UserError where a caption file can't be understood.

    NoCaptions, a UserError, is raised where there are pictures and no captions.
    """
    from cgan.data.readers.parquet import rows_of_parquet

    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds the pictures")
    readers = {"metadata.jsonl": rows_of_jsonl, "metadata.csv": rows_of_csv, "metadata.parquet": rows_of_parquet}
    present = [name for name in readers if stat_of(root / name)]
    if not present:
        return sidecars(root)
    unused = [left_out(name, f"captions that are not read beside {present[0]}") for name in present[1:]]
    return merged(root, readers[present[0]](root / present[0])) + unused


def rows_of_jsonl(file: Path) -> Iterator[Row]:
    for number, row in read_json_lines(file):
        if not isinstance(row, dict) or not {"file_name", "text"} <= set(row):
            raise UserError(f'{file}, line {number}: expected {{"file_name": "...", "text": "..."}}')
        yield Row(f"{file}, line {number}", row["file_name"], row["text"])


def rows_of_csv(file: Path) -> Iterator[Row]:
    rows, begin = csv.reader(StringIO(read_text(file, newline=""), newline=""), strict=True), 1
    try:
        names = [name.strip() for name in next(rows, [])]
        check_columns(file, names)
        begin = rows.line_num + 1
        for row in rows:
            if row:
                check_row(f"{file}, line {begin}", row, names)
                fields = dict(zip(names, row, strict=False))
                yield Row(f"{file}, line {begin}", fields.get("file_name"), fields.get("text"))
            begin = rows.line_num + 1
    except csv.Error as error:
        raise UserError(f"{file}, line {begin}: a row begins that can't be understood ({error}); {QUOTING}") from error


QUOTING = 'a caption with commas stands in double quotes, a double quote in it as ""'


def check_columns(file: Path, names: list[str]) -> None:
    if {"file_name", "text"} <= set(names):
        return
    hint = "; separate them by commas" if any(mark in name for name in names for mark in SEPARATORS) else ""
    found = ", ".join(f"'{printable(name)}'" for name in names[:8]) or "nothing"
    raise UserError(f"{file}: its first line must name the columns file_name and text; it has {found}{hint}")


def check_row(where: str, row: list[str], names: list[str]) -> None:
    """Raise UserError where a comma has cut a caption, or a quote has swallowed rows."""
    if len(row) > len(names):
        raise UserError(f"{where}: {len(row)} fields, but {len(names)} columns; {QUOTING}")
    for content in row:
        rest = content.partition("\n")[2]
        if "," in rest and PICTURE_NAME.search(rest):
            raise UserError(f"{where}: a quote begins that swallows the rows below; {QUOTING}")


def merged(root: Path, rows: Iterator[Row]) -> list[Entry]:
    """One entry a picture, with the captions of all its rows."""
    captions: dict[str, list[str]] = {}
    unnamed = []
    for where, name, text in rows:
        if is_absent(name) or name == "":
            unnamed.append(left_out(where, "without file_name"))
        elif not isinstance(name, str):
            raise UserError(f"{where}: file_name is {kind_of(name)}, not text")
        else:
            captions.setdefault(name, []).extend(captions_from(text, where))
    entries = [Entry(root / name, texts, i, name) for i, (name, texts) in enumerate(captions.items())]
    return entries + unnamed


def sidecars(root: Path) -> list[Entry]:
    """Each line of dog.txt is a caption of dog.png."""
    files = files_below(root)
    texts, pictures = texts_by_stem(files), [file for file in files if is_picture(file)]
    names = [str(path.relative_to(root)) for path in pictures]
    text_of = [texts.get(path.with_suffix("")) for path in pictures]
    entries = [with_text(root, path, text_of[i], names[i], i) for i, path in enumerate(pictures)]
    if pictures and not any(entry.captions or entry.fault for entry in entries):
        raise NoCaptions(f"{root}: no captions; add metadata.jsonl, metadata.csv or a .txt beside each picture")
    beside = {file.parent for file in files if is_picture(file) or is_unread(file)}
    texts = {stem: file for stem, file in texts.items() if file.parent in beside}
    unused = unused_texts(root, texts, {path.with_suffix("") for path in pictures})
    return entries + unread_pictures(root, files) + unused


def with_text(root: Path, picture: Path, text: Path | None, name: str, image_id: int) -> Entry:
    """A picture with the lines of its text; left out, with the reason, where these can't be read."""
    captions, fault = [], None
    try:
        captions = read_text(text).split("\n") if text else []
    except UnreadableFile as error:
        fault = Skipped(printable(str(text.relative_to(root))), error.reason)
    return Entry(picture, captions, image_id, name, fault)
