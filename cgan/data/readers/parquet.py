"""Captions in a metadata.parquet; needs pyarrow."""

from collections.abc import Iterator
from pathlib import Path

from cgan.data.readers.folder import Row
from cgan.interfaces import UserError


def rows_of_parquet(file: Path) -> Iterator[Row]:
    """File names with captions, which may be a text or a list of them; raises UserError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{file}: needs pyarrow; pip install pyarrow, or write metadata.jsonl instead") from None
    try:
        rows = parquet.read_table(file, columns=["file_name", "text"]).to_pylist()
    except MemoryError as error:
        raise UserError(f"{file}: not enough memory to read it") from error
    except (pyarrow.ArrowException, OSError) as error:
        why = str(error).split("\n")[0]
        raise UserError(f"{file}: damaged, or without the columns file_name and text ({why})") from error
    for number, row in enumerate(rows, start=1):
        yield Row(f"{file}, row {number}", row.get("file_name"), row.get("text"))
