"""The machine and the code that a result came from: processor, cores, commit and command line."""

import platform
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from cgan.version import __version__
from cgan.workers import num_cores

ROOT = Path(__file__).parents[1]


def output_of(*command: str) -> str:
    """Returns what a program prints; nothing where it fails, or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def cpuinfo() -> list[tuple[str, str]]:
    """Returns the keys and values of /proc/cpuinfo; empty on other systems than Linux."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return [(line.partition(":")[0].strip(), line.partition(":")[2].strip()) for line in lines]


def processor() -> str:
    """Returns the processor's name, which Linux has in a file, and macOS prints by a command; or its architecture."""
    names = [value for key, value in cpuinfo() if key == "model name"]
    if names:
        return names[0]
    brand = output_of("sysctl", "-n", "machdep.cpu.brand_string")
    return brand or platform.processor() or platform.machine() or "not known"


def cpu_has_bfloat16() -> bool:
    """Returns whether the CPU multiplies in bfloat16: by AVX-512 BF16, or by AMX."""
    import torch

    names = "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def commit() -> str:
    """Returns the commit of the checkout that runs, short, with "+" behind it where files have been changed since.

    It is empty outside of a checkout.
    """
    if not (ROOT / ".git").exists():
        return ""
    found = output_of("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    changed = found and output_of("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return f"{found}+" if changed else found


def command_line(arguments: list[str] | None = None) -> str:
    """Returns the command of this process as one would type it: python train.py ..., or cgan VERB ...

    arguments: sys.argv when absent.
    """
    program, *rest = sys.argv if arguments is None else arguments
    path = Path(program)
    typed = {"__main__.py": ["cgan"], "cgan": ["cgan"]}.get(path.name) or ["python", path.name or program]
    return shlex.join([*typed, *rest])


def session() -> dict[str, str | int]:
    """Returns the facts of this process on which the time of a training depends, JSON-able."""
    return {
        "started": datetime.now().isoformat(timespec="seconds"),
        "cgan": __version__,
        "commit": commit(),
        "processor": processor(),
        "cores": num_cores(),
        "command": command_line(),
    }
