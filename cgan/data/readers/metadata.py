"""Reads the rows of a folder's metadata.jsonl, metadata.csv or metadata.parquet (needs pyarrow)."""

import csv
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from cgan.data.decoding import SUFFIXES
from cgan.data.records import labels_from, printable
from cgan.data.text_files import read_json_lines, read_text
from cgan.interfaces import UserError

PICTURE_NAME = re.compile(rf"({'|'.join(re.escape(suffix) for suffix in sorted(SUFFIXES))})\b", re.IGNORECASE)
SEPARATORS = ";\t|"  # in place of the comma that a CSV file should have
QUOTING = 'a caption with commas stands in double quotes, a double quote in it as ""'


LABELS = ("labels", "label", "keywords", "tags", "group", "class", "category")  # columns, all that are there count


class Row(NamedTuple):
    """A row of a metadata file."""

    where: str  # the file and the line, for messages
    name: object
    text: object
    labels: tuple[str, ...] = ()


def rows_of_jsonl(file: Path) -> Iterator[Row]:
    """Yields the rows of a metadata.jsonl; raises UserError that names the line."""
    for number, row in read_json_lines(file):
        if not isinstance(row, dict) or not {"file_name", "text"} <= set(row):
            raise UserError(f'{file}, line {number}: expected {{"file_name": "...", "text": "..."}}')
        labels = labels_from(*(row.get(name) for name in LABELS))
        yield Row(f"{file}, line {number}", row["file_name"], row["text"], labels)


def rows_of_csv(file: Path) -> Iterator[Row]:
    """Yields the rows of a metadata.csv, in which ; stands between labels; raises UserError that names the line."""
    rows, begin = csv.reader(StringIO(read_text(file, newline=""), newline=""), strict=True), 1
    try:
        names = [name.strip() for name in next(rows, [])]
        check_columns(file, names)
        begin = rows.line_num + 1
        for row in rows:
            if row:
                check_row(f"{file}, line {begin}", row, names)
                fields = dict(zip(names, row, strict=False))
                labels = labels_from(*((fields.get(name) or "").split(";") for name in LABELS))
                yield Row(f"{file}, line {begin}", fields.get("file_name"), fields.get("text"), labels)
            begin = rows.line_num + 1
    except csv.Error as error:
        raise UserError(f"{file}, line {begin}: a row begins that can't be understood ({error}); {QUOTING}") from error


def check_columns(file: Path, names: list[str]) -> None:
    """Raises UserError unless the first line of a CSV names the columns file_name and text."""
    if {"file_name", "text"} <= set(names):
        return
    hint = "; separate them by commas" if any(mark in name for name in names for mark in SEPARATORS) else ""
    found = ", ".join(f"'{printable(name)}'" for name in names[:8]) or "nothing"
    raise UserError(f"{file}: its first line must name the columns file_name and text; it has {found}{hint}")


def check_row(where: str, row: list[str], names: list[str]) -> None:
    """Raises UserError if a comma has split a caption into fields, or if an unclosed quote has joined several rows."""
    if len(row) > len(names):
        raise UserError(f"{where}: {len(row)} fields, but {len(names)} columns; {QUOTING}")
    for content in row:
        rest = content.partition("\n")[2]
        if "," in rest and PICTURE_NAME.search(rest):
            raise UserError(f"{where}: a quote begins that swallows the rows below; {QUOTING}")


def rows_of_parquet(file: Path) -> Iterator[Row]:
    """Yields the rows of a metadata.parquet, whose texts may be lists of captions; raises UserError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{file}: needs pyarrow; pip install pyarrow, or write metadata.jsonl instead") from None
    try:
        labels = [name for name in LABELS if name in parquet.read_schema(file).names]
        rows = parquet.read_table(file, columns=["file_name", "text", *labels]).to_pylist()
    except MemoryError as error:
        raise UserError(f"{file}: not enough memory to read it") from error
    except (pyarrow.ArrowException, OSError) as error:
        why = str(error).split("\n")[0]
        raise UserError(f"{file}: damaged, or without the columns file_name and text ({why})") from error
    for number, row in enumerate(rows, start=1):
        found = labels_from(*(row.get(name) for name in labels))
        yield Row(f"{file}, row {number}", row.get("file_name"), row.get("text"), found)
