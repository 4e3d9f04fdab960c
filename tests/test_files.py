import errno
import os
import pickle
import subprocess
import sys
import time
from threading import Event, Thread

import pytest
import torch

from cgan import files
from cgan.errors import UserError
from cgan.files import (
    CannotWrite,
    check_writable,
    check_writable_file,
    hold_lock,
    is_locked,
    remove_abandoned,
    replacing,
    replacing_stream,
    temporary_name,
    write_json,
    write_text,
)

FULL_DEVICE = "/dev/full"  # every write to it finds the disk full


def test_a_file_is_replaced_whole_and_no_temporary_file_stays(tmp_path):
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "two")]


def test_a_failed_writer_leaves_the_file_as_it_was(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(KeyError), replacing(tmp_path / "a.json") as unfinished:
        unfinished.write_text("half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 1\n}\n'


def test_two_writers_of_one_file_have_two_temporary_names(tmp_path):
    assert temporary_name(tmp_path / "a") != temporary_name(tmp_path / "a")


@pytest.mark.skipif(not os.path.exists(FULL_DEVICE), reason="needs /dev/full")
def test_a_full_disk_is_named_also_behind_torch(tmp_path):
    def save_on_full_disk() -> None:
        with replacing_stream(tmp_path / "last.ckpt") as stream, open(FULL_DEVICE, "wb", buffering=0) as full:
            stream.file = full
            torch.save({"weights": torch.zeros(100_000)}, stream)

    with pytest.raises(CannotWrite, match=r"last.ckpt can't be written: the disk is full") as caught:
        save_on_full_disk()
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_an_error_of_rust_keeps_its_number():
    assert files.errno_of(ValueError("Error while serializing: No space left on device (os error 28)")) == errno.ENOSPC
    assert files.errno_of(ValueError("something else")) is None


def test_paths_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CannotWrite, match="can't be written: "):
            check_writable(folder)
    with pytest.raises(CannotWrite, match="Is a directory"):
        check_writable_file(tmp_path)
    with pytest.raises(CannotWrite, match="can't be written: "):
        write_text(tmp_path / "file" / "a.txt", "")
    check_writable(tmp_path / "new" / "folder")
    assert not list((tmp_path / "new" / "folder").iterdir())


def test_temporary_files_of_ended_processes_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = temporary_name(tmp_path / "a.bin")
    mine = temporary_name(tmp_path / "b.bin")
    old_of_others = tmp_path / ".c.bin.another-host-1-0123abcd.tmp"
    new_of_others = tmp_path / ".d.bin.other_host-1-0123abcd.tmp"
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    for path in (left, mine, old_of_others, new_of_others, tmp_path / "own.tmp"):
        path.touch()
    old_of_others = old_of_others.rename(tmp_path / ".c.bin.other_host-1-0123abcd.tmp")
    os.utime(old_of_others, (time.time() - 2 * files.DAY,) * 2)
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, new_of_others.name, "own.tmp"}


def test_a_temporary_file_is_locked_while_it_is_written(tmp_path):
    with replacing(tmp_path / "a") as unfinished:
        assert is_locked(unfinished)
    assert not is_locked(tmp_path / "a")


def test_a_lock_is_held_once_and_ends_with_its_holder(tmp_path):
    first = hold_lock(tmp_path / ".lock", busy="taken")
    assert is_locked(tmp_path / ".lock")
    with pytest.raises(UserError, match="^taken$"):
        hold_lock(tmp_path / ".lock", busy="taken", patience=0.1)
    first.release()
    hold_lock(tmp_path / ".lock", busy="taken").release()


def test_one_works_while_another_waits_and_no_lock_stays(tmp_path):
    lock, told = tmp_path / ".work.lock", []

    def busy():
        told.append("busy")
        raise UserError("busy")

    with files.one_at_a_time(lock, busy):
        with pytest.raises(UserError, match="busy"), files.one_at_a_time(lock, busy, patience=0.1):
            pass
    with files.one_at_a_time(lock, busy):
        assert lock.exists()
    assert told == ["busy"] and not lock.exists()


def test_who_waits_for_a_lock_takes_it_as_soon_as_it_is_free(tmp_path):
    lock, order, waiting = tmp_path / ".work.lock", [], Event()

    def second():
        with files.one_at_a_time(lock, waiting.set, patience=0):
            order.append("second")

    with files.one_at_a_time(lock, waiting.set):
        thread = Thread(target=second)
        thread.start()
        assert waiting.wait(300)
        order.append("first")
    thread.join(300)
    assert order == ["first", "second"] and not lock.exists()


def test_a_lock_that_a_killed_process_left_is_taken(tmp_path):
    lock = tmp_path / ".work.lock"
    lock.touch()
    with files.one_at_a_time(lock, lambda: pytest.fail("nobody holds it")):
        pass


def test_an_error_of_writing_can_be_handed_to_another_process(tmp_path):
    error = files.CannotWrite(tmp_path, errno.ENOSPC, "no space", "delete something")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.errno == errno.ENOSPC


def test_a_file_that_is_larger_than_the_free_disk_is_refused_before_the_work(tmp_path):
    files.check_room(tmp_path / "x", 1)
    with pytest.raises(files.CannotWrite, match="the disk is full .* MB are needed.*; free some"):
        files.check_room(tmp_path / "x", 2**62, "free some")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_a_file_system_knows_no_locks_nothing_is_locked(number, tmp_path, monkeypatch):
    def refused(*_) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    for _ in range(2):
        hold_lock(tmp_path / ".lock", busy="taken", patience=0.1)
    assert not is_locked(tmp_path / ".lock")
