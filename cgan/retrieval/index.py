"""An index of a folder's pictures: their embeddings, stored on disk, updated when pictures change, and searched."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from cgan.damage import Damaged, reading
from cgan.data.cache import cache_folder, mark_used
from cgan.data.decoding import SUFFIXES
from cgan.data.listing import files_below, is_picture, unread_pictures
from cgan.data.pictures import Skipped, decode, stat_of, summary, with_captions
from cgan.files import CannotWrite, remove_abandoned, write_bytes
from cgan.interfaces import Report, UserError
from cgan.models.joint import JointEncoder
from cgan.pixels import as_floats
from cgan.retrieval.embedding import BATCH_SIZE, embed_captions, embed_decoded
from cgan.retrieval.search import nearest
from cgan.workers import Progress, silent

SHEETS = "retrieved-sheets"  # the folder of contact sheets; never searched, or sheets would be found
NUM_RESCORED = 100  # pictures that co-attention scores again for a caption


class File(NamedTuple):
    """A picture's name, size and time at encoding; the File of a changed picture is not equal to it."""

    name: str  # path within the folder
    size: int  # bytes
    modified: int  # ns since 1970


class Origin(NamedTuple):
    """The folder and the joint encoder of an index; embeddings of another origin can't be used."""

    folder: str  # absolute
    checkpoint: str  # SHA-256 of the joint encoder's file


class DamagedIndex(Damaged):
    """Raised for an index that can't be read; it holds nothing of value, so it may be overwritten."""


def pictures_in(folder: Path) -> tuple[list[File], list[Skipped]]:
    """Returns the pictures of a folder and its subfolders, and those of unsupported formats.

    Raises UserError for none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one that holds the pictures")
    paths = [path for path in files_below(folder) if SHEETS not in path.relative_to(folder).parts]
    pairs = [(path, stat_of(path)) for path in paths if is_picture(path)]
    files = [File(str(path.relative_to(folder)), s.st_size, s.st_mtime_ns) for path, s in pairs if s]
    skipped = with_captions(unread_pictures(folder, paths))[1]
    if not files:
        why = f"; {summary(skipped)}" if skipped else ""
        raise UserError(f"{folder}: no pictures ({', '.join(sorted(SUFFIXES))}); give the folder that holds them{why}")
    return files, skipped


def encode(
    joint: JointEncoder, folder: Path, files: list[File], progress: Progress
) -> tuple[list[np.ndarray], list[File], list[Skipped]]:
    """Returns embeddings in batches (B, E), the files that they belong to, and the files that can't be read."""
    parts, encoded, skipped = [], [], []
    for start in range(0, len(files), BATCH_SIZE):
        progress(start, len(files))
        batch = files[start : start + BATCH_SIZE]
        decoded = [(file, *decode((folder / file.name, joint.resolution))) for file in batch]
        readable = [(file, picture) for file, picture, _ in decoded if picture is not None]
        if readable:
            parts.append(embed_decoded(joint, [picture for _, picture in readable]))
        encoded += [file for file, _ in readable]
        skipped += [Skipped(file.name, reason) for file, _, reason in decoded if reason]
    progress(len(files), len(files))
    return parts, encoded, skipped


class EmbeddingIndex:
    """The pictures of a folder as embeddings, float32 (N, E), and the file of each row."""

    def __init__(self, embeddings: np.ndarray, files: list[File], origin: Origin) -> None:
        self.embeddings, self.files, self.origin = embeddings, files, origin
        self.skipped: list[Skipped] = []  # pictures that can't be read; tried again each time

    def __len__(self) -> int:
        return len(self.files)

    def search(self, queries: Tensor | np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the best pictures of queries (Q, E): their scores and rows, each (Q, min(top, N)), best first."""
        return nearest(queries, self.embeddings, top)

    def search_caption(self, joint: JointEncoder, caption: str, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the best pictures of a caption: their scores and rows, each (min(top, N),), best first.

        With co-attention the NUM_RESCORED best pictures by similarity are ranked again by scores of words and regions.
        """
        scores, rows = (found[0] for found in self.search(embed_captions(joint, [caption]), max(top, NUM_RESCORED)))
        if joint.coattention is not None:
            scores = self.scored_again(joint, caption, rows)
            order = np.argsort(-scores, kind="stable")
            scores, rows = scores[order], rows[order]
        return scores[:top], rows[:top]

    def scored_again(self, joint: JointEncoder, caption: str, rows: np.ndarray) -> np.ndarray:
        """Returns the scores (R,) of a caption with the pictures of rows (R,), co-attention included."""
        paths = [Path(self.origin.folder) / self.files[row].name for row in rows]
        decoded = [decode((path, joint.resolution))[0] for path in paths]
        pictures = np.stack([picture for picture in decoded if picture is not None])  # (R, H, W, 3); all were encoded
        images = as_floats(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        return joint.scores(images, [caption])[:, 0].cpu().numpy()

    @classmethod
    def build(
        cls, joint: JointEncoder, origin: Origin, old: "EmbeddingIndex | None" = None, progress: Progress = silent
    ) -> "EmbeddingIndex":
        """Returns the index of a folder; pictures in `old`, an index of the same origin, are not encoded again.

        progress is called with the numbers of encoded pictures and of those to encode. Raises UserError if the folder
        has no usable picture.
        """
        folder = Path(origin.folder)
        files, unread = pictures_in(folder)
        known, present = set(old.files if old else ()), set(files)
        parts, encoded, skipped = encode(joint, folder, [file for file in files if file not in known], progress)
        kept = [file for file in old.files if file in present] if old else []
        if old is not None and kept:
            parts.insert(0, old.embeddings[[file in present for file in old.files]])
        if not parts:
            raise UserError(f"{folder}: no usable picture; {summary(skipped)}")
        index = cls(np.concatenate(parts), kept + encoded, origin)
        index.skipped = skipped + unread
        return index

    @classmethod
    def load(cls, path: Path) -> "EmbeddingIndex":
        """Returns an index that `save` wrote.

        Raises DamagedIndex, or UserError if the file is missing or is not an index.
        """
        try:
            return cls.read(path)
        except Damaged as error:
            raise DamagedIndex(str(error)) from error

    @classmethod
    def read(cls, path: Path) -> "EmbeddingIndex":
        """Returns an index that `save` wrote; raises Damaged, or UserError as `load` does."""
        with reading(path, "damaged, or not an index of pictures; delete it"):
            with safe_open(path, "np") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
            if "index" not in metadata:
                raise UserError(f"{path}: holds something else than an index; give --index another name")
            spec = json.loads(metadata["index"])
            names = spec["names"] if "names" in spec else unpacked(tensors["names"])  # older indices have them there
            files = [File(name, *stat) for name, stat in zip(names, tensors["files"].tolist(), strict=True)]
            if tensors["embeddings"].shape[:1] != (len(files),):
                raise ValueError("another number of rows than of files")
            return cls(tensors["embeddings"], files, Origin(spec["folder"], spec["checkpoint"]))

    def save(self, path: Path) -> None:
        """Writes embeddings, names, sizes and times as tensors, and the origin as JSON, in place of the previous file.

        Names are not stored as JSON because the header of a safetensors file is limited to 100 MB. Raises CannotWrite.
        """
        stats = np.array([(file.size, file.modified) for file in self.files], dtype=np.int64)
        tensors = {"embeddings": np.ascontiguousarray(self.embeddings), "files": stats}
        tensors["names"] = packed([file.name for file in self.files])
        write_bytes(path, save(tensors, metadata={"index": json.dumps(self.origin._asdict())}))
        remove_abandoned(path.parent)


def packed(names: list[str]) -> np.ndarray:
    """Returns names as uint8 bytes, separated by zero bytes, which no name contains."""
    return np.frombuffer("\0".join(names).encode("utf-8", errors="surrogatepass"), dtype=np.uint8)


def unpacked(content: np.ndarray) -> list[str]:
    """Returns the names in the bytes of `packed`."""
    return content.tobytes().decode("utf-8", errors="surrogatepass").split("\0")


def open_index(
    joint: JointEncoder,
    checkpoint: Path,
    folder: Path,
    path: Path | None = None,
    report: Report = silent,
    progress: Progress = silent,
) -> EmbeddingIndex:
    """Returns the up-to-date index of a folder, which is stored at `path` or in the cache.

    checkpoint is the file of the joint encoder, whose hash is part of the index. `report` is called with messages about
    skipped pictures and indices that are built again, `progress` with the numbers of encoded pictures and of those to
    encode. Raises UserError if there are no usable pictures.
    """
    with checkpoint.open("rb") as file:
        origin = Origin(str(folder.absolute()), hashlib.file_digest(file, "sha256").hexdigest())
    path = path or cached_path(origin)
    old = usable_index(path, origin, report)
    if path.parent == cache_folder():
        mark_used(path)
    index = EmbeddingIndex.build(joint, origin, old, progress)
    if index.skipped:
        report(f"skipped {summary(index.skipped)}")
    if old is None or index.files != old.files:
        try:
            index.save(path)
        except CannotWrite as error:
            report(f"{error}; the next search encodes the pictures again")
    return index


def cached_path(origin: Origin) -> Path:
    """Returns the path of an index in the cache."""
    key = hashlib.sha256(json.dumps(origin).encode()).hexdigest()
    return cache_folder() / f"index-{key[:16]}.safetensors"


def usable_index(path: Path, origin: Origin, report: Report) -> EmbeddingIndex | None:
    """Returns the index in a file; None if there is none, or, after a report, if it is damaged or of another origin."""
    if not path.exists():
        return None
    try:
        index = EmbeddingIndex.load(path)
    except DamagedIndex:
        report(f"{path}: damaged; made anew")
        return None
    if index.origin != origin:
        what = "checkpoint" if index.origin.checkpoint != origin.checkpoint else "folder"
        report(f"{path}: made with another {what}; made anew")
        return None
    return index
