"""Reads text and JSON files in common encodings; an error is one line that names the file and the line."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cgan.errors import UserError

MARKS = (  # a file's first bytes that give its encoding; UTF-32's mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class UnreadableFile(UserError):
    """Raised for a file that can't be read as text.

    `reason` is the fault without the file's name, its place in brackets.
    """

    reason = ""


def unreadable(name: object, reason: str, where: str = "") -> UnreadableFile:
    """Returns the error for a file; `where` is a line, optionally with a byte, as in "line 3, byte 0x92"."""
    line, _, byte = where.partition(", ")
    place, what = f", {line}" if line else "", f"{byte} is {reason}" if byte else reason
    error = UnreadableFile(f"{name}{place}: {what}{'; save the file as UTF-8' if line else ''}")
    error.reason = f"{reason} ({where})" if where else reason
    return error


def read_text(path: Path, newline: str | None = None) -> str:
    """Returns the text of a file in UTF-8, with or without a byte order mark, or in UTF-16 or UTF-32 with one.

    Line ends become "\\n", unless newline is "", which keeps them, as in open(). Raises UnreadableFile, a UserError,
    with the line of the first byte that can't be decoded, and UserError if the disk or the system is at fault.
    """
    text = decode_text(read_bytes(path), str(path))
    return text if newline == "" else text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path) -> bytes:
    """Returns the content of a file; raises UserError as read_text does."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise unreadable(path, "no such file") from None
    except IsADirectoryError:
        raise unreadable(path, "a folder, not a file") from None
    except PermissionError as error:
        raise unreadable(path, "without permission to read") from error
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a zero byte in the name
        why = "not enough memory" if isinstance(error, MemoryError) else getattr(error, "strerror", None) or error
        raise UserError(f"{path}: can't be read ({why})") from error


def decode_text(content: bytes, name: str) -> str:
    """Returns bytes decoded by their byte order mark, or else as UTF-8.

    Raises UnreadableFile that begins with the name.
    """
    mark, encoding = next((pair for pair in MARKS if content.startswith(pair[0])), (b"", "utf-8"))
    content = content[len(mark) :]
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, errors="replace").count("\n") + 1
        where = f"line {line}, byte 0x{content[error.start]:02x}"
        raise unreadable(name, f"not in {encoding.upper()}", where) from error
    if "\0" in text:  # letters with zeros between them are valid UTF-8
        line = text[: text.index("\0")].count("\n") + 1
        raise unreadable(name, "with a zero byte, as UTF-16 without its mark has", f"line {line}")
    return text


def read_json(path: Path, expected: str = "JSON") -> Any:
    """Returns the content of a JSON file in any encoding of read_text.

    Raises UserError with the line that is not JSON.
    """
    return parse_json(read_text(path), str(path), expected)


def parse_json(text: str, name: str, expected: str = "JSON", first_line: int = 1) -> Any:
    """Returns the value of a JSON text; raises UserError with the name and the line, counted from first_line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {first_line + error.lineno - 1}, column {error.colno}"
        raise UserError(f"{name}, {where}: not {expected} ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise UserError(f"{name}, line {first_line}: not {expected} that can be read ({error})") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yields the number of each line, from 1, and its JSON value, without empty lines.

    Raises UserError with the line.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, parse_json(line, str(path), first_line=number)
