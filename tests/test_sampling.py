import numpy as np
import pytest
import torch

from cgan.cli.sample import STARTER
from cgan.sampling import TextToImage


@pytest.fixture(scope="module")
def pipe() -> TextToImage:
    return TextToImage.load(STARTER)


def redness(images: torch.Tensor, caption: str) -> torch.Tensor:
    return images[:, 0].mean(dim=(1, 2))


def test_the_best_of_several_scores_at_least_as_well_as_the_first_and_is_one_of_them(pipe):
    chosen = pipe.best_of(["a dog on grass"], [3], 4, redness)[0]
    candidates = pipe(["a dog on grass"] * 4, [3 + (k << 32) for k in range(4)])
    assert any((chosen == candidate).all() for candidate in candidates)
    assert chosen[..., 0].mean() == max(candidate[..., 0].mean() for candidate in candidates)


def test_the_best_of_one_is_the_picture_itself(pipe):
    assert (pipe.best_of(["a red car"], [1], 1, redness) == pipe(["a red car"], [1])).all()


def test_a_truncation_of_zero_draws_one_picture_whatever_the_seed(pipe):
    pictures = pipe(["a cat"] * 2, [1, 2], truncation=0.0)
    assert np.array_equal(*pictures)
