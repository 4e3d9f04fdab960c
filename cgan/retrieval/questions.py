"""Understands a question about a picture: which attribute it asks for, what it states, and which answers it offers."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from cgan.data.records import printable
from cgan.interfaces import UserError
from cgan.models.text.lstm import split_words
from cgan.retrieval.lexicon import FUNCTION_WORDS, GROUPS, OTHER_WORDS, Lexicon, Value

LONGEST = 1000  # characters of a question
ASKED_BY = (  # what a question asks for, by the first pattern that occurs in it
    ("number", r"\bhow many\b|\bnumber of\b"),
    ("colour", r"\bcolou?rs?\b"),
    ("size", r"\bsize\b|\bhow (big|large|small|little|tiny|tall)\b"),
    ("position", r"\b(what|which) (side|part|half)\b|\bposition\b|\bwhere in the (picture|image|photo|scene)\b"),
    ("ground", r"\bwhere\b|\b(ground|place|background|surface|setting)\b"),
    ("ground", r"\bwhats? (is |are )?(behind|under|below|beneath)\b"),
    ("ground", r"^(what|which)\b.* (on|in|at|under|behind|before|of)$"),
    ("object", r"^(what|whats|which|who|whos)\b"),
)
QUESTION_WORDS = FUNCTION_WORDS | set(
    "what whats what's which who whos who's where wheres where's how many big large small little tiny tall huge number "
    "colour color colours colors size side part half position ground place background surface setting picture image "
    "photo photograph scene object thing things animal vehicle kind sort do does did you we i see shown show shows "
    "have has can could please tell me name standing stands stand sitting sits sit lying lies lie seen visible located "
    "most probably likely whether if not main painted below beneath".split()
)
EXAMPLES = '"what colour is it?", "what is on the grass?", "where is it?", "which side is it on?", "how big is it?"'


class Candidate(NamedTuple):
    """A possible answer."""

    answer: str  # as it is printed
    phrases: tuple[str, ...]  # what captions say if it is right


class Question(NamedTuple):
    """A question that was understood."""

    text: str
    asks: str  # an attribute of the lexicon, or "answer" where only the candidates say what is asked for
    given: dict[str, Value]  # what the question states of other attributes
    candidates: list[Candidate]  # at least two, all different


def understand(text: str, lexicon: Lexicon, among: Sequence[str] | None = None) -> Question:
    """Returns what a question asks for; among are the answers to choose from, by default the lexicon's.

    Raises UserError for an empty question, for one that asks for nothing known without `among`, for fewer than two
    different answers, and for answers with words that the encoder does not know.
    """
    shown, words = printable(" ".join(text.split()))[:80], " ".join(split_words(text))
    if not words:
        raise UserError('the question is empty; ask one, for instance "what colour is the dog?"')
    if len(text) > LONGEST:
        raise UserError(f"the question has {len(text):,} characters; ask one of at most {LONGEST:,}")
    offered = None if among is None else different(among)
    asks, chosen = asked_for(words, lexicon)
    if offered is not None:
        asks = common_attribute(offered, lexicon, asks)
        candidates = [as_candidate(answer, asks, lexicon) for answer in offered]
    elif asks is None:
        raise UserError(f"'{shown}': can't tell what is asked for; ask such as {EXAMPLES}, or give --among red,blue")
    else:
        candidates = [Candidate(value.name, (value.phrase,)) for value in chosen or lexicon.values[asks]]
    if len(candidates) < 2:
        found = "only one" if candidates else "no"
        raise UserError(f"'{shown}': the encoder's training captions name {found} {asks}; give --among red,blue")
    return Question(shown, asks or "answer", stated(words, lexicon, asks), without_synonyms(candidates))


def asked_for(words: str, lexicon: Lexicon) -> tuple[str | None, list[Value]]:
    """Returns the attribute that a question in lower case asks for, and the values it offers or restricts them to.

    Such are "is it red or blue?" and "which animal is it?"; an empty list stands for all values. None if the question
    is of no known kind.
    """
    if " or " in words:
        place = words.rindex(" or ")
        for attribute in lexicon.values:
            found = lexicon.mentions(attribute, words)
            if any(max(places) > place for places in found.values()) and len(found) > 1:
                return attribute, list(found)
    asks = next((attribute for attribute, pattern in ASKED_BY if re.search(pattern, words)), None)
    if asks == "object":
        group = next((names for word, names in GROUPS.items() if re.search(rf"\b{word}s?\b", words)), ())
        inside = [value for value in lexicon.values["object"] if value.name in group]
        return asks, inside if len(inside) > 1 else []
    return asks, []


def stated(words: str, lexicon: Lexicon, asks: str | None) -> dict[str, Value]:
    """Returns what a question states: of each attribute but the asked one the first value that it names.

    An object that is no value of the lexicon is any other word that the encoder knows.
    """
    given = {}
    for attribute in lexicon.values:
        found = lexicon.mentions(attribute, words)
        if found and attribute not in (asks, "number"):
            given[attribute] = min(found, key=lambda value: min(found[value]))
    if "object" not in given and asks not in ("object", None):
        others = [word for word in words.split() if word not in QUESTION_WORDS | OTHER_WORDS and lexicon.knows(word)]
        if others:
            given["object"] = Value(others[0], others[0], (others[0],))
    return given


def unknown_in(question: str, lexicon: Lexicon) -> list[str]:
    """Returns the words of a question that matter and that the encoder does not know."""
    known = QUESTION_WORDS | OTHER_WORDS | {value.name for value in lexicon.values["object"]}
    words = [word for word in dict.fromkeys(split_words(question)) if word not in known]
    return [word for word in words if not lexicon.knows(word) and not lexicon.mentions("object", word)]


# ------------------------------------------------------------------------------------------------ given answers


def different(among: Sequence[str]) -> list[str]:
    """Returns answers in lower case, each once, in their order; raises UserError for fewer than two."""
    answers = list(dict.fromkeys(" ".join(answer.lower().split()) for answer in among if answer.strip()))
    if len(answers) < 2:
        raise UserError("--among: give at least two different answers, for instance --among red,blue,green")
    return answers


def common_attribute(answers: list[str], lexicon: Lexicon, asks: str | None) -> str | None:
    """Returns the attribute of which all answers are values; otherwise what the question asks for, or None."""
    for attribute in dict.fromkeys([asks, *lexicon.values] if asks else lexicon.values):
        if all(lexicon.value_of(attribute, answer) for answer in answers):
            return attribute
    return asks


def as_candidate(answer: str, asks: str | None, lexicon: Lexicon) -> Candidate:
    """Returns the candidate of an answer; raises UserError for one with words that the encoder does not know."""
    value = lexicon.value_of(asks, answer) if asks in ("position", "ground") else None
    if value is not None:
        phrases = [value.phrase]
    elif asks in ("position", "ground"):
        phrases = [answer] if answer.split()[0] in FUNCTION_WORDS else [f"on {answer}", f"in the {answer}"]
    elif asks is None:
        phrases = [answer, f"a {answer}", f"a photo of {answer}"]
    else:
        phrases = [answer]
    known = tuple(phrase for phrase in phrases if lexicon.knows(phrase))
    if not known:
        unknown = ", ".join(map(printable, lexicon.unknown_words([answer]))) or printable(answer)
        raise UserError(f"--among: unknown words (not in the training captions): {unknown}; leave such answers out")
    return Candidate(answer, known)


def without_synonyms(candidates: list[Candidate]) -> list[Candidate]:
    """Returns the candidates; raises UserError if two of them make the same captions, so that none can be better."""
    phrases: dict[tuple[str, ...], str] = {}
    for candidate in candidates:
        other = phrases.setdefault(candidate.phrases, candidate.answer)
        if other != candidate.answer:
            both = f"'{printable(other)}' and '{printable(candidate.answer)}'"
            raise UserError(f"--among: {both} mean the same to the encoder; give one of them")
    return candidates
