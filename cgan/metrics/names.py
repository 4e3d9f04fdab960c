"""The names of metrics: what an evaluation can be asked for, and which values are better when higher or lower."""

NAMES = ("scenes", "fid", "kid", "prdc", "clip_score", "r_precision")  # what --metrics and trainer.metrics take

HIGHER = ("scene_accuracy", "scene_accuracy_heldout", "two_object_accuracy", "objects", "colour_binding", "relation",
          "clip_score", "r_precision", "precision", "recall", "density", "coverage", "diversity")  # fmt: skip
LOWER = ("fid", "kid", "frechet_distance", "kernel_distance")
PREFERRED = ("scene_accuracy", "two_object_accuracy", "fid", "r_precision", "clip/r_precision", "joint/r_precision",
             "clip_score", "kid")  # fmt: skip


def is_known(name: str) -> bool:
    """Whether HIGHER or LOWER lists a metric, be it with the name of its network before it, as in joint/recall."""
    return name.rpartition("/")[2] in HIGHER + LOWER


def is_better(name: str, value: float, best: float | None) -> bool:
    """Whether a value is better than the best so far, which is None at first; NaN is never better."""
    if best is None:
        return value == value
    return value < best if name.rpartition("/")[2] in LOWER else value > best
