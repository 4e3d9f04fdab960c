"""Reads a folder of pictures with captions in metadata.jsonl, .csv or .parquet, or in a .txt beside each picture."""

from collections.abc import Iterator
from pathlib import Path

from cgan.data.listing import files_below, is_picture, is_unread, texts_by_stem, unread_pictures, unused_texts
from cgan.data.pictures import Entry, Skipped, left_out, stat_of
from cgan.data.readers.metadata import Row, rows_of_csv, rows_of_jsonl, rows_of_parquet
from cgan.data.records import captions_from, is_absent, kind_of, labels_from, printable
from cgan.data.text_files import UnreadableFile, read_text
from cgan.interfaces import UserError


class NoCaptions(UserError):
    """Raised for a folder of pictures without any caption."""


def read_folder(root: Path) -> list[Entry]:
    """Returns the pictures of a folder with their captions.

    Raises NoCaptions if there are pictures but no captions, and UserError for a missing folder and for captions that
    can't be read.
    """
    if not root.is_dir():
        raise UserError(f"data.root={root}: no such folder; give the one that holds the pictures")
    readers = {"metadata.jsonl": rows_of_jsonl, "metadata.csv": rows_of_csv, "metadata.parquet": rows_of_parquet}
    present = [name for name in readers if stat_of(root / name)]
    if not present:
        return sidecars(root)
    unused = [left_out(name, f"captions that are not read beside {present[0]}") for name in present[1:]]
    return merged(root, readers[present[0]](root / present[0])) + unused


def merged(root: Path, rows: Iterator[Row]) -> list[Entry]:
    """Returns one Entry for each picture, with the captions and labels of all rows that name it; raises UserError."""
    captions: dict[str, list[str]] = {}
    labels: dict[str, tuple[str, ...]] = {}
    unnamed = []
    for where, name, text, its_labels in rows:
        if is_absent(name) or name == "":
            unnamed.append(left_out(where, "without file_name"))
        elif not isinstance(name, str):
            raise UserError(f"{where}: file_name is {kind_of(name)}, not text")
        else:
            captions.setdefault(name, []).extend(captions_from(text, where))
            labels[name] = labels_from(labels.get(name, ()), its_labels)
    entries = [
        Entry(root / name, texts, i, name, labels=labels[name]) for i, (name, texts) in enumerate(captions.items())
    ]
    return entries + unnamed


def sidecars(root: Path) -> list[Entry]:
    """Returns the pictures of a folder that have text files: each line of dog.txt is a caption of dog.png.

    Raises NoCaptions if there are pictures but no captions.
    """
    files = files_below(root)
    texts, pictures = texts_by_stem(files), [file for file in files if is_picture(file)]
    names = [str(path.relative_to(root)) for path in pictures]
    text_of = [texts.get(path.with_suffix("")) for path in pictures]
    entries = [with_text(root, path, text_of[i], names[i], i) for i, path in enumerate(pictures)]
    if pictures and not any(entry.captions or entry.fault for entry in entries):
        raise NoCaptions(f"{root}: no captions; add metadata.jsonl, metadata.csv or a .txt beside each picture")
    beside = {file.parent for file in files if is_picture(file) or is_unread(file)}
    texts = {stem: file for stem, file in texts.items() if file.parent in beside}
    unused = unused_texts(root, texts, {path.with_suffix("") for path in pictures})
    return entries + unread_pictures(root, files) + unused


def with_text(
    root: Path, picture: Path, text: Path | None, name: str, image_id: int, labels: tuple[str, ...] = ()
) -> Entry:
    """Returns the Entry of a picture with the lines of its text; if the text can't be read, one that is left out."""
    captions, fault = [], None
    try:
        captions = read_text(text).split("\n") if text else []
    except UnreadableFile as error:
        fault = Skipped(printable(str(text.relative_to(root)) if text else name), error.reason)
    return Entry(picture, captions, image_id, name, fault, labels)
