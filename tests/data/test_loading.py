import tracemalloc
from itertools import islice

import pytest
import torch

from cgan.data import loading
from cgan.data.loading import ShuffledDraws, endless_loader
from cgan.data.scenes.dataset import Scenes


def test_each_picture_comes_once_an_epoch_and_epochs_differ():
    pairs = list(islice(ShuffledDraws(10, seed=1), 20))
    first, second = [i for i, _ in pairs[:10]], [i for i, _ in pairs[10:]]
    assert sorted(first) == sorted(second) == list(range(10)) and first != second


def as_lists(num_images, seed, start_index):
    """The pairs as plain lists of an epoch, as they were made before they were made in pieces."""
    epoch, behind = divmod(start_index, num_images)
    while True:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(num_images, generator=generator)
        draws = torch.randint(2**31, (num_images,), generator=generator)
        yield from islice(zip(order.tolist(), draws.tolist(), strict=True), behind, None)
        epoch, behind = epoch + 1, 0


@pytest.mark.parametrize("start_index", [0, 3, 12, 25, 36])
@pytest.mark.parametrize("at_once", [1, 5, 12, 100])
def test_the_order_is_the_same_in_pieces_of_any_size(monkeypatch, start_index, at_once):
    monkeypatch.setattr(loading, "AT_ONCE", at_once)
    pairs = list(islice(ShuffledDraws(12, 7, start_index=start_index), 40))
    assert pairs == list(islice(as_lists(12, 7, start_index), 40))
    assert all(type(number) is int for pair in pairs for number in pair)


def test_an_epoch_of_many_pictures_makes_few_objects():
    tracemalloc.start()
    next(iter(ShuffledDraws(300_000, 0)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000  # bytes; the lists of an epoch took 20 million


def test_workers_do_not_change_the_batches(tmp_path):
    scenes = Scenes(12, 32, cache=tmp_path)
    alone, helped = (list(islice(endless_loader(scenes, 4, 0, workers), 5)) for workers in (0, 2))
    for a, b in zip(alone, helped, strict=True):
        assert (a.images == b.images).all() and a.captions == b.captions and (a.image_ids == b.image_ids).all()


@pytest.mark.parametrize(("start_index", "num_images"), [(0, 12), (0, 10), (7, 10)])
def test_processes_share_each_batch_and_leave_none_out(start_index, num_images):
    def draws(rank: int, num_ranks: int) -> list:
        sampler = ShuffledDraws(num_images, 1, 4, start_index, rank, num_ranks)
        return list(islice(sampler, 60 // num_ranks))

    alone, first, second = draws(0, 1), draws(0, 2), draws(1, 2)
    for batch in range(15):
        assert alone[4 * batch : 4 * batch + 4] == first[2 * batch : 2 * batch + 2] + second[2 * batch : 2 * batch + 2]


def test_two_processes_with_two_workers_each_see_every_picture_once_an_epoch(tmp_path):
    scenes = Scenes(24, 32, cache=tmp_path)
    loaders = [endless_loader(scenes, 4, 0, num_workers=2, rank=rank, num_ranks=2) for rank in range(2)]
    seen = [int(i) for loader in loaders for batch in islice(loader, 6) for i in batch.image_ids]
    assert sorted(seen) == list(range(24))


def test_a_loader_goes_on_where_another_stopped(tmp_path):
    scenes = Scenes(10, 32, cache=tmp_path)
    whole = [batch.captions for batch in islice(endless_loader(scenes, 4, 0), 9)]
    rest = [batch.captions for batch in islice(endless_loader(scenes, 4, 0, num_workers=2, start_index=12), 6)]
    assert rest == whole[3:]


def test_a_caption_belongs_to_its_picture(tmp_path):
    scenes = Scenes(12, 32, cache=tmp_path)
    batch = next(iter(endless_loader(scenes, 8, 0)))
    for image, caption, image_id in zip(*batch, strict=True):
        sample = scenes[int(image_id)]
        assert caption in sample.captions and (image == sample.image).all()
