"""The settings of an evaluation and their checks; imports no torch, so that mistakes are reported at once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cgan.errors import UserError
from cgan.metrics.names import NAMES
from cgan.ranges import COUNT, NOT_NEGATIVE, check_number, check_seed


@dataclass(frozen=True)
class EvaluationSettings:
    """The keyword arguments of cgan.evaluation.run.evaluate, which describes them."""

    checkpoint: Path | str | None = None
    images: Path | None = None
    reference: Path | None = None
    data: Sequence[str] = ()
    resolution: int | None = None
    num_images: int | None = None
    captions: Path | None = None
    metrics: Sequence[str] | None = None
    inception: Path | None = None
    resize: Literal["torch-fidelity", "clean"] = "torch-fidelity"
    clip: str | None = None
    joint: Path | None = None
    anchors: bool = False
    seed: int = 1234
    truncation: float = 1.0

    @property
    def sets_resolution(self) -> bool:
        """Whether `data` gives the resolution of the data set; otherwise it is that of the images to measure."""
        return any(setting.startswith("data.resolution=") for setting in self.data)

    def refuse_unused(self, names: Sequence[str], why: str) -> None:
        """Raises UserError for the first named setting that is given; `why` ends the message, such as "with images"."""
        for field in fields(self):
            if field.name in names and getattr(self, field.name) != field.default:
                raise UserError(f"{field.name} is not used {why}; leave it out")


def evaluation_settings(**given: Any) -> EvaluationSettings:
    """Returns settings by name, paths also as text; raises UserError for a mistake found before any file is opened."""
    for name in ("images", "reference", "captions", "inception", "joint"):
        if given.get(name) is not None:
            given[name] = Path(given[name])
    settings = EvaluationSettings(**given)
    check_images(settings)
    unknown = set(settings.metrics or ()) - set(NAMES)
    if unknown:
        raise UserError(f"metrics: {', '.join(sorted(unknown))} is not one of {', '.join(NAMES)}")
    if settings.resize not in ("torch-fidelity", "clean"):
        raise UserError(f"resize={settings.resize}: must be torch-fidelity or clean")
    check_numbers(settings)
    return settings


def check_images(settings: EvaluationSettings) -> None:
    """Raises UserError if it is unclear which images are compared, or if a setting has no effect."""
    if (settings.checkpoint is None) == (settings.images is None):
        raise UserError("nothing to evaluate; give a checkpoint, or images=DIR (see `cgan evaluate --help`)")
    if settings.reference is not None and (settings.images is None or settings.data):
        raise UserError("reference goes with images=DIR, and without data; a checkpoint is measured on data")
    if settings.checkpoint is not None:
        settings.refuse_unused(["resolution"], "with a checkpoint, which has its own")
        return
    settings.refuse_unused(["truncation"], "with images")
    if settings.reference is not None:
        settings.refuse_unused(["num_images", "captions"], "with reference")


def check_numbers(settings: EvaluationSettings) -> None:
    """Raises UserError for a number that is out of its range."""
    check_seed(f"seed={settings.seed}", settings.seed)
    check_number(f"truncation={settings.truncation}", settings.truncation, NOT_NEGATIVE)
    for name in ("resolution", "num_images"):
        value = getattr(settings, name)
        if value is not None:
            check_number(f"{name}={value}", value, COUNT)
