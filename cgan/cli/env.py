"""cgan env: the machine and its software, for a bug report; no secrets, no values of variables."""

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cgan.cli.parsing import Parser
from cgan.machine import commit, cpuinfo, output_of, processor
from cgan.version import __version__
from cgan.workers import num_cores

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "torch-fidelity", "transformers", "tokenizers",
            "wandb", "omegaconf", "safetensors", "rich", "numpy", "pillow", "matplotlib", "datasets")  # fmt: skip
VARIABLES = ("CGAN_", "CUDA_", "NCCL_", "NVIDIA_", "OMP_", "MKL_", "TORCH", "PYTORCH_", "WANDB_", "HF_", "SLURM_JOB_ID")


def main(arguments: list[str]) -> None:
    """Prints the report, a line for each fact."""
    parser().parse_args(arguments)
    for name, value in report().items():
        print(f"{name:20s}{value}")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan env`, which takes no arguments."""
    return Parser(prog="cgan env", description="Describe this machine and its software, for a report.")


def report() -> dict[str, str]:
    """Returns facts by name, in the order in which they are printed."""
    facts = {
        "cgan": cgan_version(),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": platform.platform(),
        "processor": f"{processor()}, {cores()}",
        "memory": memory(),
    }
    return facts | torch_facts() | packages() | {"cache": cache(), "variables set": ", ".join(variables()) or "none"}


def cgan_version() -> str:
    """Returns the version and, in a checkout, the commit."""
    found = commit()
    changed = ", with changes" if found.endswith("+") else ""
    return f"{__version__} (commit {found.rstrip('+')}{changed})" if found else __version__


def cores() -> str:
    """Returns cores, the threads that they run, and how many of these this process may use."""
    sockets = [value for key, value in cpuinfo() if key == "physical id"]
    numbers = [value for key, value in cpuinfo() if key == "core id"]
    threads, physical = os.cpu_count() or 1, len(set(zip(sockets, numbers, strict=False)))
    own = f"{physical} cores, " if physical else ""
    return f"{own}{threads} threads, {num_cores()} for this process"


def memory() -> str:
    """Returns the memory of this machine."""
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (ValueError, OSError):
        return "not known"


def torch_facts() -> dict[str, str]:
    """Returns what torch sees and, apart from it, what the driver says."""
    facts = gpus() or {"gpu": "none that nvidia-smi shows"}
    try:
        import torch
    except (ImportError, OSError) as error:
        return facts | {"torch sees": f"nothing, it can't be imported ({error})"}
    seen = f"{torch.cuda.device_count()} GPUs, CUDA {torch.version.cuda or 'not built in'}, "
    seen += f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return facts | {"torch sees": seen}


def gpus() -> dict[str, str]:
    """Returns the name, memory and driver of each GPU."""
    query = output_of("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    lines = [line.rpartition(", ") for line in query.splitlines()]
    return {f"gpu {i}": f"{name}, driver {driver}" for i, (name, _, driver) in enumerate(lines)}


def packages() -> dict[str, str]:
    """Returns the versions of packages that results depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def cache() -> str:
    """Returns where the cache is, without a path that CGAN_CACHE holds, and how much is in it."""
    name = "named by CGAN_CACHE" if os.environ.get("CGAN_CACHE") else "~/.cache/cgan"
    try:
        folder = Path(os.environ.get("CGAN_CACHE") or "~/.cache/cgan").expanduser()
        if not folder.is_dir():
            return f"{name}, a file, not a folder" if folder.exists() else f"{name}, not there yet"
        sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    except (OSError, RuntimeError) as error:
        return f"{name}, can't be read ({error.strerror if isinstance(error, OSError) else 'no home folder'})"
    return f"{name}, {sum(sizes) / 1e6:,.1f} MB in {len(sizes):,} files"


def variables() -> list[str]:
    """Returns the names of the environment variables that matter, without their values."""
    return sorted(name for name in os.environ if name.startswith(VARIABLES))
