"""The table of metrics: what each is asked for by, which values it gives, and what it needs.

A new metric is a row of METRICS and a class; requests, reasons, plans and plots read the table.
"""

from collections.abc import Iterable
from math import log
from typing import Literal, NamedTuple

Better = Literal["higher", "lower", "near one"]
Need = Literal["scene classifier", "features", "inception", "clip", "matching", "pixels"]
Data = Literal["scenes", "others"]


class MetricRow(NamedTuple):
    """A metric, and what must be known of it before any network is loaded."""

    name: str  # what --metrics and trainer.metrics take
    values: dict[str, Better]  # by name, whether higher or lower ones are better, or those near 1
    needs: Need  # features: of Inception, or of what stands in; inception: of nothing else; matching: CLIP or joint
    # pixels: no network
    elsewhere: dict[str, Better] = {}  # its values on other features than Inception's; empty where they are the same
    trained_on: tuple[Data, ...] = ()  # the data on which a training evaluates it unless trainer.metrics says otherwise
    on_request: bool = False  # whether --metrics must name it
    of_training: bool = False  # whether the real images must be those of the training

    @property
    def needs_captions(self) -> bool:
        """Whether images without captions can't be measured by it."""
        return self.needs in ("scene classifier", "clip", "matching")

    @property
    def compares_sets(self) -> bool:
        """Whether it looks at all images together, so that a handful of them says nothing."""
        return self.needs in ("features", "inception", "pixels")


SCENE_VALUES: dict[str, Better] = dict.fromkeys(
    ("scene_accuracy", "scene_accuracy_heldout", "two_object_accuracy", "three_object_accuracy", "objects",
     "counts", "colour_binding", "relation", "ground", "diversity"), "higher",
)  # fmt: skip
SHARES: dict[str, Better] = dict.fromkeys(("precision", "recall", "density", "coverage"), "higher")
METRICS = (
    MetricRow("scenes", SCENE_VALUES, "scene classifier", trained_on=("scenes",)),
    MetricRow("fid", {"fid": "lower"}, "features", {"frechet_distance": "lower"}, trained_on=("others",)),
    MetricRow("kid", {"kid": "lower"}, "features", {"kernel_distance": "lower"}),
    MetricRow("prdc", SHARES, "features"),
    MetricRow("inception_score", {"inception_score": "higher"}, "inception"),
    MetricRow(
        "mifid", {"mifid": "lower", "memorization_distance": "higher"}, "inception", on_request=True, of_training=True
    ),  # fmt: skip
    MetricRow("clip_score", {"clip_score": "higher"}, "clip", trained_on=("others",)),
    MetricRow("r_precision", {"r_precision": "higher"}, "matching", trained_on=("scenes", "others")),
    MetricRow("spectrum", {"lattice": "near one", "spectrum": "lower"}, "pixels", trained_on=("scenes", "others")),
    MetricRow(
        "memorization", {"copies": "lower", "training_distance": "near one", "seed_diversity": "higher"}, "pixels",
        trained_on=("others",),
    ),
)  # fmt: skip
NAMES = tuple(metric.name for metric in METRICS)
BETTER = {name: better for metric in METRICS for name, better in (metric.values | metric.elsewhere).items()}
HIGHER = tuple(name for name, better in BETTER.items() if better == "higher")
LOWER = tuple(name for name, better in BETTER.items() if better == "lower")
NEAR_ONE = tuple(name for name, better in BETTER.items() if better == "near one")
PREFERRED = ("scene_accuracy", "two_object_accuracy", "three_object_accuracy", "fid", "r_precision",
             "clip/r_precision", "joint/r_precision", "clip_score", "kid")  # fmt: skip
# the value that best.ckpt follows is the first of these that is measured
SCENE_FEATURES = "scene_classifier"  # the prefix of values on its features
FORMER_PREFIX = "judge"  # the same in runs of before 2026-11-26

ON_FEATURES = tuple(metric.name for metric in METRICS if metric.needs == "features")
ON_INCEPTION = tuple(metric.name for metric in METRICS if metric.needs in ("features", "inception"))
ON_PIXELS = tuple(metric.name for metric in METRICS if metric.needs == "pixels")
COMPARE_SETS = tuple(metric.name for metric in METRICS if metric.compares_sets)
ON_CLIP = tuple(metric.name for metric in METRICS if metric.needs == "clip")
NEED_CAPTIONS = tuple(metric.name for metric in METRICS if metric.needs_captions)
OF_TRAINING = {metric.name: "finds what repeats training pictures, and the real ones here were kept out of training"
               for metric in METRICS if metric.of_training}  # fmt: skip
BY_DEFAULT = tuple(metric.name for metric in METRICS if not metric.on_request)


def evaluated_in_training(data: Data) -> set[str]:
    """Returns the names of the metrics that a training on such data evaluates unless it is told which."""
    return {metric.name for metric in METRICS if data in metric.trained_on}


def values_of(metric: str, network: str = "") -> list[str]:
    """Returns the names of a metric's values on the features of a network, whose name is empty for Inception."""
    (row,) = (row for row in METRICS if row.name == metric)
    if not network:
        return list(row.values)
    return [f"{network}/{name}" for name in row.elsewhere or row.values]


def shown_as(metric: str, network: str = "") -> str:
    """Returns what a message calls a metric on the features of a network: fid on others than Inception's is none."""
    (row,) = (row for row in METRICS if row.name == metric)
    return ", ".join(row.elsewhere) if network and row.elsewhere else metric


def current(name: str) -> str:
    """Returns the present name of a value, such as scene_classifier/precision for an earlier run's judge/precision."""
    prefix, slash, leaf = name.rpartition("/")
    return f"{SCENE_FEATURES}/{leaf}" if slash and prefix == FORMER_PREFIX else name


def unknown_in(names: Iterable[str]) -> list[str]:
    """Returns, sorted, the names that no metric has."""
    return sorted(set(names) - set(NAMES))


def is_known(name: str) -> bool:
    """Returns whether the table lists a value, with or without a network's prefix, as in joint/recall."""
    return name.rpartition("/")[2] in BETTER


def is_better(name: str, value: float, best: float | None) -> bool:
    """Returns whether a value is better than the best so far (None at first); NaN is never better."""
    if best is None:
        return value == value
    match BETTER.get(name.rpartition("/")[2]):
        case "lower":
            return value < best
        case "near one":  # twice and half of it are equally far
            return value > 0 and (best <= 0 or abs(log(value)) < abs(log(best)))
    return value > best
