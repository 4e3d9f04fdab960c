"""Karpathy's splits (Karpathy and Fei-Fei 2015): dataset_coco.json, dataset_flickr30k.json, dataset_flickr8k.json."""

import json
from pathlib import Path

from cgan.data.pictures import Entry
from cgan.interfaces import UserError


def read_karpathy(root: Path, annotations: Path, split: str | None) -> list[Entry]:
    """The pictures of one split or of several joined by +, such as train+restval; all of them when split is None."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds train2014, val2014 or the pictures")
    if not annotations.is_file():
        raise UserError(f"data.annotations={annotations}: no such file; give dataset_coco.json or its like")
    try:
        images = json.loads(annotations.read_text(encoding="utf-8"))["images"]
        entries = [entry_of(root, image) for image in images]
        splits = [image["split"] for image in images]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{annotations}: not a file of Karpathy's splits ({type(error).__name__}: {error})") from None
    wanted = set(splits) if split is None else set(split.split("+"))
    if not wanted <= set(splits):
        raise UserError(f"data.split={split}: {annotations.name} has the splits {', '.join(sorted(set(splits)))}")
    return [entry for entry, its_split in zip(entries, splits, strict=True) if its_split in wanted]


def entry_of(root: Path, image: dict) -> Entry:
    number = image["cocoid"] if "cocoid" in image else image["imgid"]
    captions = [sentence["raw"] for sentence in image["sentences"]]
    return Entry(root / image.get("filepath", "") / image["filename"], captions, int(number))
