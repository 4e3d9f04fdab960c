"""A pretrained CLIP (Radford et al. 2021) that scores pictures against captions, by folder or by name on the hub."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from cgan.damage import unreadable
from cgan.interfaces import UserError
from cgan.metrics.features import MatchingNetwork
from cgan.metrics.weights import is_cached


class CLIPNetwork(MatchingNetwork):
    """Both halves of a CLIP; pictures are prepared by its own processor, captions cut to its length, end mark kept."""

    name = "clip"

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.model, self.processor, self.tokenizer = pretrained(source)
        self.num_features = self.model.config.projection_dim
        self.max_length = self.model.config.text_config.max_position_embeddings
        self.model.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures as directions."""
        pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        with torch.autocast(images.device.type, enabled=False):
            output = self.model.get_image_features(pixel_values=pixels.to(self.model.device))
            return F.normalize(output.pooler_output.float(), dim=1)

    def embed_captions(self, captions: list[str]) -> Tensor:
        """Captions as directions, float32 (B, num_features)."""
        encoded = self.tokenizer(
            captions, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(self.model.device)
        with torch.autocast(self.model.device.type, enabled=False):
            output = self.model.get_text_features(encoded["input_ids"], attention_mask=encoded["attention_mask"])
            return F.normalize(output.pooler_output.float(), dim=1)

    def spec(self) -> dict[str, str]:
        return super().spec() | {"source": self.source}


def pretrained(source: str) -> tuple:
    """Model, picture processor and tokenizer; raises UserError of one line."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    path = Path(source).expanduser()
    where = str(path) if path.is_dir() else source
    here = {"local_files_only": path.is_dir() or is_cached(source)}
    try:
        config = transformers.AutoConfig.from_pretrained(where, **here)
        if config.model_type != "clip":  # its weights would be random
            raise UserError(f"{source}: not a CLIP model (it holds {config.model_type})")
        model = transformers.CLIPModel.from_pretrained(where, dtype=torch.float32, **here)
        processor = transformers.CLIPImageProcessor.from_pretrained(where, **here)
        return model, processor, transformers.AutoTokenizer.from_pretrained(where, **here)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise unreadable(source, error, f"{source}: not a CLIP model ({reason})") from error
