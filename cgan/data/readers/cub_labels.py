"""Labels of CUB-200-2011's birds and of Oxford's flowers: the class, and the birds' attributes (Wah et al. 2011)."""

import re
from pathlib import Path

from cgan.data.text_files import read_text
from cgan.interfaces import UserError

FILE = "image_attribute_labels.txt"
LEAST_CERTAINTY = 3  # of 1 not visible, 2 guessing, 3 probably, 4 definitely


def class_label(folder: str) -> tuple[str, ...]:
    """Returns the label in the name of a class folder, 001.Black_footed_Albatross: black footed albatross."""
    words = re.sub(r"^[0-9]+\.", "", folder).replace("_", " ").strip().lower()
    return (words,) if words else ()


def attribute_label(name: str) -> str:
    """Returns an attribute in words: has_bill_shape::curved_(up_or_down) is bill shape curved (up or down)."""
    return name.removeprefix("has_").replace("::", " ").replace("_", " ").strip()


def read_attributes(folder: Path | None, names_of: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Returns the attributes of each picture by its name, those that are present and at least probably so.

    folder is CUB's attributes, which holds image_attribute_labels.txt; without one there are none. names_of has the
    pictures' names by their numbers, as images.txt does. Raises UserError.
    """
    if folder is None:
        return {}
    if not names_of:
        raise UserError(
            f"data.labels={folder}: attributes are of the pictures in images.txt, which is not in data.root"
        )
    if not (folder / FILE).is_file():
        raise UserError(f"data.labels={folder}: has no {FILE}; give CUB's folder attributes")
    attributes = attribute_names(folder)
    found: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(folder / FILE).split("\n"), start=1):
        fields = line.split()  # picture, attribute, presence, certainty, and the seconds that it took, or more
        if not fields:
            continue
        if len(fields) < 4 or fields[1] not in attributes or not fields[3].isdecimal():
            raise UserError(
                f"{folder / FILE}, line {number}: expected a picture, an attribute, 0 or 1, and a certainty"
            )
        if fields[2] == "1" and int(fields[3]) >= LEAST_CERTAINTY and fields[0] in names_of:
            found.setdefault(names_of[fields[0]], []).append(attributes[fields[1]])
    return {name: tuple(labels) for name, labels in found.items()}


def attribute_names(folder: Path) -> dict[str, str]:
    """Returns the attributes in words by their numbers; attributes.txt lies there or above, as in CUB's archive."""
    for place in (folder, folder.parent, folder.parent.parent):
        if (place / "attributes.txt").is_file():
            lines = [line.split(maxsplit=1) for line in read_text(place / "attributes.txt").split("\n")]
            return {pair[0]: attribute_label(pair[1]) for pair in lines if len(pair) == 2}
    raise UserError(f"data.labels={folder}: no attributes.txt, with the names of the attributes, there or above")
