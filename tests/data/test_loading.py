import hashlib
import tracemalloc
from itertools import chain, islice

import pytest
import torch
from lightning_fabric.utilities import move_data_to_device
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from cgan.data import loading
from cgan.data.caption_table import CaptionTable
from cgan.data.loading import Reading, ShuffledDraws, endless_loader
from cgan.data.pictures import CaptionedPictures, Entry
from cgan.data.scenes.dataset import Scenes
from cgan.data.shards import ShardedPictures
from cgan.interfaces import Batch, Sample
from cgan.models.text.lstm import Vocabulary, WordTokenizer
from helpers.pictures import shards_of


def draws_of(count: int, *arguments, **settings) -> list[tuple[int, int]]:
    """The first draws of one process, without the borders of batches."""
    return list(islice(chain.from_iterable(ShuffledDraws(*arguments, **settings)), count))


def test_each_picture_comes_once_an_epoch_and_epochs_differ():
    pairs = draws_of(20, 10, seed=1)
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
    pairs = draws_of(40, 12, 7, start_index=start_index)
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
        return draws_of(60 // num_ranks, num_images, 1, 4, start_index, rank, num_ranks)

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
    for image, caption, image_id in zip(*batch[:3], strict=True):
        sample = scenes[int(image_id)]
        assert caption in sample.captions and (image == sample.image).all()


# ------------------------------------------------------------------------------------------ whole batches


def one_by_one(dataset, batch_size: int, seed: int, start_index: int, rank: int, num_ranks: int) -> DataLoader:
    """The loader as it was before batches were fetched whole: sample by sample, put together by torch.stack."""
    share, draws = batch_size // num_ranks, as_lists(len(dataset), seed, start_index)
    mine = (draw for place, draw in enumerate(draws) if place % batch_size // share == rank)

    class Samples(torch.utils.data.IterableDataset):
        def __iter__(self):
            for index, draw in mine:
                sample = dataset[index]
                yield sample._replace(captions=[sample.captions[draw % len(sample.captions)]])

    def collate(samples: list[Sample]) -> Batch:
        images, ids = torch.stack([s.image for s in samples]), torch.tensor([s.image_id for s in samples])
        return Batch(images, [s.captions[0] for s in samples], ids)

    return DataLoader(Samples(), share, collate_fn=collate)


def pictures_of(folder) -> CaptionedPictures:
    """Ten pictures of files, with one to three captions and ids that are not their places; one is left out."""
    entries = []
    for i in range(10):
        Image.new("RGB", (40, 36), (20 * i, 5 * i, 255 - i)).save(folder / f"{i}.png")
        captions = [f"a picture {word} {i // 2}" for word in ("of", "with", "without")[: 1 + i % 3]]
        entries.append(Entry(folder / f"{i}.png", captions if i != 4 else [], 1000 - 7 * i))
    return CaptionedPictures(entries, 32, folder, "here")


def dataset_of(kind: str, folder):
    """A data set of ten pictures; of Python's it is a list, which knows neither captions_of nor images_at."""
    scenes = Scenes(10, 32, cache=folder)
    return {"scenes": scenes, "pictures": pictures_of(folder), "samples": [scenes[i] for i in range(10)]}[kind]


def assert_same(batches, others, count: int = 7) -> None:
    """The pictures, captions and ids of some batches are the same."""
    for one, other in islice(zip(batches, others, strict=False), count):
        assert one.images.dtype == torch.uint8 and torch.equal(one.images, other.images)
        assert one.captions == other.captions and torch.equal(one.image_ids, other.image_ids)


@pytest.mark.parametrize("kind", ["scenes", "pictures", "samples"])
@pytest.mark.parametrize(("start_index", "rank", "num_ranks"), [(0, 0, 1), (13, 0, 1), (4, 0, 2), (4, 1, 2)])
def test_whole_batches_are_those_that_were_put_together_one_by_one(kind, start_index, rank, num_ranks, tmp_path):
    dataset, place = dataset_of(kind, tmp_path), (start_index, rank, num_ranks)
    reading = Reading(CaptionTable.of(dataset)) if kind != "samples" else None
    before = one_by_one(dataset, 4, 3, *place)
    assert_same(endless_loader(dataset, 4, 3, 0, *place, reading), before)
    assert_same(endless_loader(dataset, 4, 3, 0, *place), one_by_one(dataset, 4, 3, *place))


@pytest.mark.parametrize("kind", ["scenes", "pictures"])
def test_batches_of_pictures_on_a_device_are_the_same(kind, tmp_path, monkeypatch):
    dataset, cpu = dataset_of(kind, tmp_path), torch.device("cpu")
    monkeypatch.setattr(loading, "UPLOAD", 3 * 3 * 32**2)  # in pieces of three
    on_device = endless_loader(dataset, 4, 3, start_index=5, rank=1, num_ranks=2, device=cpu)
    asked = []
    monkeypatch.setattr(type(dataset), "images_at", lambda *_: asked.append(1))
    assert_same(on_device, one_by_one(dataset, 4, 3, 5, 1, 2))
    assert not asked  # the pictures come from the device alone


def test_a_batch_of_a_memory_map_is_one_read(tmp_path, monkeypatch):
    scenes, asked = Scenes(10, 32, cache=tmp_path), []
    read = Scenes.images_at
    monkeypatch.setattr(Scenes, "images_at", lambda self, indices: asked.append(len(indices)) or read(self, indices))
    monkeypatch.setattr(Scenes, "__getitem__", None)
    list(islice(endless_loader(scenes, 4, 0), 3))
    assert asked == [4, 4, 4]


def test_the_loader_makes_ids_rows_and_tokens_of_captions(tmp_path):
    dataset = pictures_of(tmp_path)
    table = CaptionTable.of(dataset)
    read = WordTokenizer(Vocabulary.of(table.texts), 32)
    for workers in (0, 2):
        for batch in islice(endless_loader(dataset, 4, 0, workers, reading=Reading(table, read, read)), 5):
            digests = [hashlib.blake2b(caption.encode(), digest_size=8).digest() for caption in batch.captions]
            assert batch.caption_ids.tolist() == [int.from_bytes(x, "big", signed=True) for x in digests]
            assert [table.texts[row] for row in batch.caption_rows] == batch.captions
            expected = read(batch.captions)
            for tokens in (batch.tokens, batch.words):
                assert torch.equal(tokens.ids, expected.ids) and torch.equal(tokens.mask, expected.mask)


def test_captions_that_a_table_does_not_know_have_no_rows(tmp_path):
    samples = dataset_of("samples", tmp_path)
    read = WordTokenizer(Vocabulary.of(["a dog"]), 32)
    table = CaptionTable([sample.captions for sample in samples[:9]])
    batches = list(islice(endless_loader(samples, 5, 0, reading=Reading(table, read)), 2))
    assert sum(batch.caption_rows is None for batch in batches) == 1
    assert all(torch.equal(batch.tokens.ids, read(batch.captions).ids) for batch in batches)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_shards_come_with_the_crops_of_their_draws(num_workers, tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(9):
        Image.linear_gradient("L").resize((60, 40)).rotate(40 * i).save(root / f"{i}.png")
        (root / f"{i}.txt").write_text(f"turned by {40 * i}\nin grey\n")
    shards_of(root, tmp_path / "shards", crop="none")
    shards = ShardedPictures(tmp_path / "shards", 32, tmp_path, crop="random", flip=True)
    table = CaptionTable.of(shards)
    batches = list(islice(endless_loader(shards, 4, 0, num_workers, reading=Reading(table)), 5))
    draws = draws_of(20, 9, 0, 4)
    for place, (index, draw) in enumerate(draws):
        batch, row, expected = batches[place // 4], place % 4, shards.drawn(index, draw)
        assert torch.equal(batch.images[row], expected.image) and batch.image_ids[row] == expected.image_id
        assert batch.captions[row] == expected.captions[draw % 2] == table.texts[batch.caption_rows[row]]


def test_all_tensors_of_a_batch_are_moved_and_pinned_and_nothing_else(tmp_path, monkeypatch):
    dataset = pictures_of(tmp_path)
    read = WordTokenizer(Vocabulary.of(["a picture"]), 32)
    batch = next(iter(endless_loader(dataset, 4, 0, reading=Reading(CaptionTable.of(dataset), read, read))))
    there = move_data_to_device(batch, torch.device("meta"))  # as Lightning does it
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: x.to("meta"))
    for moved in (there, pin_memory(batch)):
        assert moved.captions is batch.captions
        tensors = [*moved[:1], *moved[2:5], *moved.tokens, *moved.words]
        assert len(tensors) == 8 and {x.device.type for x in tensors} == {"meta"}
