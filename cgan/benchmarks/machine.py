"""Names the machine, on which timings depend."""

import platform
from pathlib import Path


def processor() -> str:
    """Returns the name of the processor's model on Linux, elsewhere its architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
