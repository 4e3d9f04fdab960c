"""The names of metrics, and which way each of them is better."""

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
