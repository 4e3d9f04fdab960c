"""The scripts for clusters give torchrun, sbatch and srun what these and cgan's own configuration understand."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from cgan.config import load_config
from helpers import ROOT

SCRIPTS = [*sorted(ROOT.glob("examples/*.sh")), ROOT / "configs/slurm/train.sbatch"]
STUB = '#!/bin/bash\nprintf "%s\\n" "$(basename "$0")" "$@"\nexit ${STATUS:-0}\n'
SCENES = str(ROOT / "configs/gan/scenes.yaml")


@pytest.fixture
def call(tmp_path):
    """Runs a script where torchrun, sbatch, srun and scontrol print their arguments: status, lines and errors."""
    for name in ("torchrun", "sbatch", "srun", "scontrol", "nvidia-smi"):
        stub = tmp_path / name
        stub.write_text(STUB if name != "nvidia-smi" else "#!/bin/bash\nexit 1\n")
        stub.chmod(0o755)

    def called(script: str, *arguments: str, **environment: str) -> tuple[int, list[str], str]:
        settings = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment}
        command = ["bash", str(ROOT / script), *arguments]
        ended = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=600)
        return ended.returncode, ended.stdout.splitlines(), ended.stderr

    return called


def understood(lines: list[str]):
    """The configuration that the arguments behind train.py give."""
    place = next(number for number, line in enumerate(lines) if line.endswith("train.py"))
    assert Path(lines[place]).name == "train.py" and (not os.path.isabs(lines[place]) or Path(lines[place]).is_file())
    return load_config(lines[place + 1 :])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_valid_for_bash(script):
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_torchrun_starts_a_process_for_each_gpu_of_a_machine(call):
    status, lines, _ = call("examples/torchrun.sh", SCENES, "run_dir=runs/a b", GPUS="4")
    assert status == 0 and lines[:3] == ["torchrun", "--standalone", "--nproc-per-node=4"]
    config = understood(lines)
    assert (config.trainer.devices, config.trainer.num_nodes, config.resume) == ("4", 1, "auto")
    assert config.run_dir == "runs/a b"


def test_torchrun_without_a_gpu_starts_one_process(call):
    _, lines, _ = call("examples/torchrun.sh", "run_dir=x")
    assert "--nproc-per-node=1" in lines and understood(lines).trainer.devices == "1"


def test_torchrun_meets_the_other_machines_at_one_of_them(call):
    _, lines, _ = call("examples/torchrun.sh", SCENES, "run_dir=x", GPUS="2", NODES="3", HOST="first")
    assert {"--nnodes=3", "--rdzv-backend=c10d", "--rdzv-endpoint=first:29500"} <= set(lines)
    assert (understood(lines).trainer.num_nodes, understood(lines).trainer.devices) == (3, "2")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [([SCENES], {}, "give run_dir=runs/NAME"), (["run_dir=x"], {"NODES": "2"}, "the name of one machine")],
)
def test_torchrun_says_what_is_missing_and_starts_nothing(call, arguments, environment, said):
    status, lines, errors = call("examples/torchrun.sh", *arguments, **environment)
    assert status != 0 and not lines and said in errors


def test_slurm_gets_the_job_with_the_sizes_that_are_asked_for(call):
    sizes = {"NODES": "2", "GPUS": "8", "HOURS": "12", "PARTITION": "gpu", "NAME": "coco"}
    status, lines, _ = call("examples/slurm.sh", SCENES, "trainer.images=9", **sizes)
    assert status == 0 and lines[0] == "sbatch" and lines[-2:] == [SCENES, "trainer.images=9"]
    options = {"--nodes=2", "--gpus-per-node=8", "--ntasks-per-node=8", "--time=12:00:00", "--partition=gpu"}
    assert options | {"--job-name=coco"} <= set(lines) and (ROOT / lines[-3]).is_file()


def test_a_dry_run_prints_the_command_and_submits_nothing(call):
    _, lines, _ = call("examples/slurm.sh", "data.root=a b", DRY_RUN="1")
    assert len(lines) == 1 and shlex.split(lines[0])[0] == "sbatch" and shlex.split(lines[0])[-1] == "data.root=a b"


JOB = {"SLURM_JOB_NAME": "coco", "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4"}


def test_the_job_gives_each_process_what_the_configuration_understands(call):
    status, lines, _ = call("configs/slurm/train.sbatch", SCENES, "trainer.images=9", **JOB)
    config = understood(lines)
    assert status == 0 and lines[0] == "srun" and (config.run_dir, config.resume) == ("runs/coco-7", "auto")
    assert (config.trainer.num_nodes, config.trainer.devices, config.trainer.images) == (2, "4", 9)


def test_a_job_whose_time_is_up_is_queued_again(call):
    status, lines, _ = call("configs/slurm/train.sbatch", SCENES, **JOB, STATUS="75")
    assert status == 75 and lines[-3:] == ["scontrol", "requeue", "7"]
