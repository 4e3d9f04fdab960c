"""JointEncoder, a multimodal autoencoder: pictures and captions attract each other in one latent, and come back.

Contrastive as VSE++ (Faghri et al. 2018) or CLIP (Radford et al. 2021), by the kind of negatives; the decoders rebuild
picture and caption each from the latent of either (Ngiam et al. 2011, section 4).
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, assert_never

import pytorch_lightning as pl
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from cgan.damage import building, reading
from cgan.files import write_bytes
from cgan.interfaces import Batch, ImageFeatures, TextFeatures, UserError
from cgan.models.coattention import MAX_WORDS, CoAttention, padded
from cgan.models.decoders import CaptionDecoder, DecoderConfig, PictureDecoder
from cgan.models.encoders.clip import CLIPImageEncoder
from cgan.models.encoders.resnet import ImageEncoderConfig, build_image_encoder
from cgan.models.layers import at_most
from cgan.models.precision import inner_products
from cgan.models.text.clip import CLIPTextEncoder
from cgan.models.text.lstm import PADDING, LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.pixels import as_floats
from cgan.sharding import num_processes, sharded_rand
from cgan.training import losses
from cgan.training.distributed import all_gather_local_first
from cgan.training.muon import Muon
from cgan.training.schedule import late_decay, progress_of


@dataclass
class JointConfig:
    encoders: Literal["own", "clip"] = "own"  # ResNet and LSTM, or a pretrained CLIP to finetune
    clip: str | None = None  # its folder
    image: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    text: LSTMConfig = field(default_factory=LSTMConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    similarity: Literal["cosine", "inner"] = "cosine"  # of picture and caption in the latent
    negatives: Literal["all", "hardest", "semihard", "weighted"] = "all"  # all: InfoNCE; others: hinges with a margin
    temperature: float = 0.07  # of InfoNCE at the start, where it is learned; of the weights of weighted negatives
    margin: float = 0.2
    warm_up: float = 0.5  # share of the training in which hardest goes over from the mean of all violations
    coattention_weight: float = 0.0  # of the words-and-regions score beside the similarity; 0 switches it off
    contrastive_weight: float = 1.0
    picture_weight: float = 0.5  # of L1 reconstruction; 0 switches the picture decoder off
    caption_weight: float = 0.1  # of nats a word; 0 switches the caption decoder off
    learning_rate: float = 1e-3  # of Adam
    matrix_learning_rate: float = 0.0  # of Muon, for the image encoder's convolutions but the first; 0 takes Adam
    decay_from: float = 0.5  # share of the training after which the rate falls linearly, to a twentieth
    checkpoint: str | None = None  # a joint.safetensors of another run; trained first when absent


class JointEncoder(pl.LightningModule):
    """Scores every picture of a batch with every caption; a picture's own caption should win, and the other way round.

    towers are the spec() of a finetuned CLIP's halves, given when it is restored without its folder.
    """

    def __init__(
        self, config: JointConfig, vocabulary: Vocabulary, resolution: int, towers: tuple[dict, dict] | None = None
    ) -> None:
        super().__init__()
        self.config, self.vocabulary, self.resolution = config, vocabulary, resolution
        match config.encoders:
            case "own":
                if config.image.embedding_dim != config.text.dim:
                    raise UserError("joint.image.embedding_dim and joint.text.dim must be equal: they are one latent")
                self.image, self.text = build_image_encoder(config.image), LSTMTextEncoder(config.text, vocabulary)
            case "clip":
                folder = config.clip
                if folder is None and towers is None:
                    raise UserError("joint.encoders=clip: joint.clip is not set; give the folder of a pretrained CLIP")
                text, image = towers or (folder, folder)
                self.text, self.image = CLIPTextEncoder(text), CLIPImageEncoder(image)
            case unknown:
                assert_never(unknown)
        dim = self.image.embedding_dim
        self.coattention = None
        if config.coattention_weight > 0:
            self.coattention = CoAttention(self.image.map_channels[-1], self.text.dim, dim)
        self.picture_decoder = self.caption_decoder = None
        if config.picture_weight > 0:
            self.picture_decoder = PictureDecoder(config.decoder, dim, resolution)
        if config.caption_weight > 0:
            self.caption_decoder = CaptionDecoder(config.decoder, dim, len(vocabulary))
        self.progress = 0.0  # how much of the training is over
        self.log_scale = None
        if config.negatives == "all":
            self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    # ------------------------------------------------------------------------------------------ training

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return batch._replace(images=as_floats(batch.images))

    def on_train_start(self) -> None:
        self.progress = progress_of(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        pictures, text = self.image(batch.images), self.text(batch.captions)
        loss = self.config.contrastive_weight * self.contrastive_loss(pictures, text, batch.image_ids)
        latents = self.latent(pictures.embedding), self.latent(text.sentence)
        if self.picture_decoder is not None:
            loss = loss + self.config.picture_weight * self.picture_loss(latents, batch.images)
        if self.caption_decoder is not None:
            loss = loss + self.config.caption_weight * self.caption_loss(latents, batch.captions)
        return loss

    def contrastive_loss(self, pictures: ImageFeatures, text: TextFeatures, image_ids: Tensor) -> Tensor:
        """Mean of both directions; candidates are those of all processes, so that negatives grow with GPUs."""
        embeddings, sentences = self.comparable(pictures.embedding), self.comparable(text.sentence)
        all_ids = all_gather_local_first(image_ids)
        captions = inner_products(embeddings, all_gather_local_first(sentences))  # scores for each picture, (B, N)
        images = inner_products(sentences, all_gather_local_first(embeddings))
        if self.coattention is not None:
            regions = self.coattention.regions(pictures.maps[-1])
            words, mask = padded(self.coattention.words(text.words), text.mask, num_processes() > 1)
            score, weight = self.coattention.score, self.config.coattention_weight
            captions = captions + weight * score(regions, all_gather_local_first(words), all_gather_local_first(mask))
            images = images + weight * score(all_gather_local_first(regions), words, mask).t()
        loss = (self.ranking_loss(captions, image_ids, all_ids) + self.ranking_loss(images, image_ids, all_ids)) / 2
        self.log("loss/contrastive", loss, prog_bar=True)
        return loss

    def ranking_loss(self, scores: Tensor, image_ids: Tensor, candidate_ids: Tensor) -> Tensor:
        config, ids = self.config, (image_ids, candidate_ids)
        match config.negatives:
            case "all":
                return losses.info_nce(scores * at_most(self.log_scale, LARGEST_LOG_SCALE).exp(), *ids)
            case "hardest":
                return losses.hardest_negative(scores, *ids, config.margin, self.hardness())
            case "semihard":
                return losses.semi_hard_negative(scores, *ids, config.margin)
            case "weighted":
                return losses.weighted_negatives(scores, *ids, config.margin, config.temperature)
            case unknown:
                assert_never(unknown)

    def hardness(self) -> float:
        """How far the warm-up is, in [0, 1]."""
        return min(1.0, self.progress / self.config.warm_up) if self.config.warm_up > 0 else 1.0

    def picture_loss(self, latents: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
        """Each picture from its own latent or from its caption's."""
        loss = losses.pyramid_loss(self.picture_decoder(one_of_each(*latents)), images)
        self.log("loss/picture", loss, prog_bar=True)
        return loss

    def caption_loss(self, latents: tuple[Tensor, Tensor], captions: list[str]) -> Tensor:
        """Each caption from its own latent or from its picture's."""
        loss = self.caption_decoder.loss(one_of_each(*latents), self.numbered(captions))
        self.log("loss/caption", loss, prog_bar=True)
        return loss

    def numbered(self, captions: list[str]) -> Tensor:
        """Word numbers (B, L), padded with 0."""
        rows = [torch.tensor(self.vocabulary.encode(caption)[: self.config.text.max_words]) for caption in captions]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING).to(self.device)

    def configure_optimizers(self) -> dict:
        convolutions = [layer.weight for layer in self.image.modules() if isinstance(layer, nn.Conv2d)]
        matrices = convolutions[1:] if self.config.matrix_learning_rate > 0 else []
        apart = {id(weight) for weight in matrices}
        groups = [
            {"params": [w for w in self.parameters() if id(w) not in apart], "lr": self.config.learning_rate},
            {"params": matrices, "lr": self.config.matrix_learning_rate, "orthogonal": True},
        ]
        optimizer = Muon(groups, (0.9, 0.999))
        schedule = {"scheduler": LambdaLR(optimizer, self.rate), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def lr_scheduler_step(self, scheduler: LambdaLR, metric: None) -> None:
        self.progress = progress_of(self.trainer)
        scheduler.step()

    def rate(self, step: int) -> float:
        """The learning rate's factor."""
        return late_decay(self.progress, self.config.decay_from)

    # ------------------------------------------------------------------------------------------ use

    def comparable(self, embedding: Tensor) -> Tensor:
        """Embeddings whose inner products are the similarity."""
        return F.normalize(embedding.float(), dim=1) if self.config.similarity == "cosine" else embedding.float()

    def latent(self, embedding: Tensor) -> Tensor:
        """What the decoders start from; where only directions are compared, lengths mean nothing."""
        comparable = self.comparable(embedding)
        return comparable * embedding.shape[1] ** 0.5 if self.config.similarity == "cosine" else comparable

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """(B, E); the inner product with a caption's embedding is the similarity."""
        return self.comparable(self.image(images.to(self.device)).embedding)

    @torch.no_grad()
    def embed_captions(self, captions: list[str]) -> Tensor:
        """(B, E)."""
        return self.comparable(self.text(captions).sentence)

    @torch.no_grad()
    def image_vectors(self, images: Tensor) -> Tensor:
        """All that scores need of pictures, (B, F): the embedding, and with co-attention the regions after it."""
        features = self.image(images.to(self.device))
        embedding = self.comparable(features.embedding)
        if self.coattention is None:
            return embedding
        return torch.cat([embedding, self.coattention.regions(features.maps[-1]).flatten(1)], dim=1)

    @torch.no_grad()
    def caption_vectors(self, captions: list[str]) -> Tensor:
        """All that scores need of captions, (B, G): the embedding, and with co-attention the words and their mask."""
        text = self.text(captions)
        embedding = self.comparable(text.sentence)
        if self.coattention is None:
            return embedding
        words, mask = padded(self.coattention.words(text.words), text.mask)
        return torch.cat([embedding, words.flatten(1), mask.float()], dim=1)

    @torch.no_grad()
    def score_vectors(self, images: Tensor, captions: Tensor) -> Tensor:
        """Scores of every picture with every caption, (B, N), from their vectors."""
        dim = self.image.embedding_dim
        scores = inner_products(images[:, :dim], captions[:, :dim])
        if self.coattention is None:
            return scores
        rows = [[self.local_scores(a, b) for b in captions.split(BLOCK)] for a in images.split(BLOCK)]
        return scores + self.config.coattention_weight * torch.cat([torch.cat(row, dim=1) for row in rows])

    def local_scores(self, images: Tensor, captions: Tensor) -> Tensor:
        """Of words and regions, from vectors."""
        dim = self.image.embedding_dim
        regions = images[:, dim:].unflatten(1, (-1, dim))
        words, mask = captions[:, dim:-MAX_WORDS].unflatten(1, (MAX_WORDS, dim)), captions[:, -MAX_WORDS:] > 0
        longest = int(mask.sum(dim=1).max())
        return self.coattention.score(regions, words[:, :longest], mask[:, :longest])

    def scores(self, images: Tensor, captions: list[str]) -> Tensor:
        """Of every picture with every caption, (B, N)."""
        return self.score_vectors(self.image_vectors(images), self.caption_vectors(captions))

    @torch.no_grad()
    def captions_of(self, images: Tensor) -> list[str]:
        """A caption of each picture, written by the caption decoder."""
        return self.write(self.image(images.to(self.device)).embedding)

    def write(self, embeddings: Tensor) -> list[str]:
        """A caption for each embedding, (B, E), of a picture or of a caption."""
        if self.caption_decoder is None:
            raise UserError("this joint encoder has no caption decoder; train one with joint.caption_weight=0.1")
        return [self.vocabulary.decode(row) for row in self.caption_decoder.write(self.latent(embeddings)).tolist()]

    @torch.no_grad()
    def redraw(self, embeddings: Tensor) -> Tensor:
        """A picture for each embedding, (B, E), of a picture or of a caption: (B, 3, H, W) in [-1, 1]."""
        if self.picture_decoder is None:
            raise UserError("this joint encoder has no picture decoder; train one with joint.picture_weight=0.5")
        return self.picture_decoder(self.latent(embeddings))

    # ------------------------------------------------------------------------------------------ file

    def save(self, path: Path, half: bool = False) -> None:
        """Weights as safetensors, in half precision if asked, with all settings as JSON in the metadata."""
        towers = [self.text.spec(), self.image.spec()] if self.config.encoders == "clip" else None
        spec = {"joint": asdict(self.config), "words": self.vocabulary.words, "resolution": self.resolution}
        weights = {
            name: (value.half() if half and value.is_floating_point() else value).contiguous()
            for name, value in self.state_dict().items()
        }
        write_bytes(path, save(weights, metadata={"spec": json.dumps(spec | {"towers": towers})}))

    @classmethod
    def load(cls, path: str | Path) -> "JointEncoder":
        """A joint encoder that save wrote, in evaluation mode; raises UserError when it is not one."""
        if not Path(path).is_file():
            raise UserError(f"joint.checkpoint={path}: no such file; give the joint.safetensors of a run directory")
        damaged = "damaged, or not a joint encoder of cgan (joint.checkpoint)"
        with reading(path, damaged):
            with safe_open(path, "pt") as file:
                spec = json.loads(file.metadata()["spec"])
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            settings, words, resolution, towers = (spec[key] for key in ("joint", "words", "resolution", "towers"))
            settings |= {
                "image": ImageEncoderConfig(**settings["image"] | {"weights": None}),
                "text": LSTMConfig(**settings["text"]),
                "decoder": DecoderConfig(**settings["decoder"]),
            }
            config = JointConfig(**settings)
        with building(path, damaged):
            joint = cls(config, Vocabulary(words), resolution, towers)
            joint.load_state_dict(weights)
        return joint.eval()


LARGEST_LOG_SCALE = math.log(100)  # of the learned temperature, as in CLIP
BLOCK = 128  # pictures and captions whose words and regions are compared at once: each pair takes L x R numbers


def one_of_each(first: Tensor, second: Tensor) -> Tensor:
    """Of each pair of rows one, by the toss of a coin."""
    return torch.where(sharded_rand(len(first), 1, device=first.device) < 0.5, first, second)
