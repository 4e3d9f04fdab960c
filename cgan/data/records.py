"""Checks values that readers find in JSON, CSV, Parquet or tars: captions, ids, file names, fields of records."""

import hashlib
import json
import math
import re
from numbers import Integral, Real
from typing import Any

from cgan.errors import UserError

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")  # of names that are no UTF-8, surrogates
KINDS = {str: "text", list: "a list", dict: "an object", bool: "true or false", int: "a number", float: "a number"}


def printable(name: str) -> str:
    """Returns a name with control characters, line breaks and bytes that are not UTF-8 replaced by U+FFFD."""
    return UNPRINTABLE.sub("\ufffd", name)


def kind_of(value: object) -> str:
    """Returns the type of a value in words, for messages."""
    return KINDS.get(type(value), "null" if value is None else f"of type {type(value).__name__}")


def is_absent(value: object) -> bool:
    """Returns whether a value is None, or NaN, which pandas writes for a missing value."""
    return value is None or (isinstance(value, Real) and math.isnan(value))


def captions_from(value: object, where: str) -> list[str]:
    """Returns the captions in a text or a list of texts, stripped of white space, without absent and blank ones.

    Raises UserError whose message begins with `where` for any other type.
    """
    captions = []
    for text in value if isinstance(value, list | tuple) else [value]:
        if is_absent(text):
            continue
        if not isinstance(text, str):
            raise UserError(f"{where}: a caption is {kind_of(text)}, not text")
        if text.strip():
            captions.append(text.strip())
    return captions


def labels_from(*values: object) -> tuple[str, ...]:
    """Returns the labels in some values, each a text, a whole number or a list of these: stripped, and each once.

    Absent and blank labels, and values of other types, are no labels.
    """
    found = []
    for value in values:
        for label in value if isinstance(value, list | tuple) else [value]:
            if isinstance(label, str):
                found.append(" ".join(label.split()))
            elif isinstance(number := id_from(label), int):
                found.append(str(number))
    return tuple(dict.fromkeys(label for label in found if label))


def id_from(value: object) -> int | str | None:
    """Returns an id in its canonical form: 7, 7.0 and "7" become 7, while "007" stays text.

    None if the value is no id.
    """
    if is_absent(value) or isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return int(number) if math.isfinite(number) and number == int(number) else str(value)
    if isinstance(value, str):
        return int(value) if re.fullmatch("0|-?[1-9][0-9]{0,30}", value) else value or None
    return None


def image_id_of(value: object, where: str) -> int:
    """Returns an id as int64: the number itself if it fits, else a number from its hash, equal on every machine.

    Raises UserError whose message begins with `where` if the value is no id.
    """
    number = id_from(value)
    if number is None:
        raise UserError(f"{where}: an id is {kind_of(value)}; expected a number or text")
    if isinstance(number, int) and -(2**63) <= number < 2**63:
        return number
    digest = hashlib.sha256(json.dumps(number).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def field(record: Any, name: str, kind: type, where: str) -> Any:
    """Returns a field of a JSON object, which must have the given type.

    Raises UserError whose message begins with `where`.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where}: {kind_of(record)}, not an object")
    if name not in record:
        raise UserError(f"{where}: no {name}")
    if kind is not object and not isinstance(record[name], kind):
        raise UserError(f"{where}: {name} is {kind_of(record[name])}, not {KINDS[kind]}")
    return record[name]
