"""Names of files that are no UTF-8 are printed, and end no command."""

import io
import sys

import pytest
from rich.console import Console

from cgan.cli import run

NAME = "caf\udce9.png"  # as Python has the bytes caf\\xe9.png


def printed(command, monkeypatch, encoding: str = "utf-8", errors: str = "strict") -> bytes:
    """What a command writes to a standard output; strict is what it is in en_US.UTF-8."""
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["cgan"])
    run(command)
    stream.flush()
    return written.getvalue()


@pytest.mark.parametrize("write", [print, lambda text: Console().print(text), lambda text: sys.stdout.write(text)])
def test_a_name_that_is_no_utf8_is_printed_with_its_bytes(write, monkeypatch):
    assert b"caf\\udce9.png" in printed(lambda _: write(NAME), monkeypatch)


def test_letters_that_an_encoding_has_not_are_printed_as_escapes(monkeypatch):
    assert printed(lambda _: print("\u0915"), monkeypatch, encoding="ascii") == b"\\u0915\n"


def test_a_lenient_output_stays_as_it_is(monkeypatch):
    assert printed(lambda _: print(NAME), monkeypatch, errors="surrogateescape") == b"caf\xe9.png\n"
