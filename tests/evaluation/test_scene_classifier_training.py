import pytest

from cgan.evaluation.scene_classifier_training import draw_example, draw_examples, spoilt_kinds


@pytest.mark.slow
def test_the_pictures_of_the_scene_classifier_come_in_order_from_several_processes():
    kinds = ["real", *spoilt_kinds(3, "one")]
    images, scenes, _ = draw_examples(kinds, "one", seed=4)
    for index, kind in enumerate(kinds):
        image, scene = draw_example((kind, "one", 4, index, None))
        assert (images[index].permute(1, 2, 0).numpy() == image).all() and scenes[index].tolist() == list(scene)
