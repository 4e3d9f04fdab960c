"""The closed loop: a caption is drawn, the drawing is described and searched with, and all three results are scored.

The three systems of cgan take part: the joint encoder's decoders (representation), its similarities (matching), and the
GAN (generation). On scenes the scene classifier, which knows none of them, checks the drawing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cgan.data.records import printable
from cgan.data.scenes.attributes import ATTRIBUTES, OBJECTS, Scene
from cgan.data.scenes.captions import in_english, mentioned_in
from cgan.evaluation.loop import resized
from cgan.evaluation.real_pictures import RealPictures, real_folder, real_scenes
from cgan.figures.sheets import CAPTIONS, CHINESE_CAPTIONS, save_png
from cgan.figures.strip import Cell, strip
from cgan.files import write_json
from cgan.interfaces import Report, UserError
from cgan.metrics.scenes import load_scene_classifier, right
from cgan.models.joint import JointEncoder
from cgan.models.text.lstm import split_words
from cgan.models.weights_hash import hash_weights
from cgan.pixels import as_bytes, as_floats
from cgan.retrieval import embed_captions, joint_checkpoint_of, nearest, opened_joint
from cgan.sampling.naming import cleaned
from cgan.sampling.pipeline import TextToImage
from cgan.sampling.reranker import joint_encoder_for
from cgan.sampling.weights import default_checkpoint, find, label
from cgan.sampling.writing import vocabulary_warnings
from cgan.workers import Progress, silent

NUM_SCENES = 2000  # scenes that are searched


class Retrieved(NamedTuple):
    """A real picture near the drawn one."""

    name: str
    similarity: float  # with the drawn picture
    rank_by_prompt: int  # among all real pictures by similarity with the prompt, from 1
    true_of_prompt: bool | None  # whether it shows all that the prompt says; None where that is not known
    picture: np.ndarray  # uint8 (R, R, 3)


@dataclass(frozen=True)
class Cycle:
    """What became of a prompt; `scores` holds everything but the pixels, as JSON can."""

    prompt: str
    drawn: np.ndarray  # uint8 (H, W, 3)
    rebuilt: dict[str, np.ndarray]  # from the prompt's and the drawing's latents, where there is a picture decoder
    caption: str  # of the drawing
    retrieved: list[Retrieved]  # most similar first
    scores: dict

    def strip(self) -> np.ndarray:
        """Returns all pictures side by side, with what was measured of each, uint8 (H, W, 3)."""
        drawing, written = self.scores["drawing"], self.scores["caption"]
        how = "" if written["by"] == "decoder" else " (nearest caption)"
        rebuilt = {"prompt": "from the prompt's latent", "drawing": "from the drawing's latent"}
        text = f"similarity {drawing['similarity']:.2f}\n“{self.caption}”{how}"
        cells = [Cell(self.drawn, "generation: drawn", text)]
        cells += [Cell(picture, "representation", rebuilt[name]) for name, picture in self.rebuilt.items()]
        for one in self.retrieved:
            text = f"{one.name}\nsimilarity {one.similarity:.2f}\nrank by prompt {one.rank_by_prompt:,}"
            cells.append(Cell(one.picture, "matching: real", text))
        return strip(cells, self.prompt)

    def save(self, path: str | Path) -> None:
        """Writes the strip as a PNG, and the scores as JSON beside it; raises CannotWrite."""
        save_png(self.strip(), Path(path))
        write_json(Path(path).with_suffix(".json"), self.scores)


def cycle(
    prompt: str,
    *,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    joint: Path | None = None,
    images: Path | None = None,
    captions: Sequence[str] = (),
    top: int = 4,
    num_images: int = NUM_SCENES,
    report: Report = silent,
    progress: Progress = silent,
) -> Cycle:
    """Draws a prompt, describes the drawing, finds the `top` nearest real pictures, and scores all three.

    checkpoint draws, by default the newest run's or the starter weights; joint describes and searches, by default the
    encoder beside the checkpoint or the starter weights. Real pictures are those of the folder `images`, by default
    `num_images` training scenes. A joint encoder without a caption decoder takes the nearest of `captions`, by default
    those of the scenes, and the scores say so. `report` gets warnings, `progress` the numbers of encoded real pictures
    and of all. Raises UserError for mistakes in the arguments and for files that can't be read.
    """
    prompt = cleaned(prompt)
    if not prompt:
        raise UserError('the prompt is empty; give one, for instance "a dog on grass"')
    if top < 1:
        raise UserError(f"--top={top}: must be at least 1; 4 is a good start")
    path = default_checkpoint() if checkpoint is None else find(checkpoint)
    joint_path = joint_encoder_for(path) if joint is None else joint_checkpoint_of(joint)
    pipe, encoder = TextToImage.load(path), opened_joint(joint_path)
    drawn = pipe.sample([prompt], [seed])[0]  # before pictures are encoded, so that a wrong seed is reported at once
    if images is None:
        check_knows_scenes(pipe)
        real = real_scenes(encoder, num_images, progress)
    else:
        real = real_folder(encoder, joint_path, images, captions, report, progress)
    for warning in vocabulary_warnings(pipe, [prompt]):
        report(warning)
    made = closed(encoder, real, prompt, drawn, top, list(captions) or real.captions)
    about = {"prompt": prompt, "seed": seed, "checkpoint": label(path), "weights": pipe.sha256}
    about |= {"joint": label(joint_path), "joint_weights": hash_weights(encoder)}
    return replace(made, scores=about | made.scores)


def check_knows_scenes(pipe: TextToImage) -> None:
    """Raises UserError unless a model knows half of the words of scenes' captions, English or Chinese ones."""
    for captions in (CAPTIONS, CHINESE_CAPTIONS):
        words = {word for caption in captions for word in split_words(caption)}
        if 2 * len(pipe.unknown_words(list(captions))) <= len(words):
            return
    raise UserError("the checkpoint was not trained on scenes; give --images DIR, real pictures like its own")


@torch.no_grad()
def closed(
    joint: JointEncoder, real: RealPictures, prompt: str, drawn: np.ndarray, top: int, captions: list[str]
) -> Cycle:
    """Returns the cycle of a picture, uint8 (H, W, 3), that was drawn of a prompt; raises UserError."""
    image = as_floats(torch.from_numpy(drawn.copy()).permute(2, 0, 1)[None])  # (1, 3, H, W)
    seen = resized(image, joint.resolution)
    picture, text = joint.embed_images(seen).cpu().numpy(), embed_captions(joint, [prompt])  # (1, E) each
    caption, by = described(joint, seen, picture, captions)
    written = embed_captions(joint, [caption])
    scores_by_prompt = real.embeddings @ text[0]  # (N,)
    on_scenes = real.attributes is not None and names_one_object(prompt)
    drawing: dict = {"similarity": similarity(picture, text)}
    drawing["rank_by_prompt"] = 1 + int((scores_by_prompt > drawing["similarity"]).sum())
    about: dict = {"text": caption, "by": by, "similarity": similarity(picture, written)}
    about["similarity_to_prompt"] = similarity(text, written)
    if on_scenes:
        drawing |= classified(image, prompt)
        about |= agreement(prompt, caption)
    retrieved = near(real, picture, scores_by_prompt, top, prompt if on_scenes else None)
    found = [{name: value for name, value in one._asdict().items() if name != "picture"} for one in retrieved]
    retrieval = {"source": real.source, "num_pictures": len(real.embeddings), "pictures": found}
    scores = {"drawing": drawing, "caption": about, "retrieval": retrieval}
    return Cycle(prompt, drawn, rebuilt(joint, seen, prompt), caption, retrieved, scores)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the similarity of two embeddings, (1, E) each."""
    return float(one[0] @ other[0])


def described(joint: JointEncoder, image: Tensor, picture: np.ndarray, captions: list[str]) -> tuple[str, str]:
    """Returns a caption of an image and how it came: "decoder" for one that was written, or "nearest caption".

    image is (1, 3, R, R), and picture its embedding (1, E). Raises UserError if there is neither.
    """
    if joint.caption_decoder is not None:
        return joint.captions_of(image)[0], "decoder"
    if not captions:
        raise UserError("the joint encoder has no caption decoder; give --captions FILE, captions to choose from")
    _, rows = nearest(picture, embed_captions(joint, captions), 1)
    return captions[rows[0, 0]], "nearest caption"


def rebuilt(joint: JointEncoder, image: Tensor, prompt: str) -> dict[str, np.ndarray]:
    """Returns what the picture decoder makes of the latents of a prompt and an image (1, 3, R, R), uint8 (R, R, 3)."""
    if joint.picture_decoder is None:
        return {}
    embeddings = {"prompt": joint.text([prompt]).sentence, "drawing": joint.image(image.to(joint.device)).embedding}
    return {name: as_bytes(joint.redraw(e))[0].permute(1, 2, 0).cpu().numpy() for name, e in embeddings.items()}


def near(
    real: RealPictures, picture: np.ndarray, scores_by_prompt: np.ndarray, top: int, scene: str | None
) -> list[Retrieved]:
    """Returns the real pictures nearest to a drawn one, given as its embedding (1, E), most similar first.

    scene is the prompt where the attributes of real pictures tell whether it is true of them.
    """
    scores, rows = nearest(picture, real.embeddings, top)
    found = []
    for score, row in zip(map(float, scores[0]), map(int, rows[0]), strict=True):
        rank = 1 + int((scores_by_prompt > scores_by_prompt[row]).sum())
        true = None
        if scene is not None and real.attributes is not None:
            pairs = zip(mentioned_in(scene), real.attributes[row].tolist(), strict=True)
            true = all(said in (-1, shown) for said, shown in pairs)
        found.append(Retrieved(printable(real.names[row]), score, rank, true, real.pixels(row)))
    return found


# ------------------------------------------------------------------------------------------------ scenes


def names_one_object(prompt: str) -> bool:
    """Returns whether a prompt is of scenes with one object, the only ones that the scene classifier reads."""
    return mentioned_in(prompt).object >= 0 and sum(name in split_words(prompt) for name in OBJECTS) < 2


def classified(image: Tensor, prompt: str) -> dict:
    """Returns what the scene classifier sees in an image (1, 3, H, W), and whether all of the prompt is right."""
    reading = load_scene_classifier().read(image)
    fits = right(reading, torch.tensor([mentioned_in(prompt)]))
    shows = in_english(in_words(Scene(*reading.values[0].tolist())))
    return {"classifier_sees": shows, "recognisable": bool(reading.recognisable[0]), "right": bool(fits[0])}


def in_words(scene: Scene) -> str:
    """Returns the names of a scene's values, from which `in_english` makes a caption."""
    return " ".join(values[index] for values, index in zip(ATTRIBUTES.values(), scene, strict=True))


def agreement(prompt: str, caption: str) -> dict:
    """Returns how many of the attributes that a prompt names a caption names alike, otherwise, and not at all."""
    pairs = list(zip(mentioned_in(prompt), mentioned_in(caption), strict=True))
    asked = [(said, written) for said, written in pairs if said >= 0]
    alike, missing = sum(said == written for said, written in asked), sum(written < 0 for _, written in asked)
    return {"attributes": len(asked), "alike": alike, "different": len(asked) - alike - missing, "missing": missing}
