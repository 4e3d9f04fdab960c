"""Folders of shards with two writers, on full disks, and after what kills and damages them."""

import argparse
import os
import shutil
import signal
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from cgan.cli.prepare import main, write
from cgan.data.checking import check_shards
from cgan.data.pictures import Entry
from cgan.data.preparation import LOCK, ShardOptions, write_shards
from cgan.data.shards import ShardedPictures, index_of, sidecar_of, tars_in
from cgan.errors import UserError
from cgan.files import CannotWrite, one_at_a_time, temporary_name
from helpers import pictures as made
from helpers.disks import NO_PROCESS, contents, full_disk
from helpers.pictures import no_one, some_pictures

MANIFEST = "manifest.json"
shards_of = partial(made.shards_of, num_workers=1, shard_size=2)  # three shards of two pictures each


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return some_pictures(tmp_path_factory.mktemp("source") / "pictures")


@pytest.fixture(scope="module")
def whole(pictures):
    """A finished folder of shards, to compare with."""
    shards_of(pictures, pictures.with_name("whole"))
    return pictures.with_name("whole")


@pytest.fixture
def out(whole, tmp_path):
    """A finished folder of shards, to damage."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr("cgan.data.preparation.PATIENCE", 0.05)


def stopped(root, out):
    """A folder that was left after its first shard."""

    def stop(*numbers):
        if (out / "shard-00000.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards_of(root, out, advance=stop)


def line_of(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------------------------------------- two writers


@pytest.mark.parametrize("state", ["new", "begun", "finished"])
def test_a_second_preparation_of_a_folder_is_one_line_and_touches_nothing(tmp_path, pictures, whole, state):
    out = tmp_path / "out"
    out.mkdir()
    if state != "new":
        stopped(pictures, out)
    if state == "finished":
        shards_of(pictures, out)
    with one_at_a_time(out / LOCK, no_one):
        before = contents(out)
        with pytest.raises(UserError, match="another cgan prepare is writing into it; wait for it") as error:
            shards_of(pictures, out)
        assert line_of(error) and contents(out) == before
    shards_of(pictures, out)
    assert contents(out) == contents(whole)


@pytest.mark.parametrize("patience", [0, 30])
def test_two_preparations_at_once_end_in_one_whole_folder(tmp_path, pictures, whole, monkeypatch, patience):
    monkeypatch.setattr("cgan.data.preparation.PATIENCE", patience)
    context = get_context("fork")
    both = [context.Process(target=shards_of, args=(pictures, tmp_path / "out")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert 0 in [process.exitcode for process in both]
    assert contents(tmp_path / "out") == contents(whole)
    assert list(check_shards(tmp_path / "out", 1, no_one)) == []


def test_a_folder_that_holds_a_lock_alone_is_new(tmp_path, pictures):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).touch()
    shards_of(pictures, tmp_path / "out")
    assert not [name for name in contents(tmp_path / "out") if name.startswith(".")]


def test_a_folder_of_something_else_gets_no_lock(tmp_path, pictures):
    before = contents(pictures)
    with pytest.raises(UserError, match="there is something else"):
        shards_of(pictures, pictures)
    assert contents(pictures) == before


def test_what_killed_preparations_left_is_removed_at_the_next_start(tmp_path, pictures, whole):
    out = tmp_path / "out"
    stopped(pictures, out)
    abandoned = temporary_name(out / "shard-00001.tar").name.replace(f"-{os.getpid()}-", f"-{NO_PROCESS}-")
    for name in (abandoned, "shard-00001.tar.tmp", "shard-00000.json.tmp", "unfinished.json.tmp", "manifest.json.tmp"):
        (out / name).write_bytes(b"half")
    shards_of(pictures, out)
    assert contents(out) == contents(whole)


# ---------------------------------------------------------------------------------------------- disks and workers


def test_a_full_disk_is_one_line_and_what_is_whole_stays(tmp_path, pictures, whole):
    out = tmp_path / "out"
    stopped(pictures, out)
    before = contents(out)
    said = "shard-00001.tar can't be written: the disk is full"
    with full_disk(5_000), pytest.raises(CannotWrite, match=said) as error:
        shards_of(pictures, out)
    assert "run the same again, and it goes on" in line_of(error) and contents(out) == before
    shards_of(pictures, out)
    assert contents(out) == contents(whole)


@pytest.mark.parametrize("place", ["file", "file/below", "n" * 300])
def test_a_folder_that_can_not_be_written_is_one_line_before_any_work(tmp_path, pictures, place):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="give --out") as error:
        shards_of(pictures, tmp_path / place)
    assert line_of(error)


def test_a_picture_whose_name_no_file_can_have_is_not_the_fault_of_out(tmp_path):
    entry = Entry(tmp_path / ("n" * 300), ["a thing"], 0)
    with pytest.raises(UserError, match="no usable picture; 1 ") as error:
        write_shards([entry], tmp_path / "out", ShardOptions(32), 1, no_one)
    assert "can't be written" not in line_of(error)


def test_an_error_of_reading_names_what_could_not_be_read(tmp_path, pictures, monkeypatch):
    def unreadable(*others):
        raise OSError(5, "Input/output error", "there.tar")

    monkeypatch.setattr("cgan.data.preparation.write_shards", unreadable)
    options = argparse.Namespace(
        settings=["configs/gan/folder.yaml", f"data.root={pictures}"], out=tmp_path / "out", size=32, crop="center",
        format="jpg", quality=95, shard_size=2, workers=1, check=False,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"there.tar: can't be read \(Input/output error\)"):
        write(options)


def test_a_killed_worker_is_one_line_and_the_next_start_goes_on(tmp_path, pictures, monkeypatch):
    def killed(picture, place, options):
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="a worker was killed.*fewer --workers"):
        patch.setattr("cgan.data.preparation.framed", killed)
        shards_of(pictures, tmp_path / "out")
    assert list(contents(tmp_path / "out")) == ["unfinished.json"]
    shards_of(pictures, tmp_path / "out")


# ---------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("manifest", [True, False])
def test_a_shard_of_another_size_than_was_written_is_not_trained_on(tmp_path, out, manifest):
    if not manifest:
        (out / MANIFEST).unlink()
    with (out / "shard-00001.tar").open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(UserError, match="shard-00001.tar: .* bytes instead of the .* states; damaged") as error:
        ShardedPictures(out, 32, tmp_path / "cache")
    assert line_of(error)


def test_shards_of_others_are_read_through_whatever_lies_beside_them(tmp_path, out):
    (out / MANIFEST).unlink()
    expected = index_of(tars_in(out), tmp_path / "one")
    for shard, content in zip(sorted(out.glob("*.tar")), (b"", b'{"url": 1}\n{"url": 2}', b"\xff[]"), strict=True):
        sidecar_of(shard).write_bytes(content)
    assert (index_of(tars_in(out), tmp_path / "two") == expected).all()


def test_shards_are_trained_on_where_the_cache_can_not_be_written(tmp_path, out, caplog):
    (tmp_path / "file").write_text("x")
    data = ShardedPictures(out, 32, tmp_path / "file")
    (line,) = caplog.messages
    assert len(data) == 6 and "set CGAN_CACHE" in line and "made anew each time" in line


DAMAGED = [b"", b"{", b"[]", b"null", b'{"shards": 3}', b'{"shards": [{"name": "shard-00000.tar"}]}', b"\xff\xfe{"]


@pytest.mark.parametrize("content", [*DAMAGED, b'{"shards": [3]}'])
def test_a_damaged_manifest_is_one_line(tmp_path, pictures, out, content):
    (out / MANIFEST).write_bytes(content)
    with pytest.raises(UserError, match="manifest.json: damaged; delete") as error:
        ShardedPictures(out, 32, tmp_path / "cache")
    assert line_of(error)
    assert [fault for fault in check_shards(out, 1, no_one) if "manifest.json: damaged; delete" in fault]
    with pytest.raises(UserError, match="give --out a new folder") as error:
        shards_of(pictures, out)
    assert line_of(error)


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_note_of_what_was_begun_is_one_line(tmp_path, pictures, content):
    out = tmp_path / "out"
    stopped(pictures, out)
    (out / "unfinished.json").write_bytes(content)
    with pytest.raises(UserError, match="give --out a new folder, or delete this one") as error:
        shards_of(pictures, out)
    assert line_of(error)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_sidecar_that_is_cut_off_is_one_line_and_is_made_anew(tmp_path, pictures, out, share):
    whole, sidecar = contents(out), out / "shard-00001.json"
    sidecar.write_bytes(whole[sidecar.name][: int(share * len(whole[sidecar.name]))])
    with pytest.raises(UserError, match="shard-00001.json: damaged; delete it") as error:
        ShardedPictures(out, 32, tmp_path / "cache")
    assert line_of(error)
    assert [fault for fault in check_shards(out, 1, no_one)] == [
        f"{sidecar}: does not fit its tar; delete it and run the same cgan prepare again"
    ]
    shards_of(pictures, out)
    assert contents(out) == whole


@pytest.mark.parametrize("content", ['{"bytes": %d}', "[%d]", "null", '{"samples": %d, "index": [[1]], "bytes": 1}'])
def test_a_sidecar_of_another_kind_does_not_count_as_finished(pictures, out, content):
    whole, sidecar = contents(out), out / "shard-00001.json"
    size = len(whole["shard-00001.tar"])
    sidecar.write_text(content % size if "%" in content else content)
    shards_of(pictures, out)
    assert contents(out) == whole


def test_check_says_nothing_of_a_lock(out, capsys):
    (out / LOCK).touch()
    main(["--check", str(out), "--workers", "1"])
    assert capsys.readouterr().out == "nothing is wrong\n"
