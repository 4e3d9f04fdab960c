"""A pretrained CLIP (Radford et al. 2021) that scores images against captions, by folder or by name on the hub."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from cgan.damage import unreadable
from cgan.interfaces import UserError
from cgan.metrics.features import MatchingNetwork
from cgan.metrics.required_weights import is_cached


class CLIPNetwork(MatchingNetwork):
    """Both halves of a CLIP; its own processor prepares images, and captions are cut to the length that it takes."""

    name = "clip"

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.model, self.processor, self.tokenizer = pretrained(source)
        self.num_features = self.model.config.projection_dim
        self.max_length = self.model.config.text_config.max_position_embeddings
        self.model.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns images, uint8 (B, 3, H, W), as unit vectors, float32 (B, num_features)."""
        return self.embed_pictures(list(images))

    def embed_pictures(self, pictures: Sequence[Tensor | Image.Image]) -> Tensor:
        """Returns pictures of any sizes, (3, H, W) uint8 or PIL's, as unit vectors, float32 (B, num_features)."""
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        with torch.autocast(self.model.device.type, enabled=False):
            output = self.model.get_image_features(pixel_values=pixels.to(self.model.device))
            return F.normalize(output.pooler_output.float(), dim=1)

    def embed_captions(self, captions: list[str]) -> Tensor:
        """Returns captions as unit vectors, float32 (B, num_features)."""
        encoded = self.tokenizer(
            captions, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(self.model.device)
        with torch.autocast(self.model.device.type, enabled=False):
            output = self.model.get_text_features(encoded["input_ids"], attention_mask=encoded["attention_mask"])
            return F.normalize(output.pooler_output.float(), dim=1)

    def describe(self) -> str:
        """Returns the network with its folder or name."""
        return f"CLIP {self.source}"

    def spec(self) -> dict[str, str]:
        """Returns the network, the hash of its weights and its folder or name; see FeatureNetwork.spec."""
        return super().spec() | {"source": self.source}


def pretrained(source: str) -> tuple:
    """Returns the model, image processor and tokenizer of a CLIP; raises UserError if they can't be loaded."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    path = Path(source).expanduser()
    where = str(path) if path.is_dir() else source
    here = path.is_dir() or is_cached(source)
    try:
        config = transformers.AutoConfig.from_pretrained(where, local_files_only=here)
        if config.model_type != "clip":  # its weights would be random
            raise UserError(f"{source}: not a CLIP model (it holds {config.model_type})")
        model = transformers.CLIPModel.from_pretrained(where, dtype=torch.float32, local_files_only=here)
        processor = transformers.CLIPImageProcessor.from_pretrained(where, local_files_only=here)
        return model, processor, transformers.AutoTokenizer.from_pretrained(where, local_files_only=here)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise unreadable(source, error, f"{source}: not a CLIP model ({reason})") from error
