"""Captions to TextFeatures: the project's own LSTM, or any pretrained encoder."""

from dataclasses import dataclass
from typing import Literal

from cgan.interfaces import TextEncoder, UserError


@dataclass
class TextConfig:
    """Which text encoder the GAN uses."""

    encoder: Literal["joint", "pretrained", "custom"] = "joint"  # the GAN's text encoder: that of the joint encoder,
    # one of transformers, or one that is given in Python
    name: str | None = None  # name of the pretrained model: minilm, a folder, or its name on the hub
    max_words: int = 77  # tokens of a caption that a pretrained encoder reads


def restore_text_encoder(spec: dict) -> TextEncoder:
    """Returns the encoder that a spec() describes, without trained weights; a frozen pretrained part has its own.

    Raises UserError for an unknown kind, or where a pretrained part can't be loaded.
    """
    match spec["encoder"]:
        case "lstm":
            from cgan.models.text.lstm import LSTMTextEncoder

            return LSTMTextEncoder.from_spec(spec)
        case "clip":
            from cgan.models.text.clip import CLIPTextEncoder

            return CLIPTextEncoder(spec)
        case "pretrained":
            from cgan.models.text.pretrained import PretrainedTextEncoder

            return PretrainedTextEncoder(spec["name"], spec["max_words"])
        case "projected":
            from cgan.models.text.projected import ProjectedTextEncoder

            return ProjectedTextEncoder.from_spec(spec)
    raise UserError(f"the text encoder {spec['encoder']!r} is not one of cgan's; give it in Python, "
                    "TextToImage.from_pretrained(..., text_encoder=...)")  # fmt: skip
