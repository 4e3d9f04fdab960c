"""Lists the files of a folder and its subfolders: pictures, their text files, and pictures of unsupported formats."""

import os
from pathlib import Path

from cgan.data.decoding import SUFFIXES, UNREAD
from cgan.data.pictures import Entry, left_out
from cgan.errors import UserError

NOT_CAPTIONS = {"readme", "license", "licence", "notice", "copying", "requirements"}  # .txt files that people keep


def files_below(root: Path) -> list[Path]:
    """Returns all files of a folder and its subfolders, sorted.

    Raises UserError if one of the folders can't be listed.
    """
    return sorted(Path(folder, name) for folder, _, names in os.walk(root, onerror=refuse) for name in names)


def refuse(error: OSError) -> None:
    """Raises UserError for a folder that can't be listed."""
    raise UserError(f"{error.filename}: can't be looked into ({error.strerror})") from error


def is_picture(file: Path) -> bool:
    """Returns whether a file has the suffix of a supported picture format."""
    return file.suffix.lower() in SUFFIXES


def is_unread(file: Path) -> bool:
    """Returns whether a file has the suffix of a picture format that is not supported."""
    return file.suffix.lower() in UNREAD


def unread_pictures(root: Path, files: list[Path]) -> list[Entry]:
    """Returns those of the files that are pictures of an unsupported format, each as an Entry that is left out."""
    unread = [file for file in files if is_unread(file)]
    return [left_out(str(f.relative_to(root)), f"of a format that is not read ({f.suffix.lower()})") for f in unread]


def texts_by_stem(files: list[Path]) -> dict[Path, Path]:
    """Returns the .txt files (in any case) by their paths without the suffix."""
    return {file.with_suffix(""): file for file in files if file.suffix.lower() == ".txt"}


def unused_texts(root: Path, texts: dict[Path, Path], used: set[Path]) -> list[Entry]:
    """Returns the text files that belong to no picture, each as an Entry that is left out."""
    orphans = [file for stem, file in texts.items() if stem not in used and stem.name.lower() not in NOT_CAPTIONS]
    return [left_out(str(file.relative_to(root)), "captions of no picture") for file in sorted(orphans)]
