"""Interpolates between captions and between seeds."""

from collections.abc import Iterator

import numpy as np
import torch

from cgan.interfaces import TextFeatures
from cgan.sampling.mixing import turned
from cgan.sampling.pipeline import TextToImage


def frames(
    pipe: TextToImage, captions: list[str], seeds: tuple[int, int], num: int, truncation: float = 1.0
) -> Iterator[np.ndarray]:
    """Yields `num` pictures from each caption to the next, both included, each uint8 (H, W, 3).

    The noise is interpolated from the first seed's to the second's over all of them. The first and the last picture are
    those that the pipeline samples from their captions and seeds. From one picture they are edits of it; from two
    they go from the first picture to the second.
    """
    captions = captions if len(captions) > 1 else captions * 2
    start, end = pipe.noise([seeds[0]]), pipe.noise([seeds[1]])
    if pipe.sources:
        ends = [pipe.start(x * truncation, [c], s) for x, c, s in ((start, captions[0], 0.0), (end, captions[-1], 1.0))]
        (start, _), (end, _), truncation = *ends, 1.0
    shares = [i / (len(captions) - 1) for i in range(len(captions))]
    stops = [pipe.start(start, [caption], share)[1] for caption, share in zip(captions, shares, strict=True)]
    last = (len(stops) - 1) * (num - 1)
    for i in range(last + 1):
        leg = min(i // (num - 1), len(stops) - 2)
        text = between(stops[leg], stops[leg + 1], (i - leg * (num - 1)) / (num - 1))
        yield pipe.generate(turned(start, end, i / last) * truncation, text)[0]


def between(one: TextFeatures, other: TextFeatures, share: float) -> TextFeatures:
    """Returns text between two: the sentence is interpolated linearly, while words are those of the nearer one."""
    nearer = one if share < 0.5 else other
    return nearer._replace(sentence=torch.lerp(one.sentence, other.sentence, share))
