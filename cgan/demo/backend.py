"""The functions behind the tabs of the demo page; they check all that a visitor sends."""

import base64
import shutil
import tempfile
import zipfile
from collections import deque
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cgan.data.decoding import upright
from cgan.data.pictures import decode
from cgan.demo.examples import captions_for, title
from cgan.errors import UserError
from cgan.figures.sheets import save_png
from cgan.models.joint import JointEncoder
from cgan.retrieval import EmbeddingIndex, embed_picture, open_index
from cgan.retrieval.asking import Answers, Asker, ask_by
from cgan.retrieval.embedding import opened_joint
from cgan.sampling.interpolation import frames
from cgan.sampling.naming import OutputPaths, cleaned, slug
from cgan.sampling.pipeline import TextToImage
from cgan.sampling.request import SamplingRequest, check_keep
from cgan.sampling.reranker import joint_encoder_for
from cgan.sampling.sources import HINT, InMemory
from cgan.sampling.writing import provenance, unknown_words
from cgan.training.run_records import read_run
from cgan.workers import Progress, silent

MAX_PICTURES, MAX_CAPTION = 16, 300  # of one request; characters
MAX_TRUNCATION = 2.0
TOO_LARGE = "too large"  # what the page sends in place of such a picture
TOP = 8  # answers to a question
MOST_KEPT = 50_000  # captions that an asker keeps encoded; with more of them it starts anew
MAX_UPLOAD = 12_000_000  # bytes of a visitor's picture
NO_READER = "these weights come without a joint encoder, which reads pictures; choose others"
NO_EDITS = "these weights can't edit pictures; choose others, or fit a posterior with `cgan posterior`"
STEPS = 16  # pictures of an interpolation
NEAREST, THUMBNAIL = 8, 160  # pictures found; pixels
KEPT = 200  # answers whose files stay; those of older ones are deleted


class PageRequest(NamedTuple):
    """A request for a picture from a visitor of the page; none of its values is trusted."""

    checkpoint: str  # its label
    caption: str
    seed: int
    truncation: float = 1.0


class Shown(NamedTuple):
    """A picture on the page, and the text below it."""

    path: Path
    words: str  # below the picture


class Backend:
    """Answers requests of the page by files in `folder`; raises UserError for values out of range.

    checkpoints are the choices on the page, by label. images is the folder in which the nearest pictures are searched,
    by default that of the chosen run. progress is called with the numbers of encoded pictures and of those to encode.
    """

    def __init__(
        self, checkpoints: dict[str, Path], folder: Path, images: Path | None = None, progress: Progress = silent
    ) -> None:
        self.checkpoints, self.folder, self.images, self.progress = checkpoints, folder, images, progress
        self.answers: deque[Path] = deque()

    def sample(self, request: PageRequest, num: int) -> tuple[list[Shown], Path]:
        """Returns a file for each picture, of the request's seed and those after it, and one file with all of them."""
        caption = checked(request)
        if type(num) is not int or not 1 <= num <= MAX_PICTURES:
            raise UserError(f"{str(num)[:20]} pictures: choose from 1 to {MAX_PICTURES} of them")
        seeds = list(range(request.seed, request.seed + num))
        SamplingRequest([caption], seeds, truncation=request.truncation).check()
        pipe, paths, shown = self.pipe(request), OutputPaths(self.new_folder()), []
        for seed, picture in zip(seeds, pipe.stream([caption] * num, seeds, request.truncation), strict=True):
            one = SamplingRequest([caption], [seed], truncation=request.truncation)
            path = paths.of([caption], seed)
            save_png(picture, path, one.to_json(**self.provenance(request)))
            shown.append(Shown(path, f"seed {seed}"))
        return shown, together([each.path for each in shown])

    def interpolate(self, request: PageRequest, to_caption: str, to_seed: int) -> Path:
        """Returns a strip of STEPS pictures to another caption, or the same where that is empty, and another seed."""
        end = request._replace(caption=to_caption or request.caption, seed=to_seed)
        captions, seeds = list(dict.fromkeys([checked(request), checked(end)])), [request.seed, to_seed]
        if len(captions) == 1 and request.seed == to_seed:
            raise UserError("nothing changes; give another caption or another seed to go to")
        strip = SamplingRequest(captions, seeds, "interpolation", request.truncation, steps=STEPS)
        strip.check()
        pictures = frames(self.pipe(request), captions, (request.seed, to_seed), STEPS, request.truncation)
        path = self.new_folder() / f"{slug(' to '.join(captions))}-interpolation.png"
        save_png(strip.page(pictures), path, strip.to_json(**self.provenance(request)))
        return path

    def edit(self, request: PageRequest, picture: str, keep: float) -> tuple[list[Shown], Path]:
        """Returns a visitor's picture and what the caption makes of it, and the latter's file.

        picture is a data URL of the file, as a browser reads it; keep is from 0, which ignores it, to 1.
        """
        caption, content = checked(request), InMemory(content_of(picture))
        check_keep(keep)
        SamplingRequest([caption], [request.seed], truncation=request.truncation, keep=keep).check()
        if not self.can_edit(request.checkpoint):
            raise UserError(f"{title(request.checkpoint)}: {NO_EDITS}")
        pipe, folder = self.pipe(request).starting_from(content, keep), self.new_folder()
        source = pipe.sources[0]
        before, after = folder / "before.png", OutputPaths(folder).of([caption], request.seed)
        save_png(source.image.permute(1, 2, 0).numpy(), before)
        edited = pipe.sample([caption], [request.seed], request.truncation)[0]
        one = SamplingRequest([caption], [request.seed], truncation=request.truncation, keep=keep)
        one = replace(one, sources=[source.about()])
        save_png(edited, after, one.to_json(**provenance(pipe, self.path(request))))
        return [Shown(before, "before"), Shown(after, "after")], after

    def can_edit(self, checkpoint: str) -> bool:
        """Returns whether the weights of a label come with what finds the latents of pictures."""
        try:
            self.pipe(PageRequest(checkpoint, "", 0)).inverter()
        except UserError:
            return False
        return True

    def ask(self, checkpoint: str, picture: str, question: str, among: str = "") -> tuple[Answers, list[str]]:
        """Returns the answers to a question about a visitor's picture, best first, and messages about the question.

        picture is a data URL of the file. among holds the answers to choose from, separated by commas; where it is
        empty, they are all that the training captions name. The joint encoder of the checkpoint answers.
        """
        for text in (question, among):
            if not isinstance(text, str) or len(text) > MAX_CAPTION:
                raise UserError(f"the question or its answers are too long; this page takes {MAX_CAPTION} characters")
        content, reason = upright(InMemory(content_of(picture)))
        if content is None:
            raise UserError(f"the picture: {reason}; {HINT}")
        asker, messages = asker_of(self.joint(checkpoint)), []
        offered = cleaned(among).split(",") if among.strip() else None
        try:
            return ask_by(asker, content, cleaned(question), offered, TOP, messages.append), messages
        except UserError as error:
            raise UserError(str(error).replace("--among:", "answers:").replace("--among", "the answers")) from None

    def joint(self, checkpoint: str) -> Path:
        """Returns the joint encoder that reads pictures for the weights of a label; raises UserError without one."""
        path = self.path(PageRequest(checkpoint, "", 0))
        try:
            return joint_encoder_for(path)
        except UserError:
            raise UserError(f"{title(checkpoint)}: {NO_READER}") from None

    def can_ask(self, checkpoint: str) -> bool:
        """Returns whether a joint encoder can answer questions for the weights of a label."""
        try:
            self.joint(checkpoint)
        except UserError:
            return False
        return True

    def captions(self, checkpoint: str) -> tuple[str, ...]:
        """Returns example captions for the weights of a label; none where they know no such words."""
        return captions_for(self.pipe(PageRequest(checkpoint, "", 0)).unknown_words)

    def nearest(self, request: PageRequest) -> tuple[list[Shown], list[Shown]]:
        """Returns the training pictures nearest to the caption, and those nearest to the picture sampled from it."""
        caption, pictures = checked(request), self.pictures(self.path(request))
        SamplingRequest([caption], [request.seed], truncation=request.truncation).check()
        if pictures is None:
            raise UserError(
                f"{request.checkpoint}: its training pictures are not here; start with cgan demo --images DIR"
            )
        joint, index = opened(self.joint(request.checkpoint), pictures, self.progress)
        folder = self.new_folder()
        save_png(self.pipe(request).sample([caption], [request.seed], request.truncation)[0], folder / "sampled.png")
        by_caption = index.search_caption(joint, caption, NEAREST)
        scores, rows = index.search(embed_picture(joint, folder / "sampled.png"), NEAREST)
        return thumbnails(index, *by_caption, folder), thumbnails(index, scores[0], rows[0], folder)

    def unknown(self, request: PageRequest, more: str = "") -> str:
        """Returns a message about words that were not in the training captions; empty where all are known."""
        words = self.pipe(request).unknown_words(
            [cleaned(caption) for caption in (request.caption, more) if caption.strip()]
        )
        return f"U{unknown_words(words)[1:]}" if words else ""

    def path(self, request: PageRequest) -> Path:
        """Returns the file of the checkpoint that a request names; raises UserError where it is no choice."""
        if request.checkpoint not in self.checkpoints:
            raise UserError(f"{str(request.checkpoint)[:100]}: no such checkpoint here; choose one of the list")
        return self.checkpoints[request.checkpoint]

    def pipe(self, request: PageRequest) -> TextToImage:
        """Returns the loaded checkpoint of a request."""
        path = self.path(request)
        return loaded(path, path.stat().st_mtime_ns if path.is_file() else 0)

    def pictures(self, checkpoint: Path) -> Path | None:
        """Returns the folder to search for the nearest pictures; None where there is none."""
        return self.images or pictures_of_run(checkpoint)

    def provenance(self, request: PageRequest) -> dict:
        """Returns the facts that sample.py writes into its files as well."""
        return provenance(self.pipe(request), self.path(request))

    def new_folder(self) -> Path:
        """Makes a folder for one answer, and deletes that of the oldest one."""
        self.answers.append(Path(tempfile.mkdtemp(dir=self.folder)))
        if len(self.answers) > KEPT:
            shutil.rmtree(self.answers.popleft(), ignore_errors=True)
        return self.answers[-1]


def checked(request: PageRequest) -> str:
    """Returns the caption without control characters; raises UserError for values that the page itself never sends."""
    if not isinstance(request.caption, str) or len(request.caption) > MAX_CAPTION:
        length = len(request.caption) if isinstance(request.caption, str) else 0
        raise UserError(f"a caption of {length:,} characters; this page takes {MAX_CAPTION} at most, so shorten it")
    if type(request.seed) is not int:
        raise UserError("the seed is not a number; give one, for instance 0")
    if type(request.truncation) not in (int, float) or not 0 <= request.truncation <= MAX_TRUNCATION:
        raise UserError(f"the truncation is not from 0 to {MAX_TRUNCATION:g}; 1 is plain, 0.7 safer")
    return cleaned(request.caption)


def content_of(picture: str) -> bytes:
    """Returns the bytes of a data URL; raises UserError where it is none, too long, or not of a picture."""
    if not isinstance(picture, str) or not picture:
        raise UserError("no picture; drop one, or choose a file")
    if picture == TOO_LARGE or len(picture) > 4 * MAX_UPLOAD // 3 + 200:
        raise UserError(f"the picture has more than {MAX_UPLOAD // 10**6} MB; give a smaller one")
    head, _, coded = picture.partition(",")
    try:
        if not head.startswith("data:") or not head.endswith(";base64"):
            raise ValueError("no data URL")
        return base64.b64decode(coded, validate=True)
    except ValueError:
        raise UserError("the picture did not arrive whole; choose it again") from None


def asker_of(path: Path) -> Asker:
    """Returns the asker of a joint encoder, kept from earlier questions unless it keeps too many captions."""
    asker = kept_asker(path, path.stat().st_mtime_ns)
    if len(asker.rows) > MOST_KEPT:
        kept_asker.cache_clear()
        asker = kept_asker(path, path.stat().st_mtime_ns)
    return asker


@lru_cache(maxsize=1)
def kept_asker(path: Path, modified: int) -> Asker:
    """Loads a joint encoder that answers questions, and again when a training has written the file anew."""
    return Asker(opened_joint(path))


@lru_cache(maxsize=3)
def loaded(path: Path, modified: int) -> TextToImage:
    """Loads a checkpoint, and again when a training has written the file anew."""
    return TextToImage.load(path)


@lru_cache(maxsize=2)
def opened(checkpoint: Path, pictures: Path, progress: Progress) -> tuple[JointEncoder, EmbeddingIndex]:
    """Loads a joint encoder, and brings the index of a folder up to date."""
    joint = JointEncoder.load(checkpoint)
    return joint, open_index(joint, checkpoint, pictures, progress=progress)


def pictures_of_run(checkpoint: Path) -> Path | None:
    """Returns the folder of pictures that a checkpoint's run was trained on.

    None if it had none, or if it no longer exists.
    """
    try:
        data = read_run(checkpoint.parent).settings["data"]
    except (UserError, KeyError):
        return None
    if data.get("source") in ("scenes", "shards", "datasets") or not data.get("root"):
        return None
    return Path(data["root"]) if Path(data["root"]).is_dir() else None


def thumbnails(index: EmbeddingIndex, scores: np.ndarray, rows: np.ndarray, folder: Path) -> list[Shown]:
    """Returns small copies of some pictures of an index, written to `folder`, so that no original is served.

    scores and rows, each (K,), are of the pictures; those that can't be read are left out.
    """
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
    """Returns one file to download: the only picture, or a zip archive of all of them."""
    if len(paths) == 1:
        return paths[0]
    archive = paths[0].with_name("pictures.zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in paths:
            file.write(path, path.name)
    return archive
