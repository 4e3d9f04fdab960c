"""The names of metrics: what an evaluation can be asked for, and which values are better when higher or lower."""

NAMES = ("scenes", "fid", "kid", "prdc", "clip_score", "r_precision")  # what --metrics and trainer.metrics take

HIGHER = ("scene_accuracy", "scene_accuracy_heldout", "two_object_accuracy", "objects", "colour_binding", "relation",
          "clip_score", "r_precision", "precision", "recall", "density", "coverage", "diversity")  # fmt: skip
LOWER = ("fid", "kid", "frechet_distance", "kernel_distance")
PREFERRED = ("scene_accuracy", "two_object_accuracy", "fid", "r_precision", "clip/r_precision", "joint/r_precision",
             "clip_score", "kid")  # fmt: skip


def is_known(name: str) -> bool:
    """Whether it is told which way such a metric is better; joint/recall is a recall."""
    return name.rpartition("/")[2] in HIGHER + LOWER


def is_better(name: str, value: float, best: float | None) -> bool:
    """Never so for NaN."""
    if best is None:
        return value == value
    return value < best if name.rpartition("/")[2] in LOWER else value > best
