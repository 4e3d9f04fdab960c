"""What lies in a folder and those in it: pictures, texts beside them, and pictures of formats that are not read."""

import os
from pathlib import Path

from cgan.data.decoding import SUFFIXES, UNREAD
from cgan.data.pictures import Entry, left_out
from cgan.errors import UserError

NOT_CAPTIONS = {"readme", "license", "licence", "notice", "copying", "requirements"}  # .txt files that people keep


def files_below(root: Path) -> list[Path]:
    """All files of a folder and of those in it, sorted; raises UserError for a folder that can't be looked into."""
    return sorted(Path(folder, name) for folder, _, names in os.walk(root, onerror=refuse) for name in names)


def refuse(error: OSError) -> None:
    """Raises UserError for a folder that can't be listed."""
    raise UserError(f"{error.filename}: can't be looked into ({error.strerror})") from error


def is_picture(file: Path) -> bool:
    """Whether a file has the suffix of a picture that is read."""
    return file.suffix.lower() in SUFFIXES


def is_unread(file: Path) -> bool:
    """Whether it is a picture that no decoder here reads."""
    return file.suffix.lower() in UNREAD


def unread_pictures(root: Path, files: list[Path]) -> list[Entry]:
    """The pictures among some files that no decoder here reads, each left out by its name."""
    unread = [file for file in files if is_unread(file)]
    return [left_out(str(f.relative_to(root)), f"of a format that is not read ({f.suffix.lower()})") for f in unread]


def texts_by_stem(files: list[Path]) -> dict[Path, Path]:
    """Text files, in either case of .txt, by their paths without it."""
    return {file.with_suffix(""): file for file in files if file.suffix.lower() == ".txt"}


def unused_texts(root: Path, texts: dict[Path, Path], used: set[Path]) -> list[Entry]:
    """Texts that belong to no picture, each left out by its name."""
    orphans = [file for stem, file in texts.items() if stem not in used and stem.name.lower() not in NOT_CAPTIONS]
    return [left_out(str(file.relative_to(root)), "captions of no picture") for file in sorted(orphans)]
