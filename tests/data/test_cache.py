"""The cache: written in order, by one process of several, and kept no longer than it is used."""

import errno
import os
import signal
import sys
import time
from functools import partial
from multiprocessing import get_context
from threading import Thread

import numpy as np
import pytest
import torch

from cgan.cli import env, run
from cgan.data.cache import cache_folder, made_once, mapped, mark_used, tidy, write_array
from cgan.data.pictures import CaptionedPictures
from cgan.data.readers.folder import read_folder
from cgan.data.scenes.dataset import ONE, Scenes
from cgan.data.shards import ROW
from cgan.data.sources import DataConfig, build_dataset
from cgan.errors import UserError
from cgan.evaluation.loop import store
from cgan.files import DAY, CannotWrite, one_at_a_time, temporary_name
from helpers.disks import NO_PROCESS, full_disk
from helpers.pictures import some_pictures

OLD = time.time() - 40 * DAY


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def killed(scene, resolution, rng):
    os.kill(os.getpid(), signal.SIGKILL)


def asked_to_stop(scene, resolution, rng):
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(600)


def forbidden(scene, resolution, rng):
    raise AssertionError("drawn in vain")


def noted(scene, resolution, rng):
    """Leave a byte for each scene that is drawn, in whatever process."""
    number = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(number, b"x")
    os.close(number)
    return np.zeros((resolution, resolution, 3), np.uint8)


def test_files_have_the_bytes_that_numpy_writes(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    rows = np.array([(1, 2, 3, 4, 5, 6, 7), (2, 3, 4, 5, 6, 7, 8)], dtype=ROW)
    for array in (pictures, rows, rows[:0]):
        found = write_array(tmp_path / "ours.npy", array.dtype, array.shape, [array[:1], array[1:]])
        np.save(tmp_path / "numpy.npy", array)
        assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
        assert isinstance(found, np.memmap) and (found == array).all()


def test_a_killed_worker_ends_drawing_with_one_line_and_leaves_no_file(tmp_path):
    with pytest.raises(UserError, match="a worker was killed, out of memory perhaps; run the same again"):
        Scenes(20, 32, cache=tmp_path, level=ONE._replace(draw=killed))
    assert names(tmp_path) == []


def test_sigterm_ends_drawing_with_its_status_and_leaves_no_file(tmp_path):
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    try:
        with pytest.raises(SystemExit) as end:
            Scenes(20, 32, cache=tmp_path, level=ONE._replace(draw=asked_to_stop))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 75 and names(tmp_path) == []


def test_ctrl_c_ends_a_command_with_130_and_no_traceback(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["cgan"])
    with pytest.raises(SystemExit) as end:
        run(interrupted)
    assert end.value.code == 130 and capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize("source", ["scenes", "folder"])
def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path, monkeypatch, source):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    config = DataConfig(source, str(some_pictures(tmp_path / "pictures")), num_images=6, resolution=32)
    with full_disk(10_000), pytest.raises(CannotWrite) as error:
        build_dataset(config)
    assert "the disk is full" in str(error.value) and "set CGAN_CACHE" in str(error.value)
    assert "\n" not in str(error.value) and names(tmp_path / "cache") == []
    assert len(build_dataset(config)) == 6


def test_a_disk_without_room_is_told_before_anything_is_drawn(tmp_path):
    enough = np.lib.stride_tricks.as_strided(np.zeros(3), (2**42, 3), (0, 8))  # 96 TiB that take no memory
    with pytest.raises(CannotWrite, match="the disk is full .* MB are needed.*set CGAN_CACHE") as error:
        write_array(tmp_path / "x.npy", enough.dtype, enough.shape, iter(lambda: pytest.fail("begun"), None))
    assert error.value.errno == errno.ENOSPC and names(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_cache_that_can_not_be_written_is_one_line_before_any_work(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / place))
    with pytest.raises(CannotWrite, match=f"{tmp_path / place} can't be written: .*set CGAN_CACHE") as error:
        Scenes(6, 32, level=ONE._replace(draw=forbidden))
    assert "\n" not in str(error.value)
    with pytest.raises(CannotWrite, match="set CGAN_CACHE"):
        CaptionedPictures(read_folder(some_pictures(tmp_path / "pictures")), 32, cache_folder(), "here")


def test_features_are_measured_also_where_they_can_not_be_kept(tmp_path, caplog):
    (tmp_path / "file").write_text("x")
    store(tmp_path / "file" / "features-0123456789abcdef.npy", torch.zeros(2, 3))
    (line,) = caplog.messages
    assert "can't be written" in line and "set CGAN_CACHE" in line and "the next time" in line


def test_no_home_folder_is_one_line(monkeypatch):
    monkeypatch.delenv("CGAN_CACHE", raising=False)
    monkeypatch.setenv("HOME", "~")  # what expanduser makes of a user without one
    with pytest.raises(UserError, match="no home folder for the cache; set CGAN_CACHE"):
        cache_folder()


def test_the_report_says_what_is_wrong_with_a_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "file"))
    assert env.cache() == "named by CGAN_CACHE, a file, not a folder"
    monkeypatch.delenv("CGAN_CACHE")
    monkeypatch.setenv("HOME", "~")
    assert env.cache() == "~/.cache/cgan, can't be read (no home folder)"


def drawn_by_this(folder, notes):
    os.environ["NOTES"] = str(notes)
    Scenes(6, 32, cache=folder, level=ONE._replace(draw=noted))


def test_of_several_processes_one_draws_and_the_others_wait(tmp_path):
    context = get_context("fork")
    processes = [context.Process(target=drawn_by_this, args=(tmp_path / "cache", tmp_path / "n")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "n").read_bytes() == b"x" * 6 and len(names(tmp_path / "cache")) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00\xff\xff", b"damaged"])
def test_damaged_files_are_no_files(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    assert mapped(tmp_path / "x.npy", np.uint8) is None and mapped(tmp_path / "none.npy", np.uint8) is None


def test_a_file_of_another_shape_or_type_is_no_file(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.uint8))
    assert mapped(tmp_path / "x.npy", np.uint8, (2, 3)) is not None
    assert mapped(tmp_path / "x.npy", np.uint8, (3, 2)) is None and mapped(tmp_path / "x.npy", np.int64) is None


# ---------------------------------------------------------------------------------------------- what is kept

LEFT = (
    f"scenes-0123456789ab.{NO_PROCESS}.tmp",
    f"pictures-0123456789abcdef.{NO_PROCESS}.part",
    f"pictures-0123456789abcdef.{NO_PROCESS}.tmp",
    f"shards-0123456789abcdef.{NO_PROCESS}.tmp.npy",
    f"features-0123456789abcdef.{NO_PROCESS}.tmp",
    f"index-0123456789abcdef.safetensors.{NO_PROCESS}.tmp",
    ".pictures-0123456789abcdef.npy.lock",
)
KEPT = (f"scenes-0123456789ab.{os.getpid()}.tmp", "notes.txt", "scenes-0123456789ab.npy", "other-0123456789ab.npy")


def test_what_killed_processes_left_is_removed_at_the_next_start(tmp_path):
    abandoned = temporary_name(tmp_path / "scenes-0123456789ab.npy")
    abandoned = abandoned.with_name(abandoned.name.replace(f"-{os.getpid()}-", f"-{NO_PROCESS}-"))
    for name in (*LEFT, *KEPT, abandoned.name):
        (tmp_path / name).touch()
    Scenes(3, 32, cache=tmp_path)
    assert set(KEPT) < set(names(tmp_path)) and len(names(tmp_path)) == len(KEPT) + 1


def test_a_lock_that_is_left_beside_a_whole_file_goes_when_that_is_used(tmp_path):
    Scenes(3, 32, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.with_name(f".{file.name}.lock").touch()
    Scenes(3, 32, cache=tmp_path)
    assert names(tmp_path) == [file.name]


def aged(folder):
    pictures = "pictures-0123456789abcdef"
    for name in ("scenes-0123456789ab.npy", f"{pictures}.npy", f"{pictures}.txt", "mine.npy"):
        (folder / name).write_bytes(bytes(1000))
        os.utime(folder / name, (OLD, OLD))


def test_files_that_nobody_used_for_thirty_days_are_removed_with_a_word(tmp_path, caplog):
    aged(tmp_path)
    mark_used(tmp_path / "pictures-0123456789abcdef.npy")
    tidy(tmp_path)
    assert names(tmp_path) == ["mine.npy", "pictures-0123456789abcdef.npy", "pictures-0123456789abcdef.txt"]
    assert caplog.messages[0].startswith("removed 1 files, 0.0 MB of the cache that were not used for 30 days")


@pytest.mark.parametrize(("days", "number"), [("0", 4), ("50", 4), ("39", 1)])
def test_cgan_cache_days_says_how_long_files_are_kept(tmp_path, monkeypatch, days, number):
    monkeypatch.setenv("CGAN_CACHE_DAYS", days)
    aged(tmp_path)
    tidy(tmp_path)
    assert len(names(tmp_path)) == number


@pytest.mark.parametrize("days", ["many", "-1", "nan", "inf"])
def test_cgan_cache_days_that_are_no_number_are_one_line(tmp_path, monkeypatch, days):
    monkeypatch.setenv("CGAN_CACHE_DAYS", days)
    with pytest.raises(UserError, match=f"CGAN_CACHE_DAYS={days}: give a number of days"):
        tidy(tmp_path)


def test_a_file_is_kept_from_its_last_use_on(tmp_path):
    Scenes(3, 32, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    os.utime(file, (OLD, OLD))
    Scenes(3, 32, cache=tmp_path)
    assert time.time() - file.stat().st_mtime < DAY
    tidy(tmp_path)
    assert file.exists()


def test_who_waits_says_so_and_finds_what_was_made(tmp_path, caplog):
    answers, found = iter([None, "made by another"]), []
    make = partial(made_once, tmp_path / "x.npy", lambda: next(answers), lambda: "made twice")
    waiting = Thread(target=lambda: found.append(make()))
    with one_at_a_time(tmp_path / ".x.npy.lock", lambda: None):
        waiting.start()
        while not caplog.messages:
            assert waiting.is_alive()
            time.sleep(0.01)
    waiting.join(300)
    assert found == ["made by another"] and names(tmp_path) == []
    assert caplog.messages == [f"waiting for another process that makes {tmp_path / 'x.npy'}"]


def test_each_picture_is_looked_at_once_at_a_start(tmp_path, monkeypatch):
    entries, asked, stat = read_folder(some_pictures(tmp_path / "pictures")), [], os.stat
    CaptionedPictures(entries, 32, tmp_path / "cache", "here")

    def counted(path, *others, **settings):
        asked.append(str(path))
        return stat(path, *others, **settings)

    monkeypatch.setattr(os, "stat", counted)
    CaptionedPictures(entries, 32, tmp_path / "cache", "here")
    assert sorted(path for path in asked if path.endswith(".png")) == sorted(str(e.picture) for e in entries)
