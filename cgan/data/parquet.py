"""Captions in a metadata.parquet; needs pyarrow."""

from collections.abc import Iterator
from pathlib import Path

from cgan.interfaces import UserError


def rows_of_parquet(file: Path) -> Iterator[tuple[str, list[str]]]:
    """File names with captions, which may be a string or a list of them; raises UserError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{file}: needs pyarrow; pip install pyarrow, or write metadata.jsonl instead") from None
    try:
        rows = parquet.read_table(file, columns=["file_name", "text"]).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        why = str(error).split("\n")[0]
        raise UserError(f"{file}: damaged, or without the columns file_name and text ({why})") from None
    for row in rows:
        if row["file_name"]:
            text = row["text"]
            yield str(row["file_name"]), [str(t) for t in text] if isinstance(text, list) else [str(text or "")]
