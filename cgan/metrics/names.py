"""The names of metrics: which can be requested, and whether higher or lower values are better."""

NAMES = ("scenes", "fid", "kid", "prdc", "clip_score", "r_precision")  # what --metrics and trainer.metrics take

HIGHER = ("scene_accuracy", "scene_accuracy_heldout", "two_object_accuracy", "objects", "colour_binding", "relation",
          "clip_score", "r_precision", "precision", "recall", "density", "coverage", "diversity")  # fmt: skip
LOWER = ("fid", "kid", "frechet_distance", "kernel_distance")
PREFERRED = ("scene_accuracy", "two_object_accuracy", "fid", "r_precision", "clip/r_precision", "joint/r_precision",
             "clip_score", "kid")  # fmt: skip


def is_known(name: str) -> bool:
    """Returns whether HIGHER or LOWER lists a metric, with or without a network's prefix, as in joint/recall."""
    return name.rpartition("/")[2] in HIGHER + LOWER


def is_better(name: str, value: float, best: float | None) -> bool:
    """Returns whether a value is better than the best so far (None at first); NaN is never better."""
    if best is None:
        return value == value
    return value < best if name.rpartition("/")[2] in LOWER else value > best
