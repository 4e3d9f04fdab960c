"""What an evaluation found, and by which protocol."""

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

import torch

PACKAGES = ("torch", "torchvision", "torchmetrics", "torch-fidelity", "transformers", "numpy", "pillow")


@dataclass
class EvaluationReport:
    """Values by the names of metrics, and all that somebody needs to find the same values."""

    metrics: dict[str, float]
    anchors: dict[str, dict[str, float]]  # what real images reach, by the anchor's name; empty unless asked for
    protocol: dict  # JSON-able: versions, device, images, captions, networks, seed, seconds

    def as_json(self) -> dict:
        """All of it as one dictionary that json.dumps takes."""
        return asdict(self)


def versions() -> dict[str, str | None]:
    """The versions of cgan, Python and the packages that values may depend on; None for one that is not installed."""
    from cgan.version import __version__

    found: dict[str, str | None] = {"cgan": __version__, "python": python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def device_name(device: torch.device) -> str:
    """The name of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
