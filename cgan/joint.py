"""The joint image-text encoder: pictures and captions attracted into one latent space (CLIP's symmetric InfoNCE)."""

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytorch_lightning as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import Batch, UserError
from cgan.losses import info_nce
from cgan.networks.image_encoder import ImageEncoder, ImageEncoderConfig
from cgan.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary


@dataclass
class JointConfig:
    image: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    text: LSTMConfig = field(default_factory=LSTMConfig)
    learning_rate: float = 1e-3
    temperature: float = 0.07  # at the start; learned
    checkpoint: str | None = None  # a joint.safetensors of another run; trained first when absent


class JointEncoder(pl.LightningModule):
    """Scores every picture of a batch with every caption; the diagonal should win."""

    def __init__(self, config: JointConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        if config.image.embedding_dim != config.text.dim:
            raise ValueError("image.embedding_dim and text.dim must be equal: they are one latent space")
        self.config = config
        self.image, self.text = ImageEncoder(config.image), LSTMTextEncoder(config.text, vocabulary)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    def scores(self, images: Tensor, captions: list[str]) -> Tensor:
        """Cosine of each picture with each caption over the temperature, (B, B)."""
        pictures = F.normalize(self.image(images).embedding.float(), dim=1)
        sentences = F.normalize(self.text(captions).sentence.float(), dim=1)
        return pictures @ sentences.t() * self.log_scale.clamp(max=math.log(100)).exp()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = info_nce(self.scores(batch.images, batch.captions), batch.image_ids)
        self.log("loss/contrastive", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.config.learning_rate)

    def save(self, path: Path) -> None:
        """Weights as safetensors, with settings and vocabulary as JSON in the metadata."""
        spec = {"joint": asdict(self.config), "words": self.text.vocabulary.words}
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        weights = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(weights, unfinished, metadata={"spec": json.dumps(spec)})
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: str | Path) -> "JointEncoder":
        """A joint encoder that save wrote; raises UserError when it is not one."""
        if not Path(path).is_file():
            raise UserError(f"joint.checkpoint={path}: no such file; give the joint.safetensors of a run directory")
        try:
            with safe_open(path, "pt") as file:
                spec = json.loads(file.metadata()["spec"])
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            settings = spec["joint"]
            settings |= {"image": ImageEncoderConfig(**settings["image"]), "text": LSTMConfig(**settings["text"])}
            joint = cls(JointConfig(**settings), Vocabulary(spec["words"]))
            joint.load_state_dict(weights)
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
            raise UserError(f"joint.checkpoint={path}: damaged, or not a joint encoder of cgan") from None
        return joint
