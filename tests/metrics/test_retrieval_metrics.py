from fractions import Fraction
from itertools import permutations
from math import comb
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, distributed

from cgan.metrics.retrieval import (
    ImageTextRecall,
    RPrecision,
    Standing,
    duplicate_caption_ceiling,
    expected_rank,
    hit_probability,
    standing,
)
from helpers.forked import in_processes

KS = (1, 5, 10)


class Pairs(NamedTuple):
    """What the metric's update takes."""

    images: Tensor
    image_ids: Tensor
    captions: Tensor
    caption_image_ids: Tensor
    caption_ids: Tensor

    def of(self, images: Tensor) -> "Pairs":
        """The pictures at some places, in that order, each with its captions."""
        captions = [torch.nonzero(self.caption_image_ids == self.image_ids[i]).flatten() for i in images.tolist()]
        texts = torch.cat(captions) if captions else torch.tensor([], dtype=torch.long)
        return Pairs(self.images[images], self.image_ids[images], *(column[texts] for column in self[2:]))


def pairs_with_ties(num_captions: list[int], seed: int = 0) -> Pairs:
    """Embeddings of few whole numbers, so that many scores are equal; ids out of order and with gaps."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(-1, 2, (len(num_captions), 5), generator=rng).float()
    image_ids = torch.randperm(3 * len(images), generator=rng)[: len(images)]
    owner = torch.arange(len(images)).repeat_interleave(torch.tensor(num_captions))
    captions = images[owner] + torch.randint(-1, 2, (len(owner), 5), generator=rng)
    caption_ids = torch.cat([torch.arange(n) for n in num_captions])
    return Pairs(images, image_ids, captions, image_ids[owner], caption_ids)


def recall_of(*updates: Pairs, **settings) -> dict[str, float]:
    metric = ImageTextRecall(**settings)
    for update in updates:
        metric.update(*update)
    return {name: float(value) for name, value in metric.compute().items()}


def naive_recall(pairs: Pairs, scores: Tensor | None = None) -> dict[str, float]:
    scores = pairs.images.double() @ pairs.captions.double().t() if scores is None else scores
    own = pairs.image_ids[:, None] == pairs.caption_image_ids
    result = {}
    for way, table, right in (("image_to_text", scores, own), ("text_to_image", scores.t(), own.t())):
        queries = list(zip(table.tolist(), right.tolist(), strict=True))
        for k in KS:
            result[f"{way}/recall@{k}"] = float(np.mean([1 - naive_miss(*query, k) for query in queries]))
        result[f"{way}/median_rank"] = float(np.median([naive_rank(*query) for query in queries]))
    return result


def naive_miss(scores: list[float], right: list[bool], k: int) -> float:
    """Chance that the first positive ranks below k."""
    best = max(score for score, yes in zip(scores, right, strict=True) if yes)
    better = sum(score > best + 1e-5 for score in scores)
    equal = [yes for score, yes in zip(scores, right, strict=True) if abs(score - best) <= 1e-5]
    if k <= better:
        return 1.0
    negatives = equal.count(False)
    return 0.0 if k - better > negatives else comb(negatives, k - better) / comb(len(equal), k - better)


def naive_rank(scores: list[float], right: list[bool]) -> float:
    """The mean of a count is the sum of its chances to be above 0, 1, 2 ..."""
    return sum(naive_miss(scores, right, k) for k in range(len(scores)))


def same(result: dict[str, float]) -> dict:
    return pytest.approx(result, abs=1e-9)


@pytest.mark.parametrize("scores", [[2, 2, 2, 2, 1, 3], [1, 1, 1, 1, 1, 1], [3, 2, 2, 1, 2, 2], [1, 2, 3, 4, 5, 6]])
@pytest.mark.parametrize("right", [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0]])
def test_hits_and_ranks_are_the_mean_over_all_orders_of_the_candidates(scores, right):
    ranks = []
    for order in permutations(range(6)):
        ranking = sorted(order, key=lambda i: -scores[i])  # equal scores keep their order
        ranks.append(next(place for place, i in enumerate(ranking, 1) if right[i]))
    place = standing(torch.tensor([scores]).double(), torch.tensor([right]).bool(), 1e-5)
    assert float(expected_rank(place)) == pytest.approx(np.mean(ranks))
    for k in range(1, 7):
        assert float(hit_probability(place, k)) == pytest.approx(np.mean([rank <= k for rank in ranks]))


def test_hit_probability_is_exact_for_many_tied_candidates():
    place = Standing(torch.tensor([3]), torch.tensor([24_995]), torch.tensor([5]))
    exact = 1 - Fraction(comb(24_995, 7), comb(25_000, 7))
    assert float(hit_probability(place, 10)) == pytest.approx(float(exact), abs=1e-8)


@pytest.mark.parametrize("num_captions", [[5] * 30, [1] * 30, [1, 2, 5, 7, 3] * 6], ids=["five", "one", "unequal"])
def test_recall_is_that_of_a_loop_over_all_queries(num_captions):
    pairs = pairs_with_ties(num_captions)
    assert recall_of(pairs) == same(naive_recall(pairs))


@pytest.mark.parametrize("block", [7, 1024])
def test_any_score_can_rank(block):
    pairs = pairs_with_ties([5, 2, 1] * 8)
    distances = torch.tensor([[-float((a - b).norm()) for b in pairs.captions] for a in pairs.images])
    result = recall_of(pairs, score=lambda images, captions: -torch.cdist(images, captions), block=block)
    assert result == same(naive_recall(pairs, distances)) and result != same(naive_recall(pairs))


def test_a_score_may_treat_pictures_and_captions_differently():
    pairs = pairs_with_ties([3] * 10)
    captions = torch.cat([pairs.captions, torch.ones(30, 2)], dim=1)  # of another width than the pictures
    result = recall_of(pairs._replace(captions=captions), score=lambda a, b: a @ b[:, :5].t() + b[:, 5:].sum(dim=1))
    assert result == same(recall_of(pairs))


def test_folds_are_averaged_over_runs_of_consecutive_images():
    pairs = pairs_with_ties([5, 4, 3, 2, 1] * 8)
    folds = [naive_recall(pairs.of(places)) for places in pairs.image_ids.argsort().split(8)]
    mean = {name: np.mean([fold[name] for fold in folds]) for name in folds[0]}
    assert recall_of(pairs, num_folds=5) == same(mean)


def test_neither_the_block_nor_the_order_of_updates_changes_the_result():
    pairs = pairs_with_ties([5, 2, 1] * 11)
    expected = recall_of(pairs, num_folds=3)
    shuffled = torch.randperm(33, generator=torch.Generator().manual_seed(1))
    assert recall_of(*map(pairs.of, shuffled.split(7)), num_folds=3) == same(expected)
    for block in (1, 4, 100):
        assert recall_of(pairs, num_folds=3, block=block) == same(expected)


def test_captions_may_come_apart_from_their_pictures():
    pairs = pairs_with_ties([5] * 12)
    pictures = Pairs(*pairs[:2], *(column[:0] for column in pairs[2:]))
    captions = [
        Pairs(pairs.images[:0], pairs.image_ids[:0], *(column[places] for column in pairs[2:]))
        for places in torch.arange(60).split(17)
    ]
    assert recall_of(*captions, pictures) == same(recall_of(pairs))


def test_pictures_that_a_sampler_repeats_count_once():
    pairs = pairs_with_ties([5, 2, 3] * 7)
    repeated = torch.tensor([*range(21), 0, 1, 0])
    assert recall_of(pairs.of(repeated)) == same(recall_of(pairs))
    assert recall_of(pairs, pairs.of(torch.tensor([4, 2]))) == same(recall_of(pairs))


def test_a_collapsed_encoder_scores_chance():
    pairs = pairs_with_ties([5] * 40)
    rng = torch.Generator().manual_seed(0)
    noise = (1e-7 * torch.randn(len(x), 5, generator=rng) for x in (pairs.images, pairs.captions))
    images, captions = (0.4 + x for x in noise)  # equal but for the last digits
    result = recall_of(pairs._replace(images=images, captions=captions))
    chance = {f"image_to_text/recall@{k}": 1 - comb(195, k) / comb(200, k) for k in KS}
    chance |= {f"text_to_image/recall@{k}": k / 40 for k in KS}
    chance |= {"image_to_text/median_rank": 201 / 6, "text_to_image/median_rank": 41 / 2}
    assert result == same(chance)


def perfect_pairs(num_images: int, dim: int) -> Pairs:
    rng = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(num_images, dim, generator=rng))
    owner = torch.arange(num_images).repeat_interleave(5)
    return Pairs(images, torch.arange(num_images), images[owner], owner, torch.arange(5 * num_images))


def test_a_perfect_encoder_of_3000_pictures_finds_everything_first():
    result = recall_of(perfect_pairs(3000, 32))
    assert set(result.values()) == {1.0} and len(result) == 8


def test_scores_of_half_precision_embeddings_are_not_rounded_again():
    pairs = pairs_with_ties([5] * 20)
    rng = torch.Generator().manual_seed(0)
    images, captions = (torch.randn(len(x), 5, generator=rng).bfloat16() for x in (pairs.images, pairs.captions))
    pairs = pairs._replace(images=images, captions=captions)
    with torch.autocast("cpu", torch.bfloat16):
        result = recall_of(pairs)
    assert result == same(naive_recall(pairs))


def test_states_of_two_ranks_merge():
    pairs = pairs_with_ties([5, 2, 3] * 7)
    first, second = ImageTextRecall(), ImageTextRecall()
    first.update(*pairs.of(torch.arange(0, 13)))
    second.update(*pairs.of(torch.arange(12, 21)))  # one picture twice
    first.merge_state(second)
    assert {name: float(x) for name, x in first.compute().items()} == same(recall_of(pairs))


def one_rank(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    pairs = pairs_with_ties([5, 2, 3] * 7)
    metric = ImageTextRecall(num_folds=3)
    for places in (torch.arange(14).split(5), torch.arange(13, 21).split(3))[rank]:
        metric.update(*pairs.of(places))
    torch.save(metric.compute(), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_unequal_shares_compute_what_one_does(tmp_path):
    in_processes(2, one_rank, tmp_path)
    expected = recall_of(pairs_with_ties([5, 2, 3] * 7), num_folds=3)
    for rank in range(2):
        found = {name: float(x) for name, x in torch.load(tmp_path / f"{rank}.pt").items()}
        assert found == pytest.approx(expected, abs=1e-6)


def test_pictures_and_captions_without_one_another_are_refused():
    pairs = pairs_with_ties([2] * 6)
    with pytest.raises(ValueError, match="2 images have no caption"):
        recall_of(pairs._replace(**{name: getattr(pairs, name)[:8] for name in Pairs._fields[2:]}))
    with pytest.raises(ValueError, match="2 captions have no image"):
        recall_of(pairs._replace(images=pairs.images[:5], image_ids=pairs.image_ids[:5]))


def test_embeddings_of_a_diverged_encoder_are_refused():
    pairs = pairs_with_ties([2] * 6)
    with pytest.raises(ValueError, match="diverged"):
        recall_of(pairs._replace(images=pairs.images * torch.nan))


def test_ids_that_do_not_fit_the_embeddings_are_refused():
    pairs = pairs_with_ties([2] * 6)
    with pytest.raises(ValueError, match="one id each"):
        recall_of(pairs._replace(caption_ids=pairs.caption_ids[:3]))


def test_more_folds_than_pictures_are_refused():
    with pytest.raises(ValueError, match="use fewer folds"):
        recall_of(pairs_with_ties([2] * 3), num_folds=5)


TEXTS = torch.tensor([0, 1, 0, 0, 2, 2, 2, 1, 0, 3, 1, 2])  # one picture has text 0 twice, one 2
OWNERS = torch.tensor([7, 7, 7, 4, 4, 9, 9, 9, 5, 5, 2, 8])


def test_the_ceiling_of_finding_captions_is_that_of_the_best_order_of_texts():
    ceiling = duplicate_caption_ceiling(TEXTS, OWNERS, KS)
    orders = [[float(order[text]) for text in TEXTS] for order in permutations(range(4))]
    for k in KS:
        best = [min(naive_miss(order, (OWNERS == image).tolist(), k) for order in orders) for image in OWNERS.unique()]
        assert ceiling[f"image_to_text/recall@{k}"] == pytest.approx(1 - np.mean(best))


def test_the_ceiling_of_finding_pictures_is_that_of_the_best_order_of_pictures_for_each_text():
    ceiling = duplicate_caption_ceiling(TEXTS, OWNERS, (1, 2, 3))
    for k in (1, 2, 3):
        hits = 0
        for text in TEXTS.unique():
            owners = OWNERS[TEXTS == text].tolist()  # a picture as often as it carries the text
            hits += max(sum(owner in order[:k] for owner in owners) for order in permutations(set(owners)))
        assert ceiling[f"text_to_image/recall@{k}"] == pytest.approx(hits / len(TEXTS))


def test_no_encoder_passes_the_ceiling():
    ceiling, rng = duplicate_caption_ceiling(TEXTS, OWNERS, (1, 2, 3)), torch.Generator().manual_seed(0)
    best = dict.fromkeys(ceiling, 0.0)
    for _ in range(300):
        images, texts = torch.randn(6, 4, generator=rng), torch.randn(4, 4, generator=rng)
        pairs = Pairs(images, OWNERS.unique(), texts[TEXTS], OWNERS, torch.arange(len(TEXTS)))
        result = recall_of(pairs, ks=(1, 2, 3))
        best = {name: max(recall, result[name]) for name, recall in best.items()}
    assert all(best[name] <= ceiling[name] + 1e-9 for name in best)
    assert max(best.values()) > 0.9  # the random ones come near


def test_an_encoder_of_the_text_alone_reaches_the_ceiling():
    texts, owners = torch.tensor([0, 1, 1, 2, 2, 2, 2, 3]), torch.arange(8)
    embeddings = torch.eye(4)[texts]
    result = recall_of(Pairs(embeddings, owners, embeddings, owners, owners))
    ceiling = duplicate_caption_ceiling(texts, owners)
    assert {name: result[name] for name in ceiling} == same(ceiling)
    assert ceiling["text_to_image/recall@1"] == pytest.approx(4 / 8)


def test_r_precision_is_the_share_of_pictures_nearest_to_their_own_caption():
    rng = torch.Generator().manual_seed(0)
    images, captions = (torch.randint(-2, 3, (60, 3), generator=rng).float() for _ in range(2))
    captions += 2 * images
    distractors = torch.randint(-4, 5, (60, 99, 3), generator=rng).float()
    metric = RPrecision()
    for places in torch.arange(60).split(25):
        metric.update(images[places], captions[places], distractors[places])
    hits = []
    for image, caption, others in zip(images, captions, distractors, strict=True):
        own, rest = float(image @ caption), [float(image @ other) for other in others]
        hits.append(0 if max(rest) > own else 1 / (1 + rest.count(own)))
    assert 0.1 < np.mean(hits) < 0.9 and float(metric.compute()) == pytest.approx(np.mean(hits))


def test_r_precision_of_a_collapsed_encoder_is_one_in_a_hundred():
    metric = RPrecision()
    metric.update(torch.ones(8, 4), torch.ones(8, 4), torch.ones(8, 99, 4))
    assert float(metric.compute()) == pytest.approx(0.01)
