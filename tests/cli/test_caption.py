from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgan.cli.caption import main
from cgan.interfaces import UserError
from cgan.models.decoders import DecoderConfig
from cgan.models.encoders.resnet import ImageEncoderConfig
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.lstm import LSTMConfig, Vocabulary


def save_joint(path, caption_weight=0.1):
    """A tiny joint encoder that has learned nothing, but says different things of different pictures."""
    torch.manual_seed(3)
    config = JointConfig(
        image=ImageEncoderConfig(width=4, embedding_dim=16),
        text=LSTMConfig(dim=16, embedding_dim=8),
        decoder=DecoderConfig(word_dim=8, hidden_dim=16),
        picture_weight=0,
        caption_weight=caption_weight,
    )
    joint = JointEncoder(config, Vocabulary.of(["a red blue car on grass with many other words"]), resolution=32)
    if joint.caption_decoder is not None:
        for weight in joint.caption_decoder.lstm.parameters():
            weight.data *= 20
    joint.save(path)
    return joint.eval()


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two pictures in the current folder, of the resolution at which they are read: uint8 (2, 32, 32, 3)."""
    monkeypatch.chdir(tmp_path)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pictures[1, :, 16:] = 0
    for name, picture in zip(("one.png", "two.png"), pictures, strict=True):
        Image.fromarray(picture).save(name)
    return pictures


def test_a_picture_is_described_in_a_line(pictures, capsys):
    device = "cuda" if torch.cuda.is_available() else "cpu"  # where cgan caption computes; devices round otherwise
    joint = save_joint(Path("joint.safetensors")).to(device)
    main(["two.png", "--checkpoint", "joint.safetensors"])
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
    said = [joint.captions_of(image[None])[0] for image in images]
    assert capsys.readouterr().out == f"{said[1]}\n" and said[0] != said[1]
    main(["one.png", "two.png", "--checkpoint", "joint.safetensors"])
    assert capsys.readouterr().out == f"one.png: {said[0]}\ntwo.png: {said[1]}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("gone.png", "gone.png: missing"),
        ("text.png", "text.png: damaged or not a picture"),
        ("one.png --checkpoint gone.safetensors", "no such file"),
        ("one.png --checkpoint silent.safetensors", "has no caption decoder"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, pictures, tmp_path):
    save_joint(Path("joint.safetensors"))
    save_joint(Path("silent.safetensors"), caption_weight=0)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=said) as error:
        main(["--checkpoint", "joint.safetensors", *arguments.split()])
    assert "\n" not in str(error.value)
