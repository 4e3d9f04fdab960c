"""The image half of a pretrained CLIP (Radford et al. 2021), to be finetuned."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from cgan.damage import unreadable
from cgan.interfaces import ImageEncoder, ImageFeatures, UserError
from cgan.models.encoders.imagenet import Normalise

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's pictures


class CLIPImageEncoder(ImageEncoder):
    """Its maps are the patches after a third, two thirds and all of the layers, all of the same size.

    settings is the folder of a pretrained CLIP, or a spec() without weights.
    """

    def __init__(self, settings: str | dict) -> None:
        super().__init__()
        import transformers

        if isinstance(settings, str):
            self.network = pretrained_vision(settings)
            self.mean, self.deviation = colours_of(Path(settings).expanduser())
        else:
            config = transformers.CLIPVisionConfig(**settings["config"])
            self.network = transformers.CLIPVisionModelWithProjection(config)
            self.mean, self.deviation = settings["mean"], settings["deviation"]
        config = self.network.config
        if not isinstance(config.image_size, int) or not isinstance(config.patch_size, int):
            raise TypeError("image_size and patch_size must be one number each: CLIP takes square images")
        self.size, self.map_size = config.image_size, config.image_size // config.patch_size
        self.embedding_dim, self.map_channels = config.projection_dim, [config.hidden_size] * 3
        depth = config.num_hidden_layers
        self.layers = [max(1, depth // 3), max(1, 2 * depth // 3), depth]
        self.normalise = Normalise(self.mean, self.deviation)

    def forward(self, images: Tensor) -> ImageFeatures:
        """Returns ImageFeatures of images (B, 3, H, W) in [-1, 1], which are resized to the size that CLIP takes."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        output = self.network(pixel_values=self.normalise(images), output_hidden_states=True)
        patches = [output.hidden_states[i][:, 1:] for i in self.layers]  # (B, map_size^2, C): without the class token
        maps = [x.transpose(1, 2).unflatten(2, (self.map_size, self.map_size)) for x in patches]
        return ImageFeatures(output.image_embeds, maps)

    def map_sizes(self, resolution: int) -> list[int]:
        """Returns the height and width of each map, which is the same for every resolution."""
        return [self.map_size] * 3

    def spec(self) -> dict:
        """Returns all that is needed to build this encoder again except its weights; JSON-able."""
        return {"config": self.network.config.to_diff_dict(), "mean": self.mean, "deviation": self.deviation}


def pretrained_vision(folder: str) -> "CLIPVisionModelWithProjection":
    """Returns the image model of a CLIP folder; raises UserError if it can't be loaded."""
    import transformers

    path = str(Path(folder).expanduser())
    try:
        config = transformers.AutoConfig.from_pretrained(path)
        if config.model_type != "clip":  # its weights would be random
            raise UserError(f"joint.clip={folder}: not the folder of a CLIP model (it holds {config.model_type})")
        config.vision_config.projection_dim = config.projection_dim  # which differs in the image part of some folders
        return transformers.CLIPVisionModelWithProjection.from_pretrained(
            path, config=config.vision_config, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise unreadable(
            f"joint.clip={folder}", error, f"joint.clip={folder}: not the folder of a CLIP model ({reason})"
        ) from error


def colours_of(folder: Path) -> tuple[list[float], list[float]]:
    """Returns the colours' mean and deviation from the folder's preprocessor file, or those of CLIP if it has none."""
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        file = folder / "processor_config.json"
    settings = json.loads(file.read_text()) if file.is_file() else {}
    settings = settings.get("image_processor", settings)
    return list(settings.get("image_mean", MEAN)), list(settings.get("image_std", DEVIATION))
