"""Reads a folder of the datasets library: the output of save_to_disk, or an imagefolder; needs the package datasets."""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from cgan.data.decoding import Stored
from cgan.data.pictures import Entry, stat_of
from cgan.data.readers.metadata import LABELS
from cgan.data.records import captions_from, labels_from
from cgan.interfaces import UserError

CAPTIONS = ("text", "caption", "captions", "sentences", "sentence", "raw")  # columns, the first that is there counts


class Row(Stored):
    """The picture in one row of a data set; each process opens the data set by itself."""

    def __init__(self, root: Path, split: str | None, number: int, version: int) -> None:
        self.root, self.split, self.number, self.version = root, split, number, version
        self.name = f"row {number}"

    def open(self, mode: str) -> BinaryIO:
        """Returns the picture's encoded bytes as a file; raises FileNotFoundError if the row has none."""
        pictures, _ = columns_of(self.root, self.split)
        picture = pictures[self.number] or {}
        if picture.get("bytes") is not None:
            return BytesIO(picture["bytes"])
        if picture.get("path"):
            return open(picture["path"], "rb")
        raise FileNotFoundError(self.name)

    def fingerprint(self) -> str:
        """Returns a text that changes when the folder, the split, the row's number or the data set's version does."""
        return f"{self.root.absolute()}|{self.split}|{self.number}|{self.version}"


def read_datasets(root: Path, split: str | None) -> list[Entry]:
    """Returns the rows of a data set with their captions; raises UserError."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give one that datasets' save_to_disk wrote")
    _, captions = columns_of(root, split)
    stats = [stat for stat in map(stat_of, root.rglob("*")) if stat]
    version = max((stat.st_mtime_ns for stat in stats), default=0)
    texts = [captions_from(text, f"data.root={root}: row {i}") for i, text in enumerate(captions)]
    labels = labels_in(root, split)
    return [
        Entry(Row(root, split, i, version), captions, i, labels=labels_from(*(column[i] for column in labels)))
        for i, captions in enumerate(texts)
    ]


def labels_in(root: Path, split: str | None) -> list[Sequence]:
    """Returns the columns of labels, with numbers of classes replaced by their names."""
    data = one_split(opened(root), root, split)
    columns = [name for name in LABELS if name in data.features]
    return [[named(data.features[name], value) for value in data.select_columns([name])[name]] for name in columns]


def named(feature: Any, value: Any) -> object:
    """Returns a value of a column, or a list of such, with the number of a ClassLabel replaced by its name."""
    from datasets import ClassLabel

    if isinstance(value, list):
        return [named(getattr(feature, "feature", feature), part) for part in value]
    if isinstance(feature, ClassLabel):
        return feature.names[value] if isinstance(value, int) and 0 <= value < len(feature.names) else None
    return value


@lru_cache(maxsize=4)
def columns_of(root: Path, split: str | None) -> tuple[Sequence, Sequence]:
    """Returns the column of pictures, dictionaries with bytes and path, and the column of captions.

    Raises UserError.
    """
    try:
        from datasets import Image
    except ImportError:
        raise UserError("data.source=datasets: needs the datasets library; pip install datasets") from None
    data = one_split(opened(root), root, split)
    pictures = next((name for name, feature in data.features.items() if isinstance(feature, Image)), None)
    captions = next((name for name in CAPTIONS if name in data.features), None)
    if pictures is None or captions is None:
        wanted = "a column of pictures" if pictures is None else f"captions in a column {' or '.join(CAPTIONS[:3])}"
        raise UserError(f"data.root={root}: expected {wanted}; its columns are {', '.join(data.features)}")
    return data.cast_column(pictures, Image(decode=False))[pictures], data.select_columns([captions])[captions]


def opened(root: Path):
    """Returns the data set in a folder, or a dictionary of its splits; raises UserError if it can't be read."""
    from datasets import disable_progress_bars, load_dataset, load_from_disk

    disable_progress_bars()
    saved = (root / "state.json").is_file() or (root / "dataset_dict.json").is_file()
    try:
        return load_from_disk(str(root)) if saved else load_dataset("imagefolder", data_dir=str(root))
    except MemoryError as error:
        raise UserError(f"data.root={root}: not enough memory to read it") from error
    except Exception as error:  # nearly anything, depending on what is in the folder
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"data.root={root}: datasets can't read it ({why})") from error


def one_split(data, root: Path, split: str | None):
    """Returns the requested split, or without a request the only one; raises UserError if that is not possible."""
    splits = dict(data) if isinstance(data, dict) else {"all": data}
    if split is None and len(splits) == 1:
        return next(iter(splits.values()))
    if split is None or split not in splits:
        raise UserError(f"data.split={split}: {root} has the splits {', '.join(splits)}")
    return splits[split]
