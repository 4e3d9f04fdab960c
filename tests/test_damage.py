"""What is called damage, and what is told as the system's fault or as a mistake of the program."""

from pathlib import Path

import pytest
import torch

from cgan.cli import run
from cgan.damage import Damaged, building, reading, system_fault
from cgan.errors import UserError
from cgan.metrics.required_weights import check_weights_file
from cgan.models.encoders.imagenet import resnet
from cgan.models.joint import JointEncoder
from cgan.retrieval import EmbeddingIndex
from cgan.sampling.pipeline import TextToImage
from helpers.disks import no_more_files

READERS = [
    ("x.ckpt", TextToImage.load), ("x.safetensors", TextToImage.load), ("x.safetensors", JointEncoder.load),
    ("x.safetensors", EmbeddingIndex.load), ("x.pth", check_weights_file),
    ("x.pth", lambda path: resnet("resnet18", str(path), "weights")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "read"), READERS)
def test_too_many_open_files_are_told_and_not_called_damage(name, read, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"anything")
    with pytest.raises(UserError, match="damaged|not the"):
        read(path)  # and what is imported on the way
    with no_more_files(), pytest.raises(UserError, match="can't be read: Too many open files") as caught:
        read(path)
    assert not isinstance(caught.value, Damaged) and isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (OSError(22, "Invalid argument"), None),
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "allocate memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "CUDA out of memory"),
        (RuntimeError("unable to mmap 8 bytes from file <x>: Cannot allocate memory (12)"), "allocate memory"),
        (RuntimeError("unable to open file <x> in read-only mode: Too many open files (24)"), "Too many open files"),
        (RuntimeError("PytorchStreamReader failed reading zip archive: failed finding central directory."), None),
        (KeyError("state_dict"), None),
    ],
)  # fmt: skip
def test_faults_of_the_system_are_known_by_their_kind_or_text(error, fault):
    found = system_fault(error)
    assert found is None if fault is None else fault in found


def test_no_memory_for_the_networks_is_not_damage(tmp_path):
    with pytest.raises(UserError, match="can't be loaded: .*can't allocate memory") as caught:
        with building(tmp_path / "x", "damaged"):
            torch.zeros(10**14)
    assert not isinstance(caught.value, Damaged)


def test_a_mistake_of_the_program_is_named_and_keeps_its_cause(tmp_path):
    with pytest.raises(UserError, match="AttributeError: .*no_such_thing.*CGAN_DEBUG=1") as caught:
        with building(tmp_path / "x", "damaged"):
            torch.no_such_thing()
    assert not isinstance(caught.value, Damaged) and isinstance(caught.value.__cause__, AttributeError)


def test_weights_of_other_networks_are_damage(tmp_path):
    with pytest.raises(Damaged, match="x: of other networks"), building(tmp_path / "x", "of other networks"):
        torch.nn.Linear(2, 3).load_state_dict(torch.nn.Linear(3, 3).state_dict())


def test_errors_that_are_no_damage_pass(tmp_path):
    Path(tmp_path / "x").touch()
    with pytest.raises(ZeroDivisionError), reading(tmp_path / "x", "damaged"):
        _ = 1 / 0


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("debug", ["1", "0", None])
def test_the_cause_is_shown_where_it_is_asked_for(debug, hidden, monkeypatch, capsys):
    def command(_) -> None:
        try:
            {}["the real reason"]
        except KeyError as error:
            if hidden:
                raise UserError("one line") from None
            raise UserError("one line") from error

    if debug is None:
        monkeypatch.delenv("CGAN_DEBUG", raising=False)
    else:
        monkeypatch.setenv("CGAN_DEBUG", debug)
    with pytest.raises(SystemExit, match="error: one line"):
        run(command)
    assert ("KeyError: 'the real reason'" in capsys.readouterr().err) == (debug == "1")
