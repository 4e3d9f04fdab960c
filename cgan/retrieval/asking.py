"""Answers questions about a picture by a joint encoder, without any training for it (Radford et al. 2021, CLIP).

Each candidate answer becomes captions: what the question states and the answer are said, and all that they leave open
is said in every way. An answer's score is the logarithm of the mean of exp(score) over its captions, at the temperature
of the encoder's own contrastive loss: the attributes that are left open are marginalised out.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cgan.data.decoding import in_rgb, square
from cgan.data.pictures import decode
from cgan.data.records import printable
from cgan.interfaces import Report, UserError
from cgan.models.joint import JointEncoder
from cgan.models.text.lstm import LSTMTextEncoder
from cgan.pixels import as_floats
from cgan.retrieval.embedding import joint_checkpoint_of, opened_joint
from cgan.retrieval.lexicon import Lexicon, caption_of
from cgan.retrieval.questions import Candidate, Question, understand, unknown_in
from cgan.workers import silent

MOST_CAPTIONS = {True: 5000, False: 256}  # of all answers together: of an LSTM, which is fast, and of others
BATCH_SIZE = 256
SURE = 3.0  # times as probable as what a question states must be what the picture shows, to be reported


class Answer(NamedTuple):
    """A possible answer and how well it fits."""

    answer: str
    probability: float  # among the candidates, by the encoder; they sum to 1
    similarity: float  # of the picture and `caption`
    caption: str  # the best one with this answer


@dataclass(frozen=True)
class Answers:
    """The answers to a question, best first."""

    question: str
    asks: str  # colour, object, ground, position, size, number, or "answer"
    given: dict[str, str]  # what the question states, by attribute
    answers: list[Answer]
    doubts: list[str]  # where the picture contradicts what the question states

    @property
    def best(self) -> str:
        """The answer that fits best."""
        return self.answers[0].answer

    def as_json(self) -> dict:
        """Returns everything as a dictionary that JSON can hold."""
        return asdict(self) | {"answers": [answer._asdict() for answer in self.answers]}


class Asker:
    """asker(image vector, question) -> Answers, by one joint encoder; captions are encoded once, at their first use."""

    def __init__(self, joint: JointEncoder) -> None:
        self.joint, self.lexicon = joint, Lexicon(joint)
        self.scale = 1 / joint.config.temperature if joint.log_scale is None else math.exp(joint.log_scale.item())
        self.most_captions = MOST_CAPTIONS[isinstance(joint.text, LSTMTextEncoder)]
        self.noun = next((word for word in ("object", "thing") if self.lexicon.knows(word)), "")
        self.rows: dict[str, int] = {}  # of each encoded caption, in `vectors`
        self.vectors: Tensor | None = None  # of these captions, (N, G)

    def __call__(self, image: Tensor, question: str, among: Sequence[str] | None = None) -> Answers:
        """Returns the answers to a question about a picture, given as `image_vectors` (1, F); raises UserError."""
        understood = understand(question, self.lexicon, among)
        given = {attribute: value.name for attribute, value in understood.given.items()}
        doubts = [doubt for attribute in understood.given for doubt in self.doubt(image, understood, attribute)]
        return Answers(understood.text, understood.asks, given, self.rank(image, understood), doubts)

    def rank(self, image: Tensor, question: Question) -> list[Answer]:
        """Returns the candidates of a question, best first."""
        captions = self.captions_of(question)  # of each candidate M
        flat = [caption for row in captions for caption in row]
        scores = self.joint.score_vectors(image, self.encoded(flat))[0].view(len(captions), -1)  # (C, M)
        probabilities = torch.logsumexp(scores * self.scale, dim=1).softmax(dim=0)  # (C,)
        best, places = scores.max(dim=1)
        order = probabilities.argsort(descending=True, stable=True).tolist()
        return [
            Answer(question.candidates[i].answer, float(probabilities[i]), float(best[i]), captions[i][int(places[i])])
            for i in order
        ]

    def captions_of(self, question: Question) -> list[list[str]]:
        """Returns the captions of each candidate, as many of each: all combinations of what the question leaves open.

        An attribute is left out of the captions, that with the most values first, while there are too many.
        """
        most = max(len(candidate.phrases) for candidate in question.candidates)
        asked = [list((c.phrases * most)[:most]) for c in question.candidates]
        if question.asks == "answer":
            return asked
        axes = self.left_open(question)
        while len(asked) * most * math.prod(map(len, axes.values())) > self.most_captions:
            longest = max(axes, key=lambda name: len(axes[name]), default="")
            if len(axes.get(longest, ())) < 2:
                break
            del axes[longest]
        combinations = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
        return [
            [caption_of(slots | {question.asks: phrase}, self.noun) for phrase in phrases for slots in combinations]
            for phrases in asked
        ]

    def left_open(self, question: Question) -> dict[str, list[str]]:
        """Returns the phrases of each attribute but the asked one: those of all its values, or of the stated one.

        Captions that count say no more than the question does: those of a training rarely describe a group further.
        """
        axes = {name: [value.phrase] for name, value in question.given.items()}
        if question.asks != "number":
            others = self.lexicon.values.keys() - axes.keys() - {question.asks, "number"}
            axes |= {name: [value.phrase for value in self.lexicon.values[name]] for name in sorted(others)}
        return {name: phrases for name, phrases in axes.items() if phrases}

    @torch.inference_mode()
    def encoded(self, captions: list[str]) -> Tensor:
        """Returns the `caption_vectors` of captions, (N, G); each caption is encoded once."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self.rows]
        for start in range(0, len(new), BATCH_SIZE):
            batch = new[start : start + BATCH_SIZE]
            vectors = self.joint.caption_vectors(batch)
            self.vectors = vectors if self.vectors is None else torch.cat([self.vectors, vectors])
            self.rows |= {caption: i for i, caption in enumerate(batch, start=len(self.rows))}
        assert self.vectors is not None  # there are at least two captions
        return self.vectors[[self.rows[caption] for caption in captions]]

    def doubt(self, image: Tensor, question: Question, attribute: str) -> list[str]:
        """Returns a sentence if the picture clearly shows another value of an attribute than the question states."""
        stated, values = question.given[attribute], self.lexicon.values[attribute]
        if stated not in values or len(values) < 2:
            return []
        others = {name: value for name, value in question.given.items() if name != attribute}
        candidates = [Candidate(value.name, (value.phrase,)) for value in values]
        ranked = self.rank(image, question._replace(asks=attribute, given=others, candidates=candidates))
        probability = next(answer.probability for answer in ranked if answer.answer == stated.name)
        if ranked[0].probability < SURE * probability:
            return []
        return [f"the question says '{stated.name}', but the picture seems to show '{ranked[0].answer}'"]


def ask(
    picture: str | Path | Image.Image,
    question: str,
    *,
    among: Sequence[str] | None = None,
    top: int | None = None,
    checkpoint: Path | None = None,
    report: Report = silent,
) -> Answers:
    """Returns the answers to a question about a picture, a file or one of Pillow's, best first, at most `top`.

    The question asks for a colour, an object, a ground ("where"), a position (left or right), a size or a number.
    Candidates are what the encoder's training captions name, or `among`; with it any question may be asked. checkpoint
    is a joint encoder or a run directory, by default the newest run's or the starter weights. `report` is called with
    messages about unknown words and where the picture contradicts the question. Only the centre square is seen.

    Raises UserError for a picture that can't be read, an empty question, one that is not understood, and for fewer than
    two different answers.
    """
    if top is not None and top < 1:
        raise UserError(f"--top={top}: must be at least 1; 5 is a good start")
    if not question.strip():
        raise UserError('the question is empty; ask one, for instance "what colour is the dog?"')
    return ask_by(Asker(opened_joint(joint_checkpoint_of(checkpoint))), picture, question, among, top, report)


def ask_by(
    asker: Asker,
    picture: str | Path | Image.Image,
    question: str,
    among: Sequence[str] | None = None,
    top: int | None = None,
    report: Report = silent,
) -> Answers:
    """Returns what `ask` does, by an Asker that is kept for many questions; raises UserError."""
    answers = asker(image_vector(asker.joint, picture), question, among)
    for word in unknown_in(question, asker.lexicon):
        report(f"unknown word (not in the training captions): '{printable(word)}'")
    for doubt in answers.doubts:
        report(doubt)
    return replace(answers, answers=answers.answers[:top])


def image_vector(joint: JointEncoder, picture: str | Path | Image.Image) -> Tensor:
    """Returns the `image_vectors` (1, F) of a picture's centre square; raises UserError if it can't be read."""
    if isinstance(picture, Image.Image):
        pixels = np.asarray(square(in_rgb(picture), joint.resolution))
    else:
        pixels, reason = decode((Path(picture), joint.resolution))
        if pixels is None:
            raise UserError(f"{printable(str(picture))}: {reason}; give another picture")
    return joint.image_vectors(as_floats(torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]))
