"""Tars that cgan prepare did not write: what can't be used is counted and named, and ends no training."""

import codecs
import errno
import io
import json
import os
import tarfile
from itertools import islice

import pytest
import torch
from PIL import Image

from cgan.data.checking import check_shards
from cgan.data.loading import endless_loader
from cgan.data.pictures import with_captions
from cgan.data.shards import ShardedPictures, read_shards
from cgan.data.sources import DataConfig, build_dataset
from cgan.interfaces import UserError

pytestmark = pytest.mark.usefixtures("cache")


def jpeg(colour="red", size=32):
    content = io.BytesIO()
    Image.effect_noise((size, size), 50).convert("RGB").save(content, "JPEG")
    if colour:
        content = io.BytesIO()
        Image.new("RGB", (size, size), colour).save(content, "JPEG")
    return content.getvalue()


CUT = jpeg(colour=None, size=64)[:900]  # begins as a picture does


def tar(root, members, name="a.tar"):
    """A shard of files by name, in which a name may stand twice."""
    root.mkdir(exist_ok=True)
    with tarfile.open(root / name, "w") as file:
        for path, content in members:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return root


def sample(key, picture, caption=None):
    return [(f"{key}.jpg", picture), (f"{key}.txt", (caption or f"number {key}").encode())]


def faults(root):
    return [fault.removeprefix(f"{root}/") for fault in check_shards(root, 1, lambda *_: None)]


def test_what_is_no_picture_is_left_out_before_the_training(tmp_path, cache):
    members = sample(0, jpeg()) + sample(1, b"broken") + sample(2, b"<html>404</html>") + sample(3, jpeg())
    data = ShardedPictures(tar(tmp_path / "tars", members), 32, cache)
    assert [data.captions_of(i) for i in range(len(data))] == [["number 0"], ["number 3"]]
    assert data.skipped == [(f"a.tar: {i}.jpg", "damaged or not a picture") for i in (1, 2)]
    assert [data[i].image_id for i in range(2)] == [0, 1]


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_damaged_picture_ends_no_training_and_the_next_one_stands_in(tmp_path, cache, num_workers):
    colours = ["red", None, None, "blue"]
    members = [m for i, colour in enumerate(colours) for m in sample(i, jpeg(colour) if colour else CUT)]
    data = ShardedPictures(tar(tmp_path / "tars", members), 32, cache)
    batches = list(islice(endless_loader(data, 4, 0, num_workers), 3))
    assert len(data) == 4
    for batch in batches:
        assert sorted(batch.captions) == ["number 0", "number 3", "number 3", "number 3"]
        assert sorted(batch.image_ids.tolist()) == [0, 3, 3, 3]


def test_each_damaged_picture_is_logged_once(tmp_path, cache, caplog):
    data = ShardedPictures(tar(tmp_path / "tars", sample(0, CUT) + sample(1, jpeg()) + sample(2, CUT)), 32, cache)
    for _ in range(2):
        assert all(torch.equal(data[i].image, data[1].image) for i in range(3))
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == 2 and "a.tar at byte" in logged[0]
    assert "damaged or not a picture; the next picture replaces it (2 so far)" in logged[1]


def test_parts_share_what_is_known_and_take_stand_ins_from_themselves(tmp_path, cache):
    members = [m for i in range(8) for m in sample(i, CUT if i % 2 else jpeg())]
    data = ShardedPictures(tar(tmp_path / "tars", members), 32, cache)
    parts = data.split(4, 0)
    for part in parts:
        own = {part.captions_of(i)[0] for i in range(4)}
        assert {part[i].captions[0] for i in range(4)} <= own
    assert all(part.damaged is data.damaged for part in parts)


def test_nothing_but_damaged_pictures_is_one_line(tmp_path, cache):
    data = ShardedPictures(tar(tmp_path / "tars", sample(0, CUT) + sample(1, CUT)), 32, cache)
    with pytest.raises(UserError, match="tars: 2 pictures in a row can't be used; cgan prepare --check"):
        data[0]
    with pytest.raises(UserError, match="no picture with a caption in its 1 shards; 1 damaged or not a picture"):
        ShardedPictures(tar(tmp_path / "others", sample(0, b"broken")), 32, cache)


def test_samples_without_caption_or_picture_are_counted_and_named(tmp_path, cache):
    members = [*sample("a", jpeg()), ("b.jpg", jpeg()), ("c.txt", b"a dog"), ("d.jpg", jpeg()), ("d.txt", b" ")]
    members += [("e.1.jpg", jpeg()), ("README", b"not a sample"), ("f.json", b'{"text": null}'), ("f.png", jpeg())]
    root = tar(tmp_path / "tars", members)
    left = [("a.tar: b.jpg", "no caption"), ("a.tar: c.txt", "no picture"), ("a.tar: d.jpg", "no caption")]
    left += [("a.tar: e.1.jpg", "no picture"), ("a.tar: f.json", "no caption")]
    assert ShardedPictures(root, 32, cache).skipped == left
    assert with_captions(read_shards(root, cache))[1] == left
    assert len(faults(root)) == len(left) + 1  # e has neither


def test_a_key_that_is_there_twice_loses_no_picture_and_is_named(tmp_path, cache):
    members = sample(0, jpeg("red"), "red") + sample(0, jpeg("blue"), "blue")
    members += [("1.jpg", jpeg("red")), ("1.png", jpeg("blue")), ("1.txt", b"both")]
    root = tar(tmp_path / "tars", members)
    data = ShardedPictures(root, 32, cache)
    assert [data.captions_of(i) for i in range(len(data))] == [["red"], ["blue"], ["both"], ["both"]]
    assert [int(data[i].image[0, 0, 0]) > 128 for i in range(4)] == [True, False, True, False]
    assert faults(root) == [f"a.tar, sample {key}: is there 2 times" for key in (0, 1)]


@pytest.mark.parametrize("given", [2**70, "picture 7", 7.0, None, [], True])
def test_ids_of_any_kind_are_taken_or_the_row_counts(tmp_path, cache, given):
    about = json.dumps({"caption": "a dog", "image_id": given}).encode()
    data = ShardedPictures(tar(tmp_path / "tars", [("a.jpg", jpeg()), ("a.json", about)]), 32, cache)
    batch = next(iter(endless_loader(data, 1, 0)))
    assert batch.image_ids.dtype == torch.int64
    assert given in (2**70, "picture 7") or int(batch.image_ids) == (7 if given == 7.0 else 0)


@pytest.mark.parametrize(
    ("name", "content", "captions"),
    [
        ("a.txt", codecs.BOM_UTF16_LE + "ein grüner Hund".encode("utf-16-le"), ["ein grüner Hund"]),
        ("a.json", codecs.BOM_UTF8 + b'{"caption": "a dog"}', ["a dog"]),
        ("a.json", b'{"captions": ["a dog", null, NaN], "caption": "x"}', ["a dog"]),
        ("a.json", b'{"captions": [null], "caption": NaN, "text": "a dog"}', ["a dog"]),
        ("a.JSON", b'{"caption": "a dog"}', ["a dog"]),
    ],
)
def test_captions_in_any_form_are_read(tmp_path, cache, name, content, captions):
    root = tar(tmp_path / "tars", [("a.JPG", jpeg()), (name, content)], "a.TAR")
    assert ShardedPictures(root, 32, cache).captions_of(0) == captions and faults(root) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("b.txt", b"a dog\x92s tail", "line 1: byte 0x92 is not in UTF-8"),
        ("b.json", b"{", "column 2: not JSON"),
        ("b.json", b'{"caption": {"en": "x"}}', "a caption is an object, not text"),
        ("b.json", b'{"captions": [7]}', "a caption is a number, not text"),
    ],
)
def test_captions_that_cant_be_read_are_counted_and_the_check_says_why(tmp_path, cache, name, content, said):
    root = tar(tmp_path / "tars", [*sample("a", jpeg()), ("b.jpg", jpeg()), (name, content)])
    data = ShardedPictures(root, 32, cache)
    assert len(data) == 1 and data.skipped == [("a.tar: b.jpg", "captions that can't be read")]
    (fault,) = faults(root)
    assert fault.startswith("a.tar, sample b: captions that can't be read (at byte") and said in fault


def test_a_text_stands_in_for_a_json_that_cant_be_read(tmp_path, cache):
    members = [("a.jpg", jpeg()), ("a.json", b"{"), ("a.txt", b"a dog")]
    assert ShardedPictures(tar(tmp_path / "tars", members), 32, cache).captions_of(0) == ["a dog"]


def test_a_shard_without_samples_and_a_compressed_one_are_named_by_the_check(tmp_path):
    root = tar(tmp_path / "tars", [("README", b"x")])
    (root / "b.tar.gz").write_bytes(b"")
    assert faults(root) == [
        "b.tar.gz: compressed, so it is not read; unpack it into a .tar",
        "a.tar: holds no picture with a caption",
    ]


def test_a_failing_disk_is_one_line_and_no_damage(tmp_path, cache, monkeypatch):
    data = build_dataset(DataConfig("shards", str(tar(tmp_path / "tars", sample(0, jpeg()))), resolution=32))

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(UserError, match="a.tar: can't be read .Input/output error"):
        data[0]
    assert not data.damaged
