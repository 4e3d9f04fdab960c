"""Names image files by captions, which may contain any character."""

import re
import unicodedata
from pathlib import Path

from cgan.errors import UserError
from cgan.sampling.request import read_request

MAX_BYTES = 100  # of a caption in a name; a folder takes 255 in all


def cleaned(caption: str) -> str:
    """Returns a caption with spaces in place of control characters and of characters that no file can hold."""
    caption = caption.encode("utf-8", "replace").decode()
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in caption).split())


def slug(caption: str) -> str:
    """Returns a caption as a file name of letters, digits, underscores and dashes; it is never empty."""
    words = re.sub(r"[^\w]+", "-", unicodedata.normalize("NFC", caption.lower())).strip("-")[:60]
    return words.encode()[:MAX_BYTES].decode(errors="ignore").strip("-") or "caption"


class OutputPaths:
    """paths.of(captions, seed) -> a path that this object gives to no other picture, from `out` or from the caption.

    An existing file is overwritten only if it shows the same captions, or if `out` names it.
    """

    def __init__(self, out: Path | None, suffix: str = ".png") -> None:
        self.named = out if out is not None and out.suffix.lower() == suffix and not out.is_dir() else None
        self.folder, self.suffix = out or Path("samples"), suffix
        self.taken: set[str] = set()
        self.next: dict[Path, int] = {}

    def of(self, captions: list[str], seed: int) -> Path:
        """Returns the path of the next file; raises nothing and writes nothing."""
        if self.named is not None:
            return self.free(self.named, [], first=1)
        title = slug(captions[0]) if len(captions) == 1 else f"{slug(captions[0])}-and-{len(captions) - 1}-more"
        return self.free(self.folder / f"{title}-{seed}{self.suffix}", captions, first=2)

    def free(self, path: Path, captions: list[str], first: int) -> Path:
        """Returns the path, with the smallest number from `first` on appended if the path itself is taken."""
        candidate, number = path, self.next.get(path, first)
        while str(candidate).lower() in self.taken or (captions and self.of_others(candidate, captions)):
            candidate, number = path.with_stem(f"{path.stem}-{number}"), number + 1
        self.next[path] = number
        self.taken.add(str(candidate).lower())
        return candidate

    def of_others(self, path: Path, captions: list[str]) -> bool:
        """Returns whether a file exists that shows other captions."""
        if not path.exists():
            return False
        try:
            return read_request(path)[0].captions != captions
        except UserError:
            return True
