"""Pictures as a start: read as training reads them, found by a posterior, mixed with noise, and made again."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgan.cli.sample import main
from cgan.data.pictures import decode
from cgan.errors import UserError
from cgan.models.generators import build_generator
from cgan.models.generators.base import GeneratorConfig
from cgan.models.inverter import Inverter, config_of
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.sampling.export import export
from cgan.sampling.inversion import load_inverter, save_inverter
from cgan.sampling.mixing import mixed
from cgan.sampling.pipeline import TextToImage
from cgan.sampling.request import read_request
from cgan.sampling.sources import InMemory, read_source
from helpers.pictures import pixels

CAPTIONS = ["a red dog on grass", "a blue cat on snow"]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch) -> Path:
    """The current folder, with a tiny untrained generator, its posterior, and two pictures."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    text = LSTMTextEncoder(LSTMConfig(dim=16, embedding_dim=8), Vocabulary.of(CAPTIONS))
    config = GeneratorConfig(noise_dim=8, style_dim=16, width=4, max_channels=16, latent_prior_dim=16)
    parts = {"generator_ema.": build_generator(config, 32, text.dim), "text_encoder.": text}
    tensors = {prefix + name: value for prefix, part in parts.items() for name, value in part.state_dict().items()}
    pipe = TextToImage({"generator": asdict(config), "text": text.spec(), "resolution": 32}, tensors)
    pipe.save("model.safetensors")
    save_inverter(Inverter(config_of(None, 32, 16, 8)), Path("posterior.safetensors"), pipe.sha256, half=False)
    rng = np.random.default_rng(0)
    for name in ("one", "other"):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(f"{name}.png")
    return tmp_path


@pytest.fixture
def tiny() -> TextToImage:
    return TextToImage.from_pretrained("model.safetensors")


def sample(capsys, *arguments: str) -> list[str]:
    main([*arguments, "--checkpoint", "model.safetensors"])
    return capsys.readouterr().out.splitlines()


def as_image(path: str) -> torch.Tensor:
    return read_source(path, 32).image[None]


# ---------------------------------------------------------------------------------------------- the noise


def test_what_is_found_in_a_picture_draws_the_latent_that_the_posterior_means(tiny):
    text = tiny.encode(CAPTIONS[:1])
    noise, sentence = tiny.found(as_image("one.png"), text)
    with torch.no_grad():
        mean, _ = tiny.inverter().moments(as_image("one.png") / 127.5 - 1, text.sentence)
        assert torch.allclose(tiny.generator.latent_prior(noise, text), mean, atol=1e-4)
    assert torch.equal(sentence, text.sentence)  # a posterior without a reader completes none


def test_noise_that_is_found_is_no_longer_than_normal_noise(tiny):
    inverter = tiny.inverter()
    with torch.no_grad():
        inverter.posterior.moments.bias.fill_(9.0)
        noise, _ = tiny.found(as_image("one.png"), tiny.encode(CAPTIONS[:1]))
    assert abs(float(noise.norm()) - 8**0.5) < 1e-4


def test_a_reader_completes_the_sentence_as_far_as_the_picture_is_kept(tiny):
    save_inverter(Inverter(config_of(None, 32, 16, 8, reader_dim=8)), Path("read.safetensors"), tiny.sha256)
    starting = tiny.starting_from("one.png", 0.25)
    starting.inverter(Path("read.safetensors"))
    text = tiny.encode(CAPTIONS[:1])
    given = text.sentence
    _, completed = starting.found(as_image("one.png"), text)
    _, text = starting.start(starting.noise([0]), CAPTIONS[:1])
    assert torch.allclose(text.sentence, torch.lerp(given, completed, 0.25))
    assert torch.allclose(completed.norm(), given.norm(), atol=1e-4) and not torch.allclose(completed, given)


def test_keep_goes_from_the_seeds_picture_to_one_that_no_seed_changes(tiny):
    plain = np.asarray(tiny(CAPTIONS[0], seed=3))
    assert (np.asarray(tiny(CAPTIONS[0], seed=3, image="one.png", keep=0)) == plain).all()
    redrawn = [np.asarray(tiny(CAPTIONS[0], seed=seed, image="one.png")) for seed in (3, 4)]
    assert (redrawn[0] == redrawn[1]).all() and (redrawn[0] != plain).any()
    between = [np.asarray(tiny(CAPTIONS[0], seed=seed, image="one.png", keep=0.5)) for seed in (3, 4)]
    assert (between[0] != between[1]).any()


def test_mixed_noise_stays_as_long_as_normal_noise_is():
    one, other = torch.randn(2, 500, 64).unbind()
    lengths = mixed(one, other, 0.5).norm(dim=1)
    assert abs(float(lengths.mean()) / float(one.norm(dim=1).mean()) - 1) < 0.02  # a straight line gives 0.71
    assert torch.equal(mixed(one, other, 0), one) and torch.equal(mixed(one, other, 1), other)


def test_a_blend_of_a_picture_with_itself_is_the_picture(tiny):
    alone = np.asarray(tiny(CAPTIONS[0], image="one.png")).astype(int)
    blended = np.asarray(tiny(CAPTIONS[0], image=["one.png", "one.png"])).astype(int)
    assert abs(alone - blended).max() <= 1
    assert (np.asarray(tiny(CAPTIONS[0], image=["one.png", "other.png"])) != alone).any()


@pytest.mark.parametrize("keep", [-0.1, 1.01, float("nan"), "half", True])
def test_a_share_out_of_range_is_refused(tiny, keep):
    with pytest.raises(UserError, match="must be from 0"):
        tiny(CAPTIONS[0], image="one.png", keep=keep)


# ---------------------------------------------------------------------------------------------- pictures


def exif_turned(path: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.arange(30 * 20 * 3, dtype=np.uint8).reshape(30, 20, 3)).save(path, exif=exif, quality=95)


def palette(path: str) -> None:
    Image.fromarray(np.arange(40 * 40, dtype=np.uint8).reshape(40, 40)).convert("P").save(path, transparency=3)


def deep(path: str) -> None:
    Image.fromarray(np.linspace(0, 65535, 50 * 40).astype(np.uint16).reshape(50, 40)).save(path)


def see_through(path: str) -> None:
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 60, 4), dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    "write, path", [(exif_turned, "a.jpg"), (palette, "a.gif"), (deep, "a.png"), (see_through, "b.png")]
)
def test_any_kind_of_picture_is_taken_as_training_takes_it(write, path):
    write(path)
    expected, _ = decode((Path(path), 32))
    for picture in (path, InMemory(Path(path).read_bytes()), Image.open(path)):
        assert (read_source(picture, 32).image.permute(1, 2, 0).numpy() == np.asarray(expected)).all()


@pytest.mark.parametrize("picture, told", [("gone.png", "missing"), ("", "no path"), (".", "missing"),
                                           ("text.png", "not a"),
                                           (b"bytes", "give a path"), (np.zeros((4, 4)), "give a path"), ([], "0 pict"),
                                           (["one.png"] * 3, "3 pictures")])  # fmt: skip
def test_what_is_no_picture_is_told_in_one_line(tiny, picture, told):
    Path("text.png").write_text("a dog")
    with pytest.raises(UserError, match=told) as error:
        tiny(CAPTIONS[0], image=picture)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------- the command


def test_an_edit_is_made_again_by_what_its_file_says(tiny, capsys):
    (path,) = sample(capsys, CAPTIONS[1], "--from", "one.png", "--keep", "0.7", "--seed", "5", "--out", "edit.png")
    assert (pixels(path) == np.asarray(tiny(CAPTIONS[1], seed=5, image="one.png", keep=0.7))).all()
    request, about = read_request(Path(path))
    assert request.sources[0]["file"] == "one.png" and request.keep == 0.7 and about["posterior"]["sha256"]
    (again,) = sample(capsys, "--again", path)
    assert (pixels(again) == pixels(path)).all() and not capsys.readouterr().err
    Path("one.png").rename("moved.png")
    with pytest.raises(UserError, match="one.png: missing"):
        sample(capsys, "--again", path)
    (again,) = sample(capsys, "--again", path, "--from", "moved.png")
    assert (pixels(again) == pixels(path)).all()
    with pytest.raises(UserError, match="was made from one.png"):
        sample(capsys, "--again", path, "--from", "other.png")


def test_two_pictures_are_the_ends_of_an_interpolation(tiny, capsys):
    (path,) = sample(
        capsys, CAPTIONS[0], "--from", "one.png", "--from", "other.png", "--interpolate", "5", "--out", "a.png"
    )
    strip = pixels(path)
    assert strip.shape == (32, 5 * 32, 3)
    for start, name in ((0, "one.png"), (4 * 32, "other.png")):
        assert (strip[:, start : start + 32] == np.asarray(tiny(CAPTIONS[0], image=name))).all()
    (again,) = sample(capsys, "--again", path)
    assert (pixels(again) == strip).all()
    assert sample(
        capsys, CAPTIONS[0], "--from", "one.png", "--from", "other.png", "--interpolate", "3", "--out", "a.gif"
    )


def test_the_best_of_several_edits_has_the_source_in_all_candidates(tiny):
    starting = tiny.starting_from("one.png", 0.5)
    candidates = starting.candidates(CAPTIONS[0], 2, 3)
    assert (candidates[0] == np.asarray(tiny(CAPTIONS[0], seed=2, image="one.png", keep=0.5))).all()
    assert len(np.unique(candidates, axis=0)) == 3


def test_files_without_a_source_say_nothing_of_one(capsys):
    (path,) = sample(capsys, CAPTIONS[0], "--out", "plain.png")
    assert not {"sources", "keep", "posterior"} & set(json.loads(Image.open(path).info["cgan"]))


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--keep", "0.5"], "--keep"),
        (["--posterior", "x"], "--posterior"),
        (["--from", "one.png", "--keep", "2"], "keep=2"),
        (["--from", "text.png"], "text.png: damaged"),
        (["--from", ""], "no path"),
        (["--from", "one.png"] * 3, "3 pictures"),
        (["--from", "one.png", "--posterior", "gone"], "gone: no such file"),
        (["--from", "one.png", "--posterior", "text.png"], "text.png: damaged"),
    ],
)
def test_mistakes_are_told_in_one_line(capsys, arguments, told):
    Path("text.png").write_text("a dog")
    with pytest.raises(UserError, match=told) as error:
        sample(capsys, CAPTIONS[0], *arguments)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------- files


def test_an_export_takes_the_posterior_along_where_it_is_asked_to(tiny):
    expected = np.asarray(tiny(CAPTIONS[1], image="one.png"))
    export("model.safetensors", Path("with.safetensors"), half=False, posterior=True)
    export("model.safetensors", Path("folder"), half=False, posterior=True, captions=CAPTIONS)
    export("model.safetensors", Path("without.safetensors"), half=False)
    Path("posterior.safetensors").unlink()
    for name in ("with.safetensors", "folder"):
        found = TextToImage.from_pretrained(name)
        assert (np.asarray(found(CAPTIONS[1], image="one.png")) == expected).all() and found.sha256 == tiny.sha256
    with pytest.raises(UserError, match="it has no posterior"):
        TextToImage.from_pretrained("without.safetensors")(CAPTIONS[1], image="one.png")
    with pytest.raises(UserError, match="it has no posterior"):
        export("without.safetensors", Path("more.safetensors"), posterior=True)


def test_a_posterior_of_another_generator_is_refused(tiny):
    save_inverter(tiny.inverter(), Path("posterior.safetensors"), "0" * 64)
    with pytest.raises(UserError, match="fitted to another generator"):
        load_inverter(Path("posterior.safetensors"), tiny.sha256)
