"""The results of an evaluation and their protocol."""

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

import torch

PACKAGES = ("torch", "torchvision", "torchmetrics", "torch-fidelity", "transformers", "numpy", "pillow")


@dataclass
class EvaluationReport:
    """The values of metrics by name, and all that is needed to reproduce them."""

    metrics: dict[str, float]
    anchors: dict[str, dict[str, float]]  # what real images reach, by the anchor's name; empty unless asked for
    protocol: dict  # JSON-able: versions, device, images, captions, networks, seed, seconds

    def as_json(self) -> dict:
        """Returns the report as one dictionary that json.dumps takes."""
        return asdict(self)


def by_network(networks: dict[str, str]) -> str:
    """Returns in one line which metrics are measured by which network, given the network of each metric."""
    names: dict[str, list[str]] = {}
    for metric, network in networks.items():
        names.setdefault(network, []).append(metric)
    return "; ".join(f"{', '.join(metrics)} by {network}" for network, metrics in names.items())


def versions() -> dict[str, str | None]:
    """Returns the versions of cgan, Python and the packages that affect values; None if one is not installed."""
    from cgan.version import __version__

    found: dict[str, str | None] = {"cgan": __version__, "python": python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def device_name(device: torch.device) -> str:
    """Returns the name of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
