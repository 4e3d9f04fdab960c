"""The text half of a pretrained CLIP (Radford et al. 2021), to be finetuned; spec() includes its tokenizer."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor

from cgan.damage import unreadable
from cgan.interfaces import TextEncoder, TextFeatures, Tokens, UserError

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection


class PieceTokenizer:
    """Turns captions into ids of pieces of words, one caption at a time: threads of a parent do not survive a fork."""

    def __init__(self, pieces: Tokenizer, padding: int) -> None:
        self.pieces, self.padding = pieces, padding

    def __call__(self, captions: list[str]) -> Tokens:
        """Returns the ids of captions, (B, L) int64 on the CPU, and which of them are no padding."""
        rows = [self.pieces.encode(caption).ids for caption in captions]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.padding] * (longest - len(row)) for row in rows])
        mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
        return Tokens(ids, mask)


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
        ids, mask = (x.to(self.device_of.device) for x in self.make_tokenizer()(captions))
        return self.features(ids, mask, mask.long())

    def make_tokenizer(self) -> PieceTokenizer:
        """Returns what turns captions into ids of pieces of words; see TextEncoder.make_tokenizer."""
        return PieceTokenizer(self.tokenizer, cast(int, self.network.config.eos_token_id))

    def encode_tokens(self, tokens: Tokens) -> TextFeatures:
        """Returns what `forward` does to rounding, outside of padding; see TextEncoder.encode_tokens.

        No word of CLIP's hears later ones, so the padding behind them needs no mask, which the library would look at.
        """
        return self.features(tokens.ids, tokens.mask, None)

    def features(self, ids: Tensor, mask: Tensor, heard: Tensor | None) -> TextFeatures:
        """Returns TextFeatures of ids (B, L) of which mask are no padding; heard is the library's attention mask."""
        output = self.network(input_ids=ids, attention_mask=heard)
        words = self.network.text_projection(output.last_hidden_state)  # (B, L, D)
        return TextFeatures(output.text_embeds, words, mask)

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
