"""COCO captions (Chen et al. 2015): captions_train2017.json and the folder of its pictures."""

from pathlib import Path
from typing import NamedTuple

from cgan.data.pictures import Entry, left_out
from cgan.data.readers.coco_categories import read_categories
from cgan.data.records import captions_from, field, id_from, image_id_of
from cgan.data.text_files import read_json
from cgan.interfaces import UserError

EXPECTED = "a COCO captions file"


class Annotation(NamedTuple):
    """An annotation of a captions file; its list of captions is empty if the caption is absent or blank."""

    caption_id: int | str | None  # as id_from has it
    image_id: int  # int64, as image_id_of has it
    captions: list[str]


def read_coco(root: Path, annotations: Path, labels: Path | None = None) -> list[Entry]:
    """Returns the pictures of a captions file, each with all of its captions and its COCO id; raises UserError.

    labels: the instances file whose categories are the labels, or the folder of several. Captions whose picture is not
    in the file are left out, each by its image id.
    """
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds the pictures, such as train2017")
    content = read_captions_file(annotations)
    images = [image_of(content, i, annotations) for i in range(len(content["images"]))]
    captions: dict[int, list[str]] = {}
    for annotation in annotations_in(content, annotations):
        captions.setdefault(annotation.image_id, []).extend(annotation.captions)
    labels_of = read_categories(labels)
    entries = [
        Entry(root / name, captions.get(number, []), number, name, labels=labels_of.get(number, ()))
        for number, name in images
    ]
    known = {number for number, _ in images}
    return entries + [left_out(f"image_id {n}", "captions of no picture") for n in captions if n not in known]


def read_captions_file(annotations: Path) -> dict:
    """Returns the content of a captions file, with lists of images and annotations; raises UserError."""
    if not annotations.is_file():
        raise UserError(f"data.annotations={annotations}: no such file; give captions_train2017.json or its like")
    content = read_json(annotations, EXPECTED)
    where = at_fault(annotations)
    try:
        for name in ("images", "annotations"):
            field(content, name, list, where)
    except UserError as error:
        hint = "; is it Karpathy's? then data.source=karpathy" if annotations.name.startswith("dataset") else ""
        raise UserError(f"{error}{hint}") from None
    return content


def at_fault(annotations: Path, record: str = "the file") -> str:
    """Returns the beginning of a message about a file that is not a captions file of COCO's layout."""
    return f"{annotations}: not {EXPECTED}; {record}"


def image_of(content: dict, number: int, annotations: Path) -> tuple[int, str]:
    """Returns the id (int64) and the file name of a picture.

    Raises UserError if either is missing or of a wrong type.
    """
    image, where = content["images"][number], at_fault(annotations, f"images[{number}]")
    return image_id_of(field(image, "id", object, where), where), field(image, "file_name", str, where)


def annotations_in(content: dict, annotations: Path) -> list[Annotation]:
    """Returns the annotations of a captions file.

    Raises UserError for one without an image id, or whose caption is not text.
    """
    result = []
    for number, row in enumerate(content["annotations"]):
        where = at_fault(annotations, f"annotations[{number}]")
        image_id = image_id_of(field(row, "image_id", object, where), where)
        captions = captions_from(field(row, "caption", object, where), where)
        result.append(Annotation(id_from(row.get("id")), image_id, captions))
    return result
