"""COCO captions (Chen et al. 2015): captions_train2017.json and the folder of its pictures."""

import json
from pathlib import Path

from cgan.data.pictures import Entry
from cgan.interfaces import UserError


def read_coco(root: Path, annotations: Path) -> list[Entry]:
    """The pictures of a captions file, each with all of its captions and its COCO id."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds the pictures, such as train2017")
    if not annotations.is_file():
        raise UserError(f"data.annotations={annotations}: no such file; give captions_train2017.json or its like")
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
        captions: dict[int, list[str]] = {}
        for row in content["annotations"]:
            captions.setdefault(row["image_id"], []).append(row["caption"])
        images = [(image["id"], image["file_name"]) for image in content["images"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        hint = "; is it Karpathy's? then data.source=karpathy" if annotations.name.startswith("dataset") else ""
        raise UserError(f"{annotations}: not a COCO captions file ({type(error).__name__}: {error}){hint}") from None
    return [Entry(root / name, captions.get(number, []), number) for number, name in images]
