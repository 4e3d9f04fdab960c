"""The reference of the configuration: each key's type, default, range and meaning, and a resolved one as YAML.

What a key means is the comment beside it in its dataclass, from the key's own line to the next key.
"""

import ast
import difflib
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from cgan.config import ResolvedConfig, RunConfig
from cgan.errors import UserError
from cgan.ranges import RANGES
from cgan.sizes import DERIVED, SIZES

NAMES = {int: "integer", float: "number", str: "text", bool: "true or false", NoneType: "null"}
HEADER = ("key", "type", "default", "meaning")


@dataclass(frozen=True)
class ConfigRow:
    """What the reference says about one key; all of it is text."""

    key: str  # with dots, such as gan.generator.width
    type: str  # in words: integer, number, text, or the words that can be chosen
    default: str  # as YAML has it; where gan.size sets it, the value for each size
    allowed: str  # the range of a number, empty where any value is allowed
    meaning: str  # the comment beside the key, and what a derived default follows from

    def cells(self) -> tuple[str, str, str, str]:
        """Returns the texts below HEADER; the range stands behind the type."""
        return self.key, f"{self.type}, {self.allowed}" if self.allowed else self.type, self.default, self.meaning


def config_rows(section: str = "") -> list[ConfigRow]:
    """Returns a row for each key of a section such as gan.generator, of the whole configuration, or of one key.

    Raises UserError with the nearest name for a section or key that does not exist.
    """
    every = all_rows()
    rows = [row for row in every if not section or row.key == section or row.key.startswith(f"{section}.")]
    if not rows:
        raise UserError(f"{section}: no such section or key. {nearest(section, [row.key for row in every])}")
    return rows


def config_markdown(section: str = "", level: int = 2) -> str:
    """Returns Markdown with a heading of a level and a table of keys for each section. Raises UserError as config_rows.

    Sections are in the order of the dataclasses, each with its own keys before those of the sections inside it.
    """
    rows, parts = config_rows(section), []
    for prefix, cls in sections():
        own = [row for row in rows if row.key.rpartition(".")[0] == prefix]
        if own:
            parts += [f"{'#' * level} {prefix or 'Top level'}", inspect.getdoc(cls) or "", markdown_table(own)]
    return "\n\n".join(parts) + "\n"


def config_yaml(resolved: ResolvedConfig) -> str:
    """Returns a resolved configuration as YAML, with a comment on each value that is no dataclass's default.

    `load_config` reads the same configuration from it.
    """
    lines = []
    for depth, key, value in walk(resolved.config):
        name, indent = key.rpartition(".")[2], "  " * depth
        if is_dataclass(value):
            lines.append(f"{indent}{name}:")
            continue
        origin = resolved.origins.get(key)
        lines.append(f"{indent}{name}: {as_yaml(value)}" + (f"  # {one_line(origin)}" if origin else ""))
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------ rows


@cache
def all_rows() -> tuple[ConfigRow, ...]:
    """Returns a row for each key of RunConfig, section by section."""
    return tuple(row for prefix, cls in sections() for row in rows_of(cls, f"{prefix}." if prefix else ""))


def sections() -> Iterator[tuple[str, type]]:
    """Yields the dotted name of each section and its dataclass; the first one is RunConfig, with an empty name."""
    return sections_in(RunConfig, "")


def sections_in(cls: type, prefix: str) -> Iterator[tuple[str, type]]:
    """Yields a dataclass under its name, and those inside it."""
    yield prefix, cls
    for name, kind in get_type_hints(cls).items():
        if is_dataclass(kind):
            yield from sections_in(kind, f"{prefix}.{name}" if prefix else name)  # pyright: ignore[reportArgumentType]  # a class


def rows_of(cls: type, prefix: str) -> Iterator[ConfigRow]:
    """Yields a row for each key that a dataclass holds itself."""
    kinds, comments = get_type_hints(cls), comments_of(cls)
    for field in fields(cls):
        kind, key = kinds[field.name], prefix + field.name
        if is_dataclass(kind):
            continue
        derived = f"; by default {DERIVED[key]}" if key in DERIVED else ""
        allowed = str(RANGES[key]) if key in RANGES else ""
        yield ConfigRow(key, type_in_words(kind), default_of(key, field), allowed, comments[field.name] + derived)


def comments_of(cls: type) -> dict[str, str]:
    """Returns the comment of each field of a dataclass: all comments from its line to the next field's line."""
    source = textwrap.dedent(inspect.getsource(cls))
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    starts = {node.lineno: node.target.id for node in body.body if isinstance(node, ast.AnnAssign)}  # pyright: ignore[reportAttributeAccessIssue]  # a name
    found: dict[str, list[str]] = {name: [] for name in starts.values()}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        before = [line for line in starts if line <= token.start[0]]
        if token.type == tokenize.COMMENT and before:
            found[starts[max(before)]].append(token.string.lstrip("# "))
    return {name: " ".join(lines) for name, lines in found.items()}


def type_in_words(kind: Any) -> str:
    """Returns a type as a user needs to know it: "hinge | relativistic", "number or null", "list of text"."""
    if isinstance(kind, UnionType):
        return " or ".join(type_in_words(part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) is list:
        return f"list of {type_in_words(get_args(kind)[0])}"
    return NAMES[kind]


def default_of(key: str, field: Field) -> str:
    """Returns a field's default as YAML has it, or the value for each size where the size sets it."""
    by_size = {size: values[key] for size, values in SIZES.items() if key in values}
    if by_size:
        return ", ".join(f"{value} ({size})" for size, value in by_size.items())
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return f"{value:g}" if isinstance(value, float) else as_yaml(value)


def as_yaml(value: object) -> str:
    """Returns a value or a list of values as YAML on one line; text that looks like something else gets quotes."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.strip().removesuffix("\n...")


def nearest(name: str, keys: list[str]) -> str:
    """Returns a sentence that names the section or key nearest to a name, or else the sections at the top."""
    parts = {".".join(key.split(".")[:depth]): None for key in keys for depth in range(1, key.count(".") + 2)}
    same_end = [part for part in parts if part.rpartition(".")[2] == name]
    near = same_end or difflib.get_close_matches(name, parts, n=1, cutoff=0.5)
    top = dict.fromkeys(key.split(".")[0] for key in keys if "." in key)
    return f"Did you mean: '{near[0]}'?" if near else f"Sections: {', '.join(top)}"


# ------------------------------------------------------------------------------------------------ text


def markdown_table(rows: list[ConfigRow]) -> str:
    """Returns a Markdown table of rows."""
    code = [lambda text: f"`{text}`", escaped, lambda text: f"`{text}`", escaped]
    lines = ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
    for row in rows:
        lines.append("| " + " | ".join(form(cell) for form, cell in zip(code, row.cells(), strict=True)) + " |")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Returns text for the cell of a Markdown table; < as an entity, since Python-Markdown keeps a backslash there."""
    for sign in "\\|*_`":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("<", "&lt;")


def walk(section: Any, prefix: str = "") -> Iterator[tuple[int, str, Any]]:
    """Yields depth, dotted key and value of everything in nested dataclasses; a section comes before what is in it."""
    for field in fields(section):
        key, value = prefix + field.name, getattr(section, field.name)
        yield prefix.count("."), key, value
        if is_dataclass(value):
            yield from walk(value, f"{key}.")


def one_line(text: str) -> str:
    """Returns text without line ends and other control characters, for a comment."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
