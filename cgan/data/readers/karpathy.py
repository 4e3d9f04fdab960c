"""Reads Karpathy's splits (Karpathy and Fei-Fei 2015): dataset_coco.json, dataset_flickr30k.json and the like."""

from pathlib import Path
from typing import Any

from cgan.data.pictures import Entry
from cgan.data.readers.coco_categories import read_categories
from cgan.data.records import captions_from, field, image_id_of
from cgan.data.text_files import read_json
from cgan.interfaces import UserError

EXPECTED = "a file of Karpathy's splits"


def read_karpathy(root: Path, annotations: Path, split: str | None, labels: Path | None = None) -> list[Entry]:
    """Returns the pictures of a split, or of several that are joined by +, such as train+restval; None is all splits.

    labels: COCO's instances file whose categories are the labels, or the folder of several. Raises UserError for files
    that are missing or of another layout, and for splits that do not exist.
    """
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds train2014, val2014 or the pictures")
    if not annotations.is_file():
        raise UserError(f"data.annotations={annotations}: no such file; give dataset_coco.json or its like")
    wrong = f"{annotations}: not {EXPECTED}"
    images = field(read_json(annotations, EXPECTED), "images", list, f"{wrong}; the file")
    entries = [entry_of(root, image, f"{wrong}; images[{i}]") for i, image in enumerate(images)]
    splits = [field(image, "split", str, f"{wrong}; images[{i}]") for i, image in enumerate(images)]
    labels_of = read_categories(labels)
    entries = [entry._replace(labels=labels_of.get(entry.image_id, ())) for entry in entries]
    wanted = set(splits) if split is None else set(split.split("+"))
    if not wanted <= set(splits):
        raise UserError(f"data.split={split}: {annotations.name} has the splits {', '.join(sorted(set(splits)))}")
    return [entry for entry, its_split in zip(entries, splits, strict=True) if its_split in wanted]


def entry_of(root: Path, image: Any, where: str) -> Entry:
    """Returns the Entry of one image record; raises UserError whose message begins with `where`."""
    file = field(image, "filename", str, where)
    folder = field(image, "filepath", str, where) if image.get("filepath") is not None else ""
    number = image_id_of(field(image, "cocoid" if "cocoid" in image else "imgid", object, where), where)
    sentences = field(image, "sentences", list, where)
    raw = [field(sentence, "raw", object, f"{where}, sentences[{i}]") for i, sentence in enumerate(sentences)]
    name = str(Path(folder, file))
    return Entry(root / name, captions_from(raw, where), number, name)
