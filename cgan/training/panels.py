"""The names under which W&B and TensorBoard get what metrics.csv holds: a group, by which panels sort themselves.

metrics.csv keeps the plain names, so that files of earlier runs and of today have the same columns.
"""

from typing import Literal

from cgan.metrics.names import HIGHER, LOWER, NEAR_ONE

GROUPS = {  # of a panel, by the beginnings of names in metrics.csv
    "train": ("loss/", "gradient_norm/", "learning_rate/", "epoch"),
    "perf": ("images_per_second", "data_wait", "evaluation_seconds", "training_minutes"),
    "health": ("skipped_steps",),
    "eval": (
        "image_to_text/", "text_to_image/", "ceiling/", "agreement", "caption_accuracy", "caption_mentions",
        "frechet_floor", "r_precision_real",
    ),
}  # fmt: skip
SAMPLES = "samples"  # the group of pictures and tables
RETRIEVAL_HIGHER = ("recall@", "agreement", "caption_accuracy")  # beginnings of a joint encoder's metrics
RETRIEVAL_LOWER = ("median_rank",)


def panel_name(name: str) -> str:
    """Returns the name of a column of metrics.csv with its group before it: loss/generator is train/loss/generator.

    images_seen, the axis of all panels, and names that nobody here knows, a user's own, stay as they are.
    """
    if name.partition("/")[0] in (*GROUPS, SAMPLES):
        return name
    for group, beginnings in GROUPS.items():
        if name.startswith(beginnings):
            return f"{group}/{name}"
    return f"eval/{name}" if name.rpartition("/")[2] in HIGHER + LOWER + NEAR_ONE or is_split(name) else name


def is_split(name: str) -> bool:
    """Returns whether a name is that of a known metric on held-out combinations, as relation_heldout is."""
    return name.endswith("_heldout") and name.removesuffix("_heldout") in HIGHER + LOWER + NEAR_ONE


def best_of(name: str) -> Literal["min", "max"] | None:
    """Returns which of a metric's values is its best, by its name, with a group or without; None where none is."""
    leaf = name.rpartition("/")[2]
    if leaf in LOWER or leaf.startswith(RETRIEVAL_LOWER):
        return "min"
    higher = leaf.removesuffix("_heldout") in HIGHER or leaf in HIGHER or leaf.startswith(RETRIEVAL_HIGHER)
    return "max" if higher and "ceiling/" not in name else None
