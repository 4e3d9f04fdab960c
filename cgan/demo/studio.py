"""What a visitor of the page may ask for, within limits: pictures, a walk, the nearest training pictures."""

import shutil
import tempfile
import zipfile
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cgan.cli.sample import label, listed, versions
from cgan.data.pictures import decode
from cgan.errors import UserError
from cgan.figures.sheets import save_png
from cgan.models.joint import JointEncoder
from cgan.resources import STARTER_JOINT
from cgan.retrieval import EmbeddingIndex, Progress, embed_picture, open_index, silent
from cgan.sampling.interpolation import frames
from cgan.sampling.metadata import Drawing
from cgan.sampling.naming import Names, cleaned, slug
from cgan.sampling.pipeline import TextToImage
from cgan.training.run_records import read_run

MOST_PICTURES, LONGEST_CAPTION = 16, 300  # of one wish; characters
MOST_TRUNCATION = 2.0
STEPS = 16  # pictures of a walk
NEAREST, THUMBNAIL = 8, 160  # pictures found; pixels
KEPT = 200  # answers whose files stay; those of older ones are deleted


class Wish(NamedTuple):
    """A picture, as a visitor asks for it; nothing in it can be trusted."""

    checkpoint: str  # its label
    caption: str
    seed: int
    truncation: float = 1.0


class Shown(NamedTuple):
    path: Path
    words: str  # below the picture


class Studio:
    """Answers wishes by files in a folder of its own; raises UserError for what it will not do.

    progress hears how many of the pictures to search are encoded.
    """

    def __init__(
        self, checkpoints: dict[str, Path], folder: Path, images: Path | None = None, progress: Progress = silent
    ) -> None:
        self.checkpoints, self.folder, self.images, self.progress = checkpoints, folder, images, progress
        self.answers: deque[Path] = deque()

    def draw(self, wish: Wish, num: int) -> tuple[list[Shown], Path]:
        """A file for each picture, of the wish's seed and those after it; and one file with all of them."""
        caption = checked(wish)
        if type(num) is not int or not 1 <= num <= MOST_PICTURES:
            raise UserError(f"{str(num)[:20]} pictures: this page draws from 1 to {MOST_PICTURES}; choose fewer")
        seeds = list(range(wish.seed, wish.seed + num))
        Drawing([caption], seeds, truncation=wish.truncation).check()
        pipe, names, shown = self.pipe(wish), Names(self.new_folder()), []
        for seed, picture in zip(seeds, pipe.stream([caption] * num, seeds, wish.truncation), strict=True):
            drawing = Drawing([caption], [seed], truncation=wish.truncation)
            path = names.of([caption], seed)
            save_png(picture, path, drawing.to_json(**self.made_with(wish)))
            shown.append(Shown(path, f"seed {seed}"))
        return shown, together([each.path for each in shown])

    def walk(self, wish: Wish, to_caption: str, to_seed: int) -> Path:
        """A strip of the way to another caption, or the same where that is empty, and to another seed."""
        end = wish._replace(caption=to_caption or wish.caption, seed=to_seed)
        captions, seeds = list(dict.fromkeys([checked(wish), checked(end)])), [wish.seed, to_seed]
        if len(captions) == 1 and wish.seed == to_seed:
            raise UserError("nothing changes on this walk; give another caption or another seed to walk to")
        drawing = Drawing(captions, seeds, "way", wish.truncation, steps=STEPS)
        drawing.check()
        pictures = frames(self.pipe(wish), captions, (wish.seed, to_seed), STEPS, wish.truncation)
        path = self.new_folder() / f"{slug(' to '.join(captions))}-walk.png"
        save_png(drawing.page(pictures), path, drawing.to_json(**self.made_with(wish)))
        return path

    def nearest(self, wish: Wish) -> tuple[list[Shown], list[Shown]]:
        """The training pictures nearest to the caption, and those nearest to the picture that is drawn of it."""
        caption, pictures = checked(wish), self.pictures(self.path(wish))
        Drawing([caption], [wish.seed], truncation=wish.truncation).check()
        if pictures is None:
            raise UserError(f"{wish.checkpoint}: its training pictures are not here; start with cgan demo --images DIR")
        joint, index = opened(joint_of(self.path(wish)), pictures, self.progress)
        folder = self.new_folder()
        save_png(self.pipe(wish).draw([caption], [wish.seed], wish.truncation)[0], folder / "drawn.png")
        by_caption = index.search_caption(joint, caption, NEAREST)
        by_picture = (found[0] for found in index.search(embed_picture(joint, folder / "drawn.png"), NEAREST))
        return thumbnails(index, *by_caption, folder), thumbnails(index, *by_picture, folder)

    def unknown(self, wish: Wish, more: str = "") -> str:
        """What is to be said of words that training never saw; nothing where all are known."""
        words = self.pipe(wish).unknown_words([cleaned(caption) for caption in (wish.caption, more) if caption.strip()])
        return f"The model never saw {listed(words)}; it draws what it makes of the rest." if words else ""

    def path(self, wish: Wish) -> Path:
        if wish.checkpoint not in self.checkpoints:
            raise UserError(f"{str(wish.checkpoint)[:100]}: no such checkpoint here; choose one of the list")
        return self.checkpoints[wish.checkpoint]

    def pipe(self, wish: Wish) -> TextToImage:
        path = self.path(wish)
        return loaded(path, path.stat().st_mtime_ns if path.is_file() else 0)

    def pictures(self, checkpoint: Path) -> Path | None:
        return self.images or pictures_of_run(checkpoint)

    def made_with(self, wish: Wish) -> dict:
        """What sample.py writes into its files as well."""
        weights = {"file": label(self.path(wish)), "sha256": self.pipe(wish).sha256}
        return {"checkpoint": weights, **versions(), "joint": None}

    def new_folder(self) -> Path:
        """For one answer; that of the oldest one goes."""
        self.answers.append(Path(tempfile.mkdtemp(dir=self.folder)))
        if len(self.answers) > KEPT:
            shutil.rmtree(self.answers.popleft(), ignore_errors=True)
        return self.answers[-1]


def checked(wish: Wish) -> str:
    """Its caption, without control characters; raises UserError for what nobody would ask for by the page itself."""
    if not isinstance(wish.caption, str) or len(wish.caption) > LONGEST_CAPTION:
        length = len(wish.caption) if isinstance(wish.caption, str) else 0
        raise UserError(f"a caption of {length:,} characters; this page takes {LONGEST_CAPTION} at most, so shorten it")
    if type(wish.seed) is not int:
        raise UserError("the seed is not a number; give one, for instance 0")
    if type(wish.truncation) not in (int, float) or not 0 <= wish.truncation <= MOST_TRUNCATION:
        raise UserError(f"the truncation is not from 0 to {MOST_TRUNCATION:g}; 1 is plain, 0.7 safer")
    return cleaned(wish.caption)


@lru_cache(maxsize=2)
def loaded(path: Path, modified: int) -> TextToImage:
    """Loaded anew where a training has written the file again."""
    return TextToImage.load(path)


@lru_cache(maxsize=2)
def opened(checkpoint: Path, pictures: Path, progress: Progress) -> tuple[JointEncoder, EmbeddingIndex]:
    joint = JointEncoder.load(checkpoint)
    return joint, open_index(joint, checkpoint, pictures, progress=progress)


def joint_of(checkpoint: Path) -> Path:
    """The joint encoder beside a checkpoint, or the starter's."""
    beside = checkpoint.with_name("joint.safetensors")
    return beside if beside.is_file() else STARTER_JOINT


def pictures_of_run(checkpoint: Path) -> Path | None:
    """The folder of pictures that a run was trained on, if it is one, and still there."""
    try:
        data = read_run(checkpoint.parent).settings["data"]
    except (UserError, KeyError):
        return None
    if data.get("source") in ("scenes", "shards", "datasets") or not data.get("root"):
        return None
    return Path(data["root"]) if Path(data["root"]).is_dir() else None


def thumbnails(index: EmbeddingIndex, scores: np.ndarray, rows: np.ndarray, folder: Path) -> list[Shown]:
    """Copies, so that nothing of the pictures' own folder is ever served."""
    shown = []
    for score, row in zip(scores, rows, strict=True):
        name = index.files[row].name
        picture, _ = decode((Path(index.origin.folder) / name, THUMBNAIL))
        if picture is not None:
            path = Path(tempfile.mkstemp(suffix=".png", dir=folder)[1])
            save_png(np.asarray(picture), path)
            shown.append(Shown(path, f"{Path(name).name}, {score:.2f}"))
    return shown


def together(paths: list[Path]) -> Path:
    """One file to download: the only picture, or an archive of all."""
    if len(paths) == 1:
        return paths[0]
    archive = paths[0].with_name("pictures.zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in paths:
            file.write(path, path.name)
    return archive
