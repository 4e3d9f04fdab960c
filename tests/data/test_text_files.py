import codecs
import pickle

import pytest
from torch._utils import ExceptionWrapper

from cgan.data.text_files import UnreadableFile, read_json, read_json_lines, read_text
from cgan.interfaces import UserError

SENTENCE = "ein grüner Hund\nauf 草\n"
ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_in_any_encoding_with_its_mark_is_read(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(ENCODINGS[encoding] + SENTENCE.replace("\n", "\r\n").encode(encoding))
    assert read_text(tmp_path / "a.txt") == SENTENCE


def test_line_ends_are_kept_where_they_are_asked_for(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\r\nb\rc")
    assert read_text(tmp_path / "a.txt", newline="") == "a\r\nb\rc"
    assert read_text(tmp_path / "a.txt") == "a\nb\nc"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"plain\na dog\x92s tail", "a.txt, line 2: byte 0x92 is not in UTF-8; save the file as UTF-8"),
        ("a dog".encode("utf-16-le"), "a.txt, line 1: with a zero byte, as UTF-16 without its mark has"),
        (codecs.BOM_UTF16_LE + "a\n\ud800b".encode("utf-16-le", "surrogatepass"), "line 2: byte 0x00"),
        (codecs.BOM_UTF16_LE + b"a\0b", "line 1: byte 0x62 is not in UTF-16-LE"),
    ],
)
def test_what_is_no_text_is_one_line_with_file_and_line(tmp_path, content, said):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_text(tmp_path / "a.txt")
    assert said in str(error.value) and str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"), [("none.txt", "no such file"), (".", "a folder"), ("x" * 300, "File name too long")]
)
def test_what_is_no_file_is_one_line(tmp_path, name, said):
    with pytest.raises(UserError, match=said):
        read_text(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": 1,\n "b" 2}', "a.json, line 2, column 6: not JSON"),
        ("", "a.json, line 1, column 1: not JSON"),
        ("9" * 5000, "a.json, line 1: not JSON that can be read"),
        ("[" * 100_000, "a.json, line 1: not JSON that can be read"),
    ],
)
def test_what_is_no_json_is_one_line(tmp_path, content, said):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError) as error:
        read_json(tmp_path / "a.json")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_json_with_a_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(codecs.BOM_UTF8 + b'{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_json_lines_have_their_numbers_and_may_hold_any_separator(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": "x\u2028y"}\n\n2\n{')
    lines = read_json_lines(tmp_path / "a.jsonl")
    assert [next(lines), next(lines)] == [(1, {"a": "x\u2028y"}), (3, 2)]
    with pytest.raises(UserError, match="line 4, column 2: not JSON"):
        next(lines)


def test_an_error_keeps_its_reason_on_the_way_from_another_process(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\x92")
    with pytest.raises(UnreadableFile) as raised:
        read_text(tmp_path / "a.txt")
    error = pickle.loads(pickle.dumps(raised.value))
    assert str(error) == str(raised.value) and error.reason == "not in UTF-8 (line 1, byte 0x92)"


@pytest.mark.parametrize(
    "error", [UserError("a.tar: can't be read (x: y)"), UnreadableFile("a.tar: can't be read (x: y)")]
)
def test_an_error_of_a_loading_process_is_one_line(error):
    try:
        raise error
    except UserError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(UserError) as raised:
        wrapped.reraise()
    assert str(raised.value) == "a.tar: can't be read (x: y)"
