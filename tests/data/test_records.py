"""What people's files hold in place of captions, ids, names and rows: each is read, left out by name, or one line."""

import codecs
import json
import os
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from PIL import Image

from cgan.cli import run
from cgan.data.checking import check_entries
from cgan.data.pictures import LONGEST_SHOWN, Skipped, summary, with_captions
from cgan.data.preparation import ShardOptions, write_shards
from cgan.data.readers.folder import NoCaptions, read_folder
from cgan.data.records import captions_from, id_from, image_id_of, printable
from cgan.data.sources import DataConfig, build_dataset, read_entries
from cgan.interfaces import UserError

pytestmark = pytest.mark.usefixtures("cache")


def picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(file)


def captioned(entries) -> dict[str, list[str]]:
    return {entry.name: entry.captions for entry in with_captions(entries)[0]}


def skipped(entries) -> list[Skipped]:
    return with_captions(entries)[1]


def error_of(read, *arguments) -> str:
    with pytest.raises(UserError) as error:
        read(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("value", "captions"),
    [
        (" a dog \n", ["a dog"]),
        (["a dog", None, float("nan"), "  ", "a cat"], ["a dog", "a cat"]),
        (None, []),
        (float("nan"), []),
        ([], []),
        ("", []),
    ],
)
def test_absent_captions_are_none(value, captions):
    assert captions_from(value, "here") == captions


@pytest.mark.parametrize(
    ("value", "kind"),
    [(7, "a number"), (True, "true or false"), ({"en": "x"}, "an object"), ([["x"]], "a list"), (b"", "of type bytes")],
)
def test_a_caption_that_is_no_text_is_one_line(value, kind):
    assert error_of(captions_from, value, "a.jsonl, line 3") == f"a.jsonl, line 3: a caption is {kind}, not text"


def test_ids_of_any_kind_tell_pictures_apart():
    given = [0, 7, -3, 2**63, 2**80, "a", "007", "7a", "picture 12", 1.5, "-0"]
    numbers = [image_id_of(value, "here") for value in given]
    assert len(set(numbers)) == len(given) and numbers[:3] == [0, 7, -3]
    assert all(-(2**63) <= number < 2**63 for number in numbers)


def test_the_same_id_in_another_form_is_the_same_picture():
    assert len({image_id_of(value, "here") for value in (7, 7.0, "7")}) == 1
    assert id_from(2.0**70) == 2**70 and id_from("12") == 12


@pytest.mark.parametrize("value", [None, float("nan"), True, [], {}, ""])
def test_what_is_no_id_is_one_line(value):
    assert id_from(value) is None and error_of(image_id_of, value, "here").startswith("here: an id is ")


def test_a_name_that_no_terminal_takes_is_made_printable():
    name = os.fsdecode(b"caf\xe9\n\x1b.png")
    assert printable(name) == "caf\ufffd\ufffd\ufffd.png" and printable("Käfer 虫 👨‍👩‍👧") == "Käfer 虫 👨‍👩‍👧"


def test_a_summary_counts_by_kind_and_shows_what_is_known_of_one():
    left = [Skipped("a", "too large (196 megapixels)"), Skipped("b", "too large (300 megapixels)"), Skipped("c", "x")]
    assert summary(left) == "2 too large (such as a, 196 megapixels), 1 x (such as c)"
    assert len(summary([Skipped("a" * 300, "missing")])) < LONGEST_SHOWN + 30


# ------------------------------------------------------------------------------------------------ folders


def test_suffixes_in_any_case_and_of_windows_are_read(tmp_path):
    for name in ("UPPER.JPG", "a.jfif", "b.avif", "c.jp2", "d.Tiff"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
        (tmp_path / name).with_suffix(".TXT" if name == "UPPER.JPG" else ".txt").write_text("a dog")
    data = build_dataset(DataConfig("folder", str(tmp_path), resolution=32))
    assert len(data) == 5 and data.skipped == []


def test_pictures_and_texts_that_are_of_no_use_are_named(tmp_path):
    picture(tmp_path / "sub" / "a.png")
    (tmp_path / "sub" / "a.txt").write_text("a dog")
    (tmp_path / "notes").mkdir()
    for name in ("b.heic", "b.txt", "sub/c.SVG", "README.txt", "notes.md", "notes/todo.txt"):
        (tmp_path / name).write_text("")
    assert sorted(skipped(read_folder(tmp_path))) == [
        ("b.heic", "of a format that is not read (.heic)"),
        ("b.txt", "captions of no picture"),
        (f"sub{os.sep}c.SVG", "of a format that is not read (.svg)"),
    ]


def test_a_check_of_nothing_is_a_fault(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    assert list(check_entries(read_folder(tmp_path), 1, lambda *_: None)) == ["no usable picture is left"]


def test_a_folder_without_captions_is_told_from_one_with_broken_ones(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(NoCaptions, match="no captions; add metadata.jsonl"):
        read_folder(tmp_path)


TEXTS = {
    "mark.txt": codecs.BOM_UTF8 + "a grüner dog".encode(),
    "sixteen.txt": codecs.BOM_UTF16_LE + "a green dog".encode("utf-16-le"),
    "windows.txt": b"a dog\x92s tail",
    "unmarked.txt": "a dog".encode("utf-16-le"),
}


def test_texts_in_any_marked_encoding_are_read_and_others_are_named(tmp_path):
    for name, content in TEXTS.items():
        picture((tmp_path / name).with_suffix(".png"))
        (tmp_path / name).write_bytes(content)
    entries = read_folder(tmp_path)
    assert captioned(entries) == {"mark.png": ["a grüner dog"], "sixteen.png": ["a green dog"]}
    assert skipped(entries) == [
        ("unmarked.txt", "with a zero byte, as UTF-16 without its mark has (line 1)"),
        ("windows.txt", "not in UTF-8 (line 1, byte 0x92)"),
    ]


def test_captions_that_may_not_be_read_are_named(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a dog")

    def forbid(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbid)
    assert skipped(read_folder(tmp_path)) == [("a.txt", "without permission to read")]


def test_a_folder_that_may_not_be_looked_into_is_one_line(tmp_path, monkeypatch):
    def forbid(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", forbid)
    assert "can't be looked into (Permission denied)" in error_of(read_folder, tmp_path)


def test_a_second_metadata_file_is_named(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}')
    (tmp_path / "metadata.csv").write_text("file_name,text\nb.png,y\n")
    assert skipped(read_folder(tmp_path)) == [("metadata.csv", "captions that are not read beside metadata.jsonl")]


# ------------------------------------------------------------------------------------------------ metadata


def of_csv(folder: Path, content: str) -> list:
    (folder / "metadata.csv").write_text(content)
    return read_folder(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file_name,text\na.png,a dog, brown\n", "metadata.csv, line 2: 3 fields, but 2 columns"),
        ('file_name,text\na.png,x\nb.png,"y\nc.png,a 12" z\n', "metadata.csv, line 3: a row begins that can't"),
        ('file_name,text\na.png,"x\nb.png,y\nc.png,z\n', "metadata.csv, line 2: a row begins that can't"),
        ('file_name,text\na.png,"x\nb.PNG,y"\nc.png,z\n', "metadata.csv, line 2: a quote begins that swallows"),
        ("file_name;text\na.png;x\n", "it has 'file_name;text'; separate them by commas"),
        ("file,caption\na.png,x\n", "must name the columns file_name and text; it has 'file', 'caption'"),
        ("", "must name the columns file_name and text; it has nothing"),
    ],
)
def test_a_csv_that_loses_captions_or_pictures_is_one_line_with_its_line(tmp_path, content, said):
    assert said in error_of(of_csv, tmp_path, content)


def test_a_csv_may_have_blanks_round_its_columns_other_columns_and_line_breaks(tmp_path):
    rows = ' id , text,file_name \n1,"a dog,\nbrown; on grass.",a.png\n\n2,,b.png\n3,x,\n'
    entries = of_csv(tmp_path, rows)
    assert captioned(entries) == {"a.png": ["a dog,\nbrown; on grass."]}
    assert skipped(entries) == [
        ("b.png", "no caption"),
        (f"{tmp_path / 'metadata.csv'}, line 6", "without file_name"),
    ]


def test_a_csv_in_utf16_is_read(tmp_path):
    (tmp_path / "metadata.csv").write_bytes(codecs.BOM_UTF16_LE + "file_name,text\r\na.png,ü\r\n".encode("utf-16-le"))
    assert captioned(read_folder(tmp_path)) == {"a.png": ["ü"]}


def of_jsonl(folder: Path, *lines: str) -> list:
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return read_folder(folder)


def test_what_pandas_writes_for_nothing_is_no_caption(tmp_path):
    lines = ['{"file_name": "a", "text": NaN}', '{"file_name": "b", "text": ["a cat", null, NaN]}']
    entries = of_jsonl(tmp_path, *lines, '{"file_name": NaN, "text": "x"}')
    assert captioned(entries) == {"b": ["a cat"]}
    assert [reason for _, reason in skipped(entries)] == ["no caption", "without file_name"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"file_name": "a", "text": {"en": "x"}}', "metadata.jsonl, line 2: a caption is an object, not text"),
        ('{"file_name": "a", "text": 7}', "metadata.jsonl, line 2: a caption is a number, not text"),
        ('{"file_name": 7, "text": "x"}', "metadata.jsonl, line 2: file_name is a number, not text"),
        ('["a", "x"]', "metadata.jsonl, line 2: expected"),
        ('{"file_name": "a"}', "metadata.jsonl, line 2: expected"),
        ('{"file_name": ', "metadata.jsonl, line 2, column"),
    ],
)
def test_a_line_of_another_shape_is_one_line_with_its_number(tmp_path, line, said):
    assert said in error_of(of_jsonl, tmp_path, '{"file_name": "b", "text": "x"}', line)


def test_parquet_may_hold_nothing_and_must_hold_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = ["a", "b", None]
    file = tmp_path / "metadata.parquet"
    parquet.write_table(pyarrow.table({"file_name": names, "text": [["x", None], None, ["y"]]}), file)
    entries = read_folder(tmp_path)
    assert captioned(entries) == {"a": ["x"]}
    assert skipped(entries) == [("b", "no caption"), (f"{file}, row 3", "without file_name")]
    parquet.write_table(pyarrow.table({"file_name": names, "text": [1, 2, 3]}), file)
    assert "metadata.parquet, row 1: a caption is a number" in error_of(read_folder, tmp_path)


def test_a_name_that_is_not_there_is_shown_as_it_was_looked_for(tmp_path):
    picture(tmp_path / "p0.png")
    long = "a dog, " * 50
    of_jsonl(tmp_path, *(json.dumps({"file_name": name, "text": "x"}) for name in ("train/p0.png", long, "a\0b")))
    message = error_of(build_dataset, DataConfig("folder", str(tmp_path), resolution=32))
    assert message.endswith(f"{tmp_path}: no usable picture; 3 missing (such as train/p0.png)")


def test_a_name_that_is_no_utf8_can_be_printed_in_every_message(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    picture(tmp_path / "a.png")
    for file, content in ((f"{name}.png", "broken"), (f"{name}.txt", "a coffee"), ("a.txt", "a dog")):
        (tmp_path / file).write_text(content)
    data = build_dataset(DataConfig("folder", str(tmp_path), resolution=32))
    faults = list(check_entries(read_folder(tmp_path), 1, lambda *_: None))
    assert summary(data.skipped).encode() and "".join(faults).encode() and "caf\ufffd.png: damaged" in faults[0]


# ------------------------------------------------------------------------------------------------ annotations


def coco(folder: Path, images: object, annotations: object, mark: bytes = b"") -> list:
    file = folder / "captions.json"
    file.write_bytes(mark + json.dumps({"images": images, "annotations": annotations}).encode())
    return read_entries(DataConfig("coco", str(folder), str(file)), None)


def rows(*ids: object) -> list[dict]:
    return [{"id": 10 + i, "image_id": image_id, "caption": f"thing {i}"} for i, image_id in enumerate(ids)]


def files(*ids: object) -> list[dict]:
    return [{"id": image_id, "file_name": f"p{i}.png"} for i, image_id in enumerate(ids)]


THINGS = {"p0.png": ["thing 0"], "p1.png": ["thing 1"]}


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        (files("0", "1"), rows("0", "1")),
        (files(0, 1), rows("0", "1")),
        (files(0.0, 1.0), rows(0, 1)),
        (files("a", "b"), rows("a", "b")),
        (files(2**70, 2**71), rows(2**70, 2**71)),
    ],
)
def test_coco_of_others_is_read_with_ids_of_any_kind(tmp_path, images, annotations):
    for name in THINGS:
        picture(tmp_path / name)
    entries = coco(tmp_path, images, annotations, codecs.BOM_UTF8)
    assert captioned(entries) == THINGS and skipped(entries) == []
    data = build_dataset(DataConfig("coco", str(tmp_path), str(tmp_path / "captions.json"), resolution=32))
    assert len({data[i].image_id for i in range(2)}) == 2


def test_coco_names_pictures_without_caption_and_captions_without_picture(tmp_path):
    annotations = [*rows(0), {"id": 11, "image_id": 1, "caption": None}, {"id": 12, "image_id": 9, "caption": "x"}]
    entries = coco(tmp_path, files(0, 1), annotations)
    assert captioned(entries) == {"p0.png": ["thing 0"]}
    assert skipped(entries) == [("p1.png", "no caption"), ("image_id 9", "captions of no picture")]


@pytest.mark.parametrize(
    ("images", "annotations", "said"),
    [
        ([{"id": 0}], [], "images[0]: no file_name"),
        ([{"id": 0, "file_name": None}], [], "images[0]: file_name is null, not text"),
        ([{"id": None, "file_name": "a"}], [], "images[0]: an id is null"),
        (["a"], [], "images[0]: text, not an object"),
        ({"a": 1}, [], "the file: images is an object, not a list"),
        (files(0), [{"id": 1, "image_id": 0}], "annotations[0]: no caption"),
        (files(0), [{"id": 1, "image_id": 0, "caption": 7}], "annotations[0]: a caption is a number, not text"),
        (files(0), [{"id": 1, "caption": "x"}], "annotations[0]: no image_id"),
        (files(0), [None], "annotations[0]: null, not an object"),
    ],
)
def test_coco_of_another_shape_is_one_line_with_the_record(tmp_path, images, annotations, said):
    message = error_of(coco, tmp_path, images, annotations)
    assert message.startswith(f"{tmp_path / 'captions.json'}: not a COCO captions file; ") and said in message


def karpathy(folder: Path, *images: object) -> list:
    file = folder / "dataset.json"
    file.write_bytes(codecs.BOM_UTF8 + json.dumps({"images": images}).encode())
    return read_entries(DataConfig("karpathy", str(folder), str(file)), None)


def test_karpathys_layout_of_others_is_read(tmp_path):
    common = {"split": "train", "filepath": None}
    entries = karpathy(
        tmp_path,
        {**common, "filename": "p0.png", "imgid": "first", "sentences": [{"raw": "x"}, {"raw": None}]},
        {**common, "filename": "p1.png", "imgid": 2.0, "filepath": "val", "sentences": [{"raw": "y"}]},
        {**common, "filename": "p2.png", "imgid": 3, "sentences": [{"raw": None}]},
    )
    assert captioned(entries) == {"p0.png": ["x"], "val/p1.png": ["y"]}
    assert skipped(entries) == [("p2.png", "no caption")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"imgid": None}, "images[0]: an id is null"),
        ({"sentences": None}, "images[0]: sentences is null, not a list"),
        ({"sentences": ["x"]}, "images[0], sentences[0]: text, not an object"),
        ({"sentences": [{"raw": 7}]}, "images[0]: a caption is a number"),
        ({"split": 1}, "images[0]: split is a number, not text"),
        ({"filename": None}, "images[0]: filename is null, not text"),
        ({"filepath": 7}, "images[0]: filepath is a number, not text"),
    ],
)
def test_karpathys_layout_in_another_shape_is_one_line_with_the_record(tmp_path, change, said):
    image = {"filename": "p0.png", "imgid": 0, "split": "train", "sentences": [{"raw": "x"}]}
    message = error_of(karpathy, tmp_path, {**image, **change})
    assert "dataset.json: not a file of Karpathy's splits; " in message and said in message


def test_flickrs_csv_may_lack_its_header_or_be_in_utf16(tmp_path):
    file = tmp_path / "results.CSV"
    file.write_bytes(codecs.BOM_UTF16_LE + "a.jpg| 0| ein Hund\r\nb.jpg| 0| 犬\r\n".encode("utf-16-le"))
    entries = read_entries(DataConfig("flickr30k", str(tmp_path), str(file)), None)
    assert captioned(entries) == {"a.jpg": ["ein Hund"], "b.jpg": ["犬"]}


# ------------------------------------------------------------------------------------------------ birds and flowers


def birds(root: Path, list_content: bytes) -> list:
    for name in ("001.Dog/Dog_0", "002.Cat/Cat_0"):
        picture(root / "images" / f"{name}.JPG")
        (root / "text" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "text" / f"{name}.TXT").write_text(f"a {name[4:7]}")
    (root / "some.txt").write_bytes(list_content)
    return read_entries(DataConfig("cub", str(root)), "some")


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + b"001.Dog\r\n002.Cat\r\n",
        codecs.BOM_UTF16_LE + "001.Dog\r\n002.Cat\r\n".encode("utf-16-le"),
        b"Dog_0\n002.Cat/Cat_0.JPG",
    ],
)
def test_a_list_of_birds_in_any_encoding_loses_none(tmp_path, content):
    assert captioned(birds(tmp_path, content)) == {"001.Dog/Dog_0.JPG": ["a Dog"], "002.Cat/Cat_0.JPG": ["a Cat"]}


def test_lines_of_a_list_that_fit_nothing_are_named(tmp_path):
    entries = birds(tmp_path, b"001.Dog\n002.Cta\n")
    assert list(captioned(entries)) == ["001.Dog/Dog_0.JPG"]
    assert skipped(entries) == [("some.txt, line 2: 002.Cta", "of no class or picture")]


def test_birds_that_the_published_lists_leave_out_are_named(tmp_path):
    birds(tmp_path, b"")
    (tmp_path / "images.txt").write_text("1 001.Dog/Dog_0.JPG\n3 003.Fox/Fox_0.JPG\n")
    (tmp_path / "train_test_split.txt").write_text("1 1\n")
    everything = read_entries(DataConfig("cub", str(tmp_path)), None)
    assert sorted(skipped(everything)) == [
        ("002.Cat/Cat_0.JPG", "not in images.txt"),
        (f"002.Cat{os.sep}Cat_0.TXT", "captions of no picture"),
        ("003.Fox/Fox_0.JPG", "no caption"),
    ]
    train = read_entries(DataConfig("cub", str(tmp_path)), "train")
    assert list(captioned(train)) == ["001.Dog/Dog_0.JPG"]
    assert skipped(train) == [("003.Fox/Fox_0.JPG", "on no side in train_test_split.txt")]
    (tmp_path / "images.txt").write_text("1 001.Dog/Dog_0.JPG\n2\n")
    assert "images.txt, line 2: expected a number and a name" in error_of(
        read_entries, DataConfig("cub", str(tmp_path)), None
    )


# ------------------------------------------------------------------------------------------------ datasets


def test_rows_of_datasets_may_hold_nothing_and_must_hold_text(tmp_path):
    datasets = pytest.importorskip("datasets")
    pictures = [{"bytes": b"x", "path": None}] * 3

    def saved(texts: list, kind) -> list:
        features = datasets.Features({"image": datasets.Image(), "text": kind})
        folder = tmp_path / str(len(os.listdir(tmp_path)))
        datasets.Dataset.from_dict({"image": pictures, "text": texts}, features).save_to_disk(folder)
        return read_entries(DataConfig("datasets", str(folder)), None)

    entries = saved([["x", None], None, ["y"]], [datasets.Value("string")])
    assert [entry.captions for entry in entries] == [["x"], [], ["y"]]
    with pytest.raises(UserError, match="row 0: a caption is a number, not text"):
        saved([1, 2, 3], datasets.Value("int64"))


# ------------------------------------------------------------------------------------------------ preparation


def test_preparing_names_what_is_missing_and_what_is_too_long(tmp_path):
    picture(tmp_path / "p0.png")
    Image.new("L", (4000, 2)).save(tmp_path / "line.png")
    names = ["x/p0.png", "a dog, " * 50, "line.png"]
    entries = of_jsonl(tmp_path, *(json.dumps({"file_name": name, "text": "x"}) for name in names))
    message = error_of(write_shards, entries, tmp_path / "out", ShardOptions(64, crop="none"), 1, lambda *_: None)
    assert (
        "no usable picture; 2 missing (such as x/p0.png), 1 too long to be stored at 64 px (such as line.png)"
        in message
    )


def test_a_command_prints_any_name(monkeypatch):
    stream = TextIOWrapper(BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    run(lambda _: print(os.fsdecode(b"caf\xe9.png"), flush=True))
    assert stream.buffer.getvalue() == b"caf\\udce9.png\n"
