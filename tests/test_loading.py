from itertools import islice

from cgan.data.loading import ShuffledDraws, endless_loader
from cgan.data.scenes import Scenes


def test_each_picture_comes_once_an_epoch_and_epochs_differ():
    pairs = list(islice(ShuffledDraws(10, seed=1), 20))
    first, second = [i for i, _ in pairs[:10]], [i for i, _ in pairs[10:]]
    assert sorted(first) == sorted(second) == list(range(10)) and first != second


def test_workers_do_not_change_the_batches(tmp_path):
    scenes = Scenes(12, 32, cache=tmp_path)
    alone, helped = (list(islice(endless_loader(scenes, 4, 0, workers), 5)) for workers in (0, 2))
    for a, b in zip(alone, helped, strict=True):
        assert (a.images == b.images).all() and a.captions == b.captions and (a.image_ids == b.image_ids).all()


def test_a_caption_belongs_to_its_picture(tmp_path):
    scenes = Scenes(12, 32, cache=tmp_path)
    batch = next(iter(endless_loader(scenes, 8, 0)))
    for image, caption, image_id in zip(*batch, strict=True):
        sample = scenes[int(image_id)]
        assert caption in sample.captions and (image == sample.image).all()
