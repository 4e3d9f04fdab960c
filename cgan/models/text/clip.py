"""The text half of a pretrained CLIP (Radford et al. 2021), to be finetuned; spec() includes its tokenizer."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor

from cgan.damage import unreadable
from cgan.interfaces import TextEncoder, TextFeatures, UserError

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection


class CLIPTextEncoder(TextEncoder):
    """Encodes sentence and words in the latent that CLIP shares with images.

    settings is the folder of a pretrained CLIP, or a spec() without weights.
    """

    device_of: Tensor  # a scalar on the device of the weights

    def __init__(self, settings: str | dict) -> None:
        super().__init__()
        import transformers

        if isinstance(settings, str):
            self.network, self.tokenizer = pretrained_text(settings)
        else:
            config = transformers.CLIPTextConfig(**settings["config"])
            self.network = transformers.CLIPTextModelWithProjection(config)
            self.tokenizer = Tokenizer.from_str(settings["tokenizer"])
        config = self.network.config
        assert config.projection_dim is not None  # the network could not be built without it
        self.dim = config.projection_dim
        self.tokenizer.enable_truncation(config.max_position_embeddings)
        self.tokenizer.enable_padding(pad_id=config.eos_token_id)
        self.register_buffer("device_of", torch.zeros(()), persistent=False)

    def forward(self, captions: list[str]) -> TextFeatures:
        """Returns TextFeatures of captions, which are cut to the length that CLIP takes."""
        encoded, device = self.tokenizer.encode_batch(captions), self.device_of.device
        ids = torch.tensor([e.ids for e in encoded], device=device)
        mask = torch.tensor([e.attention_mask for e in encoded], device=device)
        output = self.network(input_ids=ids, attention_mask=mask)
        words = self.network.text_projection(output.last_hidden_state)  # (B, L, D)
        return TextFeatures(output.text_embeds, words, mask.bool())

    def unknown_words(self, captions: list[str]) -> list[str]:
        """Returns an empty list: the tokenizer splits every word into known pieces."""
        return []

    def spec(self) -> dict:
        """Returns the settings and the tokenizer, without weights; see TextEncoder.spec."""
        config = self.network.config.to_diff_dict()
        return {"encoder": "clip", "config": config, "tokenizer": self.tokenizer.to_str()}


def pretrained_text(folder: str) -> tuple["CLIPTextModelWithProjection", Tokenizer]:
    """Returns the text model and the tokenizer of a CLIP folder; raises UserError if they can't be loaded."""
    import transformers

    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"joint.clip={folder}: no such folder; give the folder of a pretrained CLIP")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(path)
        if config.model_type != "clip":  # its weights would be random
            raise UserError(f"joint.clip={folder}: not the folder of a CLIP model (it holds {config.model_type})")
        config.text_config.projection_dim = config.projection_dim  # which differs in the text part of some folders
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        model = transformers.CLIPTextModelWithProjection.from_pretrained(
            path, config=config.text_config, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise unreadable(
            f"joint.clip={folder}", error, f"joint.clip={folder}: not the folder of a CLIP model ({reason})"
        ) from error
    return model, tokenizer.backend_tokenizer
