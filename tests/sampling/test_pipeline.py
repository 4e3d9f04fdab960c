import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cgan.config import load_config
from cgan.errors import UserError
from cgan.models.generators import build_generator
from cgan.models.generators.base import GeneratorConfig
from cgan.renamed import rename_settings
from cgan.resources import STARTER_GAN
from cgan.sampling.interpolation import frames, turned
from cgan.sampling.pipeline import TextToImage
from cgan.sampling.weights import find
from helpers import ROOT


@pytest.mark.parametrize("name", ["scenes-long", "scenes-two"])
def test_shipped_weights_fit_the_config_that_trained_them(name):
    pipe = TextToImage.load({"scenes-long": STARTER_GAN, "scenes-two": ROOT / "assets/scenes-two-64.safetensors"}[name])
    wider = ["gan.generator.latent_prior_dim=384"]  # as the head of scenes-long.yaml says
    config = load_config([str(ROOT / f"configs/gan/{name}.yaml"), *wider])
    generator = build_generator(config.gan.generator, config.data.resolution, pipe.text_encoder.dim)
    assert generator.load_state_dict(pipe.generator.state_dict())


def test_weights_from_before_a_prior_could_be_chosen_still_draw(pipe):
    spec = copy.deepcopy(pipe.spec)
    sizes = {"width": 4, "max_channels": 16, "latent_prior": "couplings", "positional_bias": False}
    spec["generator"] = rename_settings(spec["generator"], "gan.generator") | sizes
    config = GeneratorConfig(**spec["generator"])
    generator = build_generator(config, spec["resolution"], pipe.text_encoder.dim).state_dict()
    text = {name: x for name, x in pipe.tensors.items() if name.startswith("text_encoder.")}
    tensors = {f"generator_ema.{name}": x for name, x in generator.items()} | text
    newer = TextToImage(copy.deepcopy(spec), tensors)
    del spec["generator"]["latent_prior"], spec["generator"]["positional_bias"]
    older = TextToImage(spec, tensors)
    assert (older.sample(["a dog"], [1]) == newer.sample(["a dog"], [1])).all()


def redness(images: torch.Tensor, caption: str) -> torch.Tensor:
    return images[:, 0].mean(dim=(1, 2))


def test_the_best_of_several_scores_at_least_as_well_as_the_first_and_is_one_of_them(pipe):
    chosen = pipe.best_of(["a dog on grass"], [3], 4, redness)[0]
    candidates = pipe.candidates("a dog on grass", 3, 4)
    assert any((chosen == candidate).all() for candidate in candidates)
    assert chosen[..., 0].mean() == max(candidate[..., 0].mean() for candidate in candidates)


def test_the_candidates_of_best_of_are_different_pictures(pipe):
    candidates = pipe.candidates("a dog on grass", 3, 4)
    assert len(np.unique(candidates, axis=0)) == 4 and (candidates[0] == pipe.sample(["a dog on grass"], [3])[0]).all()


def test_the_best_of_one_is_the_picture_itself(pipe):
    assert (pipe.best_of(["a red car"], [1], 1, redness) == pipe.sample(["a red car"], [1])).all()


def test_a_truncation_of_zero_draws_one_picture_whatever_the_seed(pipe):
    pictures = pipe.sample(["a cat"] * 2, [1, 2], truncation=0.0)
    assert np.array_equal(*pictures)


def test_a_call_gives_one_picture_for_one_caption_and_a_list_otherwise(pipe):
    picture = pipe("a dog on grass", seed=3)
    assert picture.size == (64, 64) and (np.asarray(picture) == pipe.sample(["a dog on grass"], [3])[0]).all()
    assert len(pipe(["a dog on grass"])) == 1 and len(pipe("a dog on grass", seed=[4])) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"captions": "a", "seed": 5, "num": 2}, [("a", 5), ("a", 6)]),
        ({"captions": ["a", "b"], "seed": 5}, [("a", 5), ("b", 5)]),
        ({"captions": ["a", "b"], "seed": 5, "num": 2}, [("a", 5), ("a", 6), ("b", 5), ("b", 6)]),
        ({"captions": ["a", "b"], "seed": [5, 9]}, [("a", 5), ("b", 9)]),
        ({"captions": "a", "seed": [5, 9]}, [("a", 5), ("a", 9)]),
        ({"captions": []}, []),
    ],
)
def test_captions_and_seeds_of_a_call_are_drawn_in_order(pipe, arguments, expected):
    pictures = [np.asarray(picture) for picture in pipe(**arguments)]
    assert len(pictures) == len(expected)
    for picture, (caption, seed) in zip(pictures, expected, strict=True):
        assert (picture == pipe.sample([caption], [seed])[0]).all()


@pytest.mark.parametrize("arguments", [{"seed": [1, 2], "num": 2}, {"captions": ["a", "b"], "seed": [1, 2, 3]}])
def test_seeds_that_do_not_fit_the_captions_are_refused(pipe, arguments):
    with pytest.raises(UserError, match="seeds"):
        pipe(**{"captions": "a dog", **arguments})


def test_a_batch_changes_a_picture_by_rounding_alone(pipe):
    captions = ["a dog on grass", "a big blue car on sand, to the right", "a cat"] * 3
    alone, together = (pipe.sample(captions, list(range(9)), batch_size=size).astype(int) for size in (1, 4))
    assert abs(alone - together).max() <= 1


def test_the_networks_on_their_device_draw_with_the_noise_of_the_cpu(pipe):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    moved = TextToImage.load(STARTER_GAN).to(device)
    assert abs(moved.sample(["a red car"], [7]).astype(int) - pipe.sample(["a red car"], [7])).max() <= 2


def test_the_device_auto_is_the_gpu_if_there_is_one(pipe):
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert TextToImage.load(STARTER_GAN).to("auto").device == torch.device(expected)


def test_a_compiled_generator_draws_the_same_pictures(pipe):
    compiled = TextToImage.load(STARTER_GAN).compile(batch_size=2, backend="eager")
    assert (
        compiled.sample(["a red dog"] * 2, [0, 1], batch_size=2) == pipe.sample(["a red dog"] * 2, [0, 1])
    ).mean() > 0.99


def test_a_generator_that_cannot_be_compiled_is_one_line(pipe):
    def broken(*_):
        raise RuntimeError("no compiler here")

    with pytest.raises(UserError, match="can't be compiled here .*no compiler here.*sample without compiling"):
        TextToImage.load(STARTER_GAN).compile(backend=broken)


def test_a_device_that_is_not_there_is_one_line(pipe):
    with pytest.raises(UserError, match="device nothing: not available"):
        pipe.to("nothing")


def save_checkpoint(pipe: TextToImage, path: Path) -> None:
    path.parent.mkdir(parents=True)
    torch.save({"sampler": pipe.spec, "state_dict": pipe.tensors}, path)


def save_folder(pipe: TextToImage, folder: Path, **config) -> None:
    """An exported folder as docs/sampling.md describes it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    save_file(pipe.tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"format": 1, "cgan": "0.1.0", "sampler": pipe.spec, **config}))


def test_weights_are_found_in_a_run_directory_and_in_an_exported_folder(pipe, tmp_path):
    save_checkpoint(pipe, tmp_path / "run/last.ckpt")
    save_folder(pipe, tmp_path / "exported")
    expected = pipe("a dog on grass")
    for name in ("run", "run/last.ckpt", "exported", "exported/model.safetensors"):
        found = TextToImage.from_pretrained(tmp_path / name)
        assert found("a dog on grass") == expected and found.sha256 == pipe.sha256


def test_a_folder_of_a_later_format_says_so(pipe, tmp_path):
    save_folder(pipe, tmp_path / "exported", format=2, cgan="9.0")
    with pytest.raises(UserError, match="written by cgan 9.0"):
        TextToImage.from_pretrained(tmp_path / "exported")


@pytest.fixture
def offline_hub(monkeypatch, tmp_path) -> Path:
    """The hub's cache, with no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_name_on_the_hub_is_taken_from_its_cache(pipe, offline_hub):
    repository, commit = offline_hub / "models--owner--scenes", "0123456789" * 4
    save_folder(pipe, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    assert TextToImage.from_pretrained("owner/scenes")("a red car") == pipe("a red car")


def test_a_name_that_the_hub_does_not_give_is_one_line(offline_hub):
    with pytest.raises(UserError, match="owner/name: no such folder here, and not available on the hub") as error:
        TextToImage.from_pretrained("owner/name")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gone.ckpt", "tests/gone", "../gone", "gone/x.safetensors", "a/b/c", "", "\0"])
def test_a_path_that_is_not_there_does_not_go_to_the_hub(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="no such checkpoint|neither last.ckpt"):
        find(name)


def test_a_way_begins_and_ends_with_the_pictures_of_its_ends(pipe):
    way = list(frames(pipe, ["a red car", "a dog on grass", "a cat"], (3, 8), 4))
    assert len(way) == 7
    assert (way[0] == pipe.sample(["a red car"], [3])[0]).all() and (way[-1] == pipe.sample(["a cat"], [8])[0]).all()
    assert all((one != other).any() for one, other in zip(way, way[1:], strict=False))


def test_a_way_with_one_seed_passes_through_its_captions(pipe):
    way = list(frames(pipe, ["a red car", "a dog on grass", "a cat"], (3, 3), 3))
    assert (way[2] == pipe.sample(["a dog on grass"], [3])[0]).all()


def test_noise_turns_along_the_arc():
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert torch.allclose(turned(one, other, 1 / 3), torch.tensor([[3**0.5 / 2, 0.5]]), atol=1e-6)


@pytest.mark.slow
def test_importing_cgan_costs_nothing():
    code = "import sys, cgan; print(cgan.__version__, 'torch' in sys.modules, 'numpy' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout.split()[1:] == ["False", "False"], ended.stderr


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array, torch.tensor])
def test_a_seed_is_an_integer_of_any_kind(kind):
    pipe = TextToImage.load(STARTER_GAN)
    assert pipe("a dog", seed=kind(5)).tobytes() == pipe("a dog", seed=5).tobytes()


def test_an_array_of_seeds_is_a_list_of_them():
    pipe = TextToImage.load(STARTER_GAN)
    drawn = pipe(["a dog", "a cat"], seed=np.arange(2))
    assert [x.tobytes() for x in drawn] == [pipe("a dog", seed=0).tobytes(), pipe("a cat", seed=1).tobytes()]
    assert len(pipe("a dog", seed=torch.arange(2))) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 2**32}, {"seed": -1}, {"seed": [0, -1]}, {"seed": 1.5}, {"seed": np.array([0.5])}, {"seed": "one"},
        {"seed": None}, {"seed": 2**32 - 1, "num": 2}, {"num": 0}, {"truncation": float("nan")}, {"truncation": -1.0},
        {"batch_size": 0},
    ],
)  # fmt: skip
def test_values_that_cannot_be_drawn_are_one_line(settings):
    name = next(iter(settings))
    with pytest.raises(UserError, match=name) as error:
        TextToImage.load(STARTER_GAN)("a dog", **settings)
    assert "\n" not in str(error.value)


def test_captions_without_a_known_word_are_told():
    unread = ["\U0001f436\U0001f333", "zebra", "xyzzy plugh"]
    assert TextToImage.load(STARTER_GAN).without_known_words([*unread, "a zebra", "a dog"]) == unread
