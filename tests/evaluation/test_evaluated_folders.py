"""Folders and captions files that are measured or searched, as people have them: used, told, or one line."""

import codecs
import json
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from cgan.data.sources import DataConfig, build_dataset
from cgan.evaluation.images import (
    eval_set_of_ids,
    fixed_caption_ids,
    pictures_of_folder,
    read_caption_ids,
)
from cgan.evaluation.loop import of_files
from cgan.interfaces import UserError
from cgan.retrieval import pictures_in

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def folder(tmp_path):
    """Four pictures of 40 x 30, each in another way."""
    root = tmp_path / "pictures"
    root.mkdir()
    info = PngImagePlugin.PngInfo()
    info.add(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 2**21))
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 30), "red").save(root / "a.PNG", pnginfo=info)
    Image.new("RGB", (30, 40), "red").save(root / "b.JFIF", exif=exif)
    Image.fromarray(np.full((30, 40), 1, np.float32)).save(root / "c.tif")
    Image.new("RGB", (40, 30), "red").save(root / "d.avif")
    return root


@pytest.mark.parametrize("resolution", [None, 32])
def test_pictures_of_every_kind_are_measured(folder, resolution):
    pictures = pictures_of_folder(folder, resolution)
    images = pictures.load(torch.arange(4))
    size = (30, 40) if resolution is None else (32, 32)
    assert images.shape == (4, 3, *size) and images[2].min() == 255
    assert images[[0, 1, 3], 0].min() > 240 and images[[0, 1, 3], 1:].max() < 20


@pytest.mark.parametrize("resolution", [None, 32])
def test_a_picture_that_is_too_large_ends_measuring_in_one_line(folder, resolution, monkeypatch):
    Image.new("L", (40, 30)).save(folder / "e.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(UserError, match=r"a.PNG: too large \(0 megapixels\); mend it, or take it out") as error:
        of_files([folder / "a.PNG"], resolution).load(torch.tensor([0]))
    assert "\n" not in str(error.value)


def test_pictures_of_several_sizes_as_seen_are_one_line(folder):
    Image.new("RGB", (30, 40)).save(folder / "e.png")
    with pytest.raises(UserError, match="pictures of several sizes .a.PNG 40x30, e.png 30x40"):
        pictures_of_folder(folder, None)


def caption_all(folder, but=()):
    for file in list(folder.iterdir()):
        if file.name not in but:
            file.with_suffix(".txt").write_text(f"of {file.stem}")


def test_captions_of_a_folder_are_taken_and_none_are_no_mistake(folder, caplog):
    assert pictures_of_folder(folder, 32).captions is None and not caplog.records
    caption_all(folder)
    assert pictures_of_folder(folder, 32).captions == [f"of {name}" for name in "abcd"] and not caplog.records


def test_captions_that_some_pictures_lack_are_not_used_and_that_is_told(folder, caplog):
    caption_all(folder, but=["c.tif"])
    (folder / "d.txt").write_bytes(b"\x92")
    assert pictures_of_folder(folder, 32).captions is None
    (told,) = [record.getMessage() for record in caplog.records]
    assert "its captions are not used, as 2 of 4 pictures have none (such as c.tif)" in told
    assert "1 not in UTF-8 (such as d.txt, line 1, byte 0x92)" in told


def test_captions_that_cant_be_understood_are_not_used_and_that_is_told(folder, caplog):
    (folder / "metadata.csv").write_text("name,caption\na.PNG,x\n")
    assert pictures_of_folder(folder, 32).captions is None
    (told,) = [record.getMessage() for record in caplog.records]
    assert "must name the columns file_name and text" in told and "are not used" in told


def test_pictures_of_formats_that_are_not_read_are_told(folder, caplog):
    (folder / "x.heic").write_bytes(b"")
    assert pictures_of_folder(folder, 32).count == 4
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.endswith("not measured: 1 of a format that is not read (such as x.heic, .heic)")


def test_a_searched_folder_takes_suffixes_in_any_case(folder):
    (folder / "sub.png").mkdir()
    (folder / "x.heic").write_bytes(b"")
    files, skipped = pictures_in(folder)
    assert [file.name for file in files] == ["a.PNG", "b.JFIF", "c.tif", "d.avif"]
    assert skipped == [("x.heic", "of a format that is not read (.heic)")]


# ------------------------------------------------------------------------------------------------ caption ids


def captions_file(folder, image_ids, caption_ids, mark=b""):
    images = [{"id": image_id, "file_name": f"{i}.png"} for i, image_id in enumerate(image_ids)]
    annotations = [
        {"id": caption_id, "image_id": image_id, "caption": f" thing {i}\n"}
        for i, (caption_id, image_id) in enumerate(zip(caption_ids, image_ids, strict=True))
    ]
    for i in range(len(images)):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    file = folder / "captions.json"
    file.write_bytes(mark + json.dumps({"images": images, "annotations": annotations}).encode())
    return file


@pytest.mark.parametrize(
    ("image_ids", "caption_ids"), [([1, 2], [7, 9]), (["a", "b"], ["x", "y"]), ([2**70, 2**71], [2**80, 9])]
)
def test_ids_of_any_kind_are_drawn_written_and_found_again(tmp_path, image_ids, caption_ids):
    file = captions_file(tmp_path, image_ids, caption_ids, codecs.BOM_UTF8)
    ids = fixed_caption_ids(file, 2)
    assert sorted(ids) == sorted(caption_ids)
    (tmp_path / "ids.json").write_bytes(codecs.BOM_UTF8 + json.dumps(ids).encode())
    assert read_caption_ids(tmp_path / "ids.json") == ids
    dataset = build_dataset(DataConfig("coco", str(tmp_path), str(file), resolution=32))
    eval_set = eval_set_of_ids(dataset, file, ids)
    assert [eval_set.captions[i] for i in np.argsort(eval_set.places)] == ["thing 0", "thing 1"]


def test_ids_one_a_line_in_utf16_are_read(tmp_path):
    (tmp_path / "ids.txt").write_bytes(codecs.BOM_UTF16_LE + "7\r\n9\r\n".encode("utf-16-le"))
    assert read_caption_ids(tmp_path / "ids.txt") == [7, 9]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected a list of caption ids, as JSON or one a line; there is none"),
        ("[1, null]", "one a line; null is no id"),
        ("[1, [2]]", "one a line; a list is no id"),
        ("[1,", "ids.json, line 1, column 4: not a list of caption ids"),
    ],
)
def test_a_list_that_is_none_is_one_line(tmp_path, content, said):
    (tmp_path / "ids.json").write_text(content)
    with pytest.raises(UserError) as error:
        read_caption_ids(tmp_path / "ids.json")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_captions_without_ids_are_one_line(tmp_path):
    file = captions_file(tmp_path, [1, 2], [7, None])
    with pytest.raises(UserError, match="holds a caption without an id"):
        fixed_caption_ids(file, 1)
