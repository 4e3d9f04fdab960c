import json
import shutil

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import transformers

from cgan.config import GANConfig
from cgan.interfaces import Batch, UserError
from cgan.models.decoders import DecoderConfig
from cgan.models.discriminator import DiscriminatorConfig
from cgan.models.encoders.clip import MEAN, CLIPImageEncoder
from cgan.models.generators.base import GeneratorConfig
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.clip import CLIPTextEncoder
from cgan.models.text.lstm import Vocabulary
from cgan.sampling.pipeline import TextToImage
from cgan.training.gan import TextToImageGAN
from cgan.training.joint import JointTraining
from helpers.clip import processor, save_clip
from helpers.gan import fit
from helpers.host_work import HostWork
from helpers.pictures import as_images

CAPTIONS = ["a dog", "a big red dog on the grass", "cat", "a blue tree"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def copy(folder, tmp_path):
    """A CLIP folder to change."""
    return shutil.copytree(folder, tmp_path / "clip")


@pytest.fixture(scope="module")
def library(folder) -> transformers.CLIPModel:
    return transformers.CLIPModel.from_pretrained(folder)


def some_pictures(size: int = 32) -> np.ndarray:
    """uint8 (4, H, W, 3)."""
    return np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8)


def some_batch() -> Batch:
    return Batch(as_images(some_pictures()), CAPTIONS, torch.arange(4))


def finetuned(folder: str | None, **changes) -> JointEncoder:
    torch.manual_seed(0)
    decoder = DecoderConfig(width=4, max_channels=16, word_dim=8, hidden_dim=16)
    config = JointConfig(encoders="clip", clip=folder, decoder=decoder, learning_rate=1e-3, **changes)
    return JointEncoder(config, Vocabulary.of(CAPTIONS), 32)


def trained(module: pl.LightningModule, max_steps: int, **settings) -> pl.Trainer:
    return fit(module, ".", max_steps, batches=[some_batch()] * max_steps, **settings)


# ---------------------------------------------------------------------------------------------- encoders


@torch.no_grad()
@pytest.mark.parametrize("layout", ["preprocessor_config.json", "processor_config.json", None])
def test_pictures_are_encoded_as_by_the_library(layout, copy, library):
    theirs = processor()
    (copy / "preprocessor_config.json").unlink()
    match layout:
        case "preprocessor_config.json":
            theirs.save_pretrained(copy)
        case "processor_config.json":  # where transformers 5 writes it
            tokenizer = transformers.AutoTokenizer.from_pretrained(copy)
            transformers.CLIPProcessor(image_processor=theirs, tokenizer=tokenizer).save_pretrained(copy)
            (copy / "preprocessor_config.json").unlink(missing_ok=True)
            assert (copy / layout).is_file()
        case None:
            theirs = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=theirs.crop_size)
            assert list(theirs.image_mean) == list(MEAN)
    pixels = theirs(list(some_pictures()), return_tensors="pt").pixel_values
    expected = library.get_image_features(pixel_values=pixels).pooler_output
    encoder = CLIPImageEncoder(str(copy))
    assert torch.allclose(encoder(as_images(some_pictures())).embedding, expected, atol=1e-5)
    assert encoder.embedding_dim == expected.shape[1] == 12


@torch.no_grad()
def test_maps_are_the_patches_of_three_layers_in_their_places(folder, library):
    encoder, images = CLIPImageEncoder(folder), as_images(some_pictures())
    maps = encoder(images).maps
    states = library.vision_model(encoder.normalise(images), output_hidden_states=True).hidden_states
    assert [tuple(m.shape[1:]) for m in maps] == [(c, 4, 4) for c in encoder.map_channels]
    assert encoder.map_sizes(32) == encoder.map_sizes(64) == [4, 4, 4]
    for layer, x in zip((1, 2, 3), maps, strict=True):
        for row, column in ((0, 0), (1, 3), (3, 0)):
            assert torch.allclose(x[:, :, row, column], states[layer][:, 1 + 4 * row + column], atol=1e-5)


@torch.no_grad()
def test_pictures_of_other_sizes_are_resized(folder):
    encoder, images = CLIPImageEncoder(folder), torch.zeros(1, 3, 32, 32)
    images[:, :, :16] = 0.8
    larger = images.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    small, large = encoder(images), encoder(larger)
    assert [m.shape for m in large.maps] == [m.shape for m in small.maps]
    assert torch.allclose(large.embedding, small.embedding, atol=0.1) and small.embedding.abs().max() > 0.5


@torch.no_grad()
def test_captions_are_encoded_as_by_the_library(folder, library):
    encoder = CLIPTextEncoder(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(CAPTIONS, padding=True, return_tensors="pt")
    text = encoder(CAPTIONS)
    assert torch.allclose(text.sentence, library.get_text_features(**tokens).pooler_output, atol=1e-5)
    assert torch.equal(text.mask, tokens.attention_mask.bool()) and encoder.dim == text.words.shape[2] == 12
    for i in range(len(CAPTIONS)):  # the sentence is its last word, the end
        assert torch.allclose(text.words[i][text.mask[i]][-1], text.sentence[i], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("end", [53, 2])  # 2 stands in the first published folders, and means the largest number
def test_padding_does_not_change_a_sentence(end, copy):
    settings = json.loads((copy / "config.json").read_text())
    settings["text_config"]["eos_token_id"] = end
    (copy / "config.json").write_text(json.dumps(settings))
    encoder = CLIPTextEncoder(str(copy))
    together = encoder(CAPTIONS)
    for i, caption in enumerate(CAPTIONS):
        alone = encoder([caption])
        assert torch.allclose(together.sentence[i], alone.sentence[0], atol=1e-5)
        assert torch.allclose(together.words[i][together.mask[i]], alone.words[0], atol=1e-5)


@torch.no_grad()
def test_a_long_caption_is_cut_before_its_end(folder, library):
    captions = ["dog " * 100, "cat " * 100]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(captions, truncation=True, max_length=77, return_tensors="pt")
    text = CLIPTextEncoder(folder)(captions)
    assert text.words.shape[1] == 77 and not torch.allclose(text.sentence[0], text.sentence[1], atol=1e-2)
    assert torch.allclose(text.sentence, library.get_text_features(**tokens).pooler_output, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("end", [53, 2])
def test_tokens_are_encoded_like_captions_without_the_host(end, copy):
    settings = json.loads((copy / "config.json").read_text())
    settings["text_config"]["eos_token_id"] = end
    (copy / "config.json").write_text(json.dumps(settings))
    encoder = CLIPTextEncoder(str(copy))
    captions = [*CAPTIONS, "dog " * 100, ""]
    tokens, expected = encoder.make_tokenizer()(captions), encoder(captions)
    with HostWork() as work:
        text = encoder.encode_tokens(tokens)
    assert not work.found and torch.equal(text.mask, expected.mask)
    assert torch.allclose(text.sentence, expected.sentence, atol=1e-5)
    assert torch.allclose(text.words[text.mask], expected.words[text.mask], atol=1e-5)
    library = [encoding.ids for encoding in encoder.tokenizer.encode_batch(captions)]
    assert tokens.ids.tolist() == library


def test_halves_that_say_another_size_than_the_whole_are_loaded(tmp_path):
    folder = save_clip(tmp_path, projection_dim=10, halves_projection_dim=12)
    text, image = CLIPTextEncoder(folder), CLIPImageEncoder(folder)
    assert text(CAPTIONS).sentence.shape == image(as_images(some_pictures())).embedding.shape == (4, 10)
    assert text.dim == image.embedding_dim == 10


def test_weights_in_half_precision_are_finetuned_in_single(copy):
    transformers.CLIPModel.from_pretrained(copy).half().save_pretrained(copy)
    settings = json.loads((copy / "config.json").read_text())
    for half in ("text_config", "vision_config"):
        del settings[half]["dtype"]  # older folders do not say it there
    (copy / "config.json").write_text(json.dumps(settings))
    joint = finetuned(str(copy))
    assert {value.dtype for value in joint.parameters()} == {torch.float32}
    trained(JointTraining(joint), 1)


# ---------------------------------------------------------------------------------------------- finetuning


@pytest.mark.parametrize("coattention_weight", [0.0, 0.5])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_finetuning_moves_all_of_both_towers(folder, coattention_weight, precision):
    joint = finetuned(folder, coattention_weight=coattention_weight)
    before = {name: value.clone() for name, value in joint.named_parameters()}
    trained(JointTraining(joint), 2, precision=precision)
    still = [name for name, value in joint.named_parameters() if torch.equal(value, before[name])]
    assert not still and all(value.isfinite().all() for value in joint.parameters())


@pytest.mark.parametrize("half", [False, True])
def test_a_finetuned_clip_comes_back_without_its_folder(copy, tmp_path, half):
    joint = finetuned(str(copy), coattention_weight=0.5)
    trained(JointTraining(joint), 2)
    joint.eval().save(tmp_path / "joint.safetensors", half)
    shutil.rmtree(copy)
    again, images = JointEncoder.load(tmp_path / "joint.safetensors"), as_images(some_pictures())
    expected = joint.scores(images, CAPTIONS)
    assert torch.allclose(again.scores(images, CAPTIONS), expected, atol=1e-2 if half else 1e-5)
    assert half or again.captions_of(images) == joint.captions_of(images)


def test_a_gan_on_a_finetuned_clip_trains_and_its_sampler_needs_no_folder(copy, tmp_path):
    joint = finetuned(str(copy), picture_weight=0.0, caption_weight=0.0)
    config = GANConfig(
        generator=GeneratorConfig(noise_dim=8, style_dim=16, width=4, max_channels=16),
        discriminator=DiscriminatorConfig(width=4, max_channels=16, head_dim=8),
    )
    gan = TextToImageGAN(config, joint.text, joint.image, 32)
    trained(gan, 2).save_checkpoint(tmp_path / "last.ckpt")
    assert all(value.isfinite().all() for value in gan.parameters())
    shutil.rmtree(copy)
    drawn = TextToImage.load(tmp_path / "last.ckpt").sample(["a dog"], [3])
    noise = torch.randn(1, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        image = gan.generator_ema(noise, gan.text_encoder(["a dog"]))[0]
    assert np.abs(drawn[0] - ((image + 1) * 127.5).permute(1, 2, 0).numpy()).max() <= 1


# ---------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_damaged_weights_are_one_line(content, copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50] if content is None else content)
    for encoder in (CLIPTextEncoder, CLIPImageEncoder):
        with pytest.raises(UserError, match="joint.clip=.*not the folder of a CLIP") as error:
            encoder(str(copy))
        assert "\n" not in str(error.value)


def test_a_folder_of_something_else_is_one_line(copy, tmp_path):
    sizes = {"vocab_size": 54, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    transformers.T5EncoderModel(transformers.T5Config(**sizes)).save_pretrained(copy)
    (tmp_path / "empty").mkdir()
    for folder in (copy, tmp_path / "empty"):
        for encoder in (CLIPTextEncoder, CLIPImageEncoder):
            with pytest.raises(UserError, match="joint.clip=.*not the folder of a CLIP") as error:
                encoder(str(folder))
            assert "\n" not in str(error.value)


@pytest.mark.parametrize(("folder", "said"), [("/nowhere/at/all", "no such folder"), (None, "joint.clip is not set")])
def test_a_missing_folder_is_one_line(folder, said):
    with pytest.raises(UserError, match=said) as error:
        finetuned(folder)
    assert "\n" not in str(error.value)
