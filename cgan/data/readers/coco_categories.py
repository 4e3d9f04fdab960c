"""Reads the categories of COCO's pictures from instances_train2017.json and the like (Lin et al. 2014)."""

from pathlib import Path

from cgan.data.records import field, id_from, image_id_of, labels_from
from cgan.data.text_files import read_json
from cgan.interfaces import UserError

EXPECTED = "a COCO instances file"
HINT = "give instances_train2017.json or its like, or the folder of several"


def read_categories(labels: Path | None) -> dict[int, tuple[str, ...]]:
    """Returns the labels of each picture by its id: its categories and their supercategories, such as dog and animal.

    labels is a file, or a folder whose instances_*.json are read; without one there are none. Raises UserError.
    """
    if labels is None:
        return {}
    files = sorted(labels.glob("instances_*.json")) if labels.is_dir() else [labels]
    if not files or not files[0].is_file():
        raise UserError(f"data.labels={labels}: no such file; {HINT}")
    found: dict[int, tuple[str, ...]] = {}
    for file in files:
        found |= categories_in(file)
    return found


def categories_in(file: Path) -> dict[int, tuple[str, ...]]:
    """Returns the labels of each picture in a file by its id; raises UserError where it is of another layout."""
    wrong = f"{file}: not {EXPECTED}"
    content = read_json(file, EXPECTED)
    names: dict[int | str | None, tuple[str, ...]] = {}
    for number, category in enumerate(field(content, "categories", list, f"{wrong}; the file")):
        where = f"{wrong}; categories[{number}]"
        name = field(category, "name", str, where)
        names[id_from(field(category, "id", object, where))] = labels_from(name, category.get("supercategory"))
    found: dict[int, dict[str, None]] = {}
    for number, instance in enumerate(field(content, "annotations", list, f"{wrong}; the file")):
        where = f"{wrong}; annotations[{number}]"
        category = id_from(field(instance, "category_id", object, where))
        if category not in names:
            raise UserError(f"{where}: category_id {category} is none of its categories")
        image_id = image_id_of(field(instance, "image_id", object, where), where)
        found.setdefault(image_id, {}).update(dict.fromkeys(names[category]))
    return {image_id: tuple(labels) for image_id, labels in found.items()}
