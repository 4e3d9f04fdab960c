"""JointEncoder, a multimodal autoencoder: images and captions in one latent, and decoders from there back to both.

An image encoder and a text encoder embed matching pairs near each other, as in VSE++ (Faghri et al. 2018) and CLIP
(Radford et al. 2021); decoders rebuild the image and the caption from the embedding of either (Ngiam et al. 2011,
section 4). This file holds the network; cgan.training.joint trains it.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, assert_never

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from cgan.damage import building, reading
from cgan.files import write_bytes
from cgan.interfaces import ImageEncoder, TextEncoder, UserError
from cgan.models.coattention import MAX_WORDS, CoAttention, padded
from cgan.models.decoders import CaptionDecoder, DecoderConfig, PictureDecoder
from cgan.models.encoders.clip import CLIPImageEncoder
from cgan.models.encoders.resnet import ImageEncoderConfig, build_image_encoder
from cgan.models.float32 import inner_products
from cgan.models.picture_augment import PictureAugmentation
from cgan.models.text import restore_text_encoder
from cgan.models.text.clip import CLIPTextEncoder
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary, WordTokenizer, restore_vocabulary
from cgan.models.text.projected import ProjectedTextEncoder
from cgan.renamed import OLDER_IMAGE_ENCODER

BLOCK = 128  # images and captions whose words and regions are compared at once: each pair takes L x R numbers


@dataclass
class JointConfig:
    """The encoders, decoders, losses and optimizer of the joint encoder."""

    encoders: Literal["own", "clip"] = "own"  # the networks: a ResNet and an LSTM of its own, or a pretrained CLIP to
    # finetune
    clip: str | None = None  # the folder of the CLIP that is finetuned
    image: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    text: LSTMConfig = field(default_factory=LSTMConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    similarity: Literal["cosine", "inner"] = "cosine"  # the score of picture and caption in the latent: their cosine or
    # inner product
    negatives: Literal["all", "hardest", "semihard", "weighted"] = "all"  # which mismatched pairs are pushed apart;
    # all: InfoNCE, others: hinges with a margin
    temperature: float = 0.07  # temperature of InfoNCE at the start, where it is learned, or of the weights of weighted
    # negatives
    margin: float = 0.2  # margin of the hinges, by which a matching pair must score higher
    warm_up: float = 0.5  # share of the training in which hardest takes over from the mean of all violations
    coattention_weight: float = 0.0  # weight of an additional score of words and image regions; 0 switches it off
    contrastive_weight: float = 1.0  # weight of the loss by which matching pairs attract
    picture_weight: float = 0.5  # weight of L1 reconstruction of pictures; 0 switches the picture decoder off
    caption_weight: float = 0.1  # weight of the caption decoder's loss, in nats a word; 0 switches it off
    labels_weight: float = 0.0  # weight of the contrastive loss on shared labels; 0 switches it off
    labels_temperature: float = 0.1  # temperature of the contrastive loss on shared labels
    adversarial_weight: float = 0.0  # weight of the loss that fools a modality discriminator; 0 switches it off
    learning_rate: float = 1e-3  # learning rate of Adam for the joint encoder
    matrix_learning_rate: float = 3e-3  # learning rate of Muon for the image encoder's convolutions but the first; 0
    # takes Adam
    decay_from: float = 0.5  # share of the training after which the rate falls linearly, to a twentieth
    augmentation: list[PictureAugmentation] | None = None  # augmentations of the training pictures; absent: crop and
    # colour for up to 20,000 pictures that are no scenes, none for others
    checkpoint: str | None = None  # a joint.safetensors of another run; trained first when absent


def joint_config(settings: dict) -> JointConfig:
    """Returns a configuration from the nested dictionary that `asdict` made of it, without a file of first weights."""
    sections = {
        "image": ImageEncoderConfig(**OLDER_IMAGE_ENCODER | settings["image"] | {"weights": None}),
        "text": LSTMConfig(**settings["text"]),
        "decoder": DecoderConfig(**settings["decoder"]),
    }
    return JointConfig(**settings | sections)


def build_encoders(
    config: JointConfig,
    vocabulary: Vocabulary,
    towers: tuple[dict, dict] | None = None,
    text_encoder: TextEncoder | None = None,
) -> tuple[ImageEncoder, TextEncoder]:
    """Returns the image and the text encoder of a configuration; the others as for JointEncoder. Raises UserError."""
    match config.encoders:
        case "own":
            if config.image.embedding_dim != config.text.dim:
                raise UserError("joint.image.embedding_dim and joint.text.dim must be equal: they are one latent")
            return build_image_encoder(config.image), text_encoder or LSTMTextEncoder(config.text, vocabulary)
        case "clip":
            if towers is not None:
                text, image = towers
            elif config.clip is not None:
                text = image = config.clip
            else:
                raise UserError("joint.encoders=clip: joint.clip is not set; give the folder of a pretrained CLIP")
            text_encoder = CLIPTextEncoder(text)
            return CLIPImageEncoder(image), text_encoder
        case unknown:
            assert_never(unknown)


class JointEncoder(nn.Module):
    """Embeds images and captions in one latent of `embedding_dim` numbers, scores pairs, and decodes embeddings.

    `towers` are the spec() of the text and the image half of a finetuned CLIP; they are given when such an encoder is
    restored without the folder that it was finetuned from. `text_encoder`, of joint.text.dim numbers, takes the place
    of the LSTM. Raises UserError for a configuration that can't be built.
    """

    def __init__(
        self,
        config: JointConfig,
        vocabulary: Vocabulary,
        resolution: int,
        towers: tuple[dict, dict] | None = None,
        text_encoder: ProjectedTextEncoder | None = None,
    ) -> None:
        super().__init__()
        self.config, self.vocabulary, self.resolution = config, vocabulary, resolution
        self.image, self.text = build_encoders(config, vocabulary, towers, text_encoder)
        dim = self.image.embedding_dim
        self.coattention = None
        if config.coattention_weight > 0:
            self.coattention = CoAttention(self.image.map_channels[-1], self.text.dim, dim)
        self.picture_decoder = self.caption_decoder = None
        if config.picture_weight > 0:
            self.picture_decoder = PictureDecoder(config.decoder, dim, resolution)
        if config.caption_weight > 0:
            self.caption_decoder = CaptionDecoder(config.decoder, dim, len(vocabulary))
        self.log_scale = None
        if config.negatives == "all":
            self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    @property
    def device(self) -> torch.device:
        """The device of the weights, on which embeddings are computed and returned."""
        return next(self.parameters()).device

    # ------------------------------------------------------------------------------------------ embeddings

    def normalize_for_similarity(self, embedding: Tensor) -> Tensor:
        """Returns embeddings (B, E), in float32, whose inner products are the configured similarity."""
        return F.normalize(embedding.float(), dim=1) if self.config.similarity == "cosine" else embedding.float()

    def latent(self, embedding: Tensor) -> Tensor:
        """Returns what the decoders start from, (B, E), of embeddings (B, E) of images or captions.

        With the cosine similarity only directions are compared and lengths mean nothing, so they are all sqrt(E).
        """
        normalized = self.normalize_for_similarity(embedding)
        return normalized * embedding.shape[1] ** 0.5 if self.config.similarity == "cosine" else normalized

    def tokenize(self, captions: list[str]) -> Tensor:
        """Returns the vocabulary's word ids of captions, (B, L) int64, padded with 0 and cut at text.max_words."""
        return self.make_word_tokenizer()(captions).ids.to(self.device)

    def make_word_tokenizer(self) -> WordTokenizer:
        """Returns what turns captions into the vocabulary's word ids, for the caption decoder."""
        return WordTokenizer(self.vocabulary, self.config.text.max_words)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Returns embeddings (B, E) of images (B, 3, H, W) in [-1, 1].

        The inner product with the embedding of a caption is the similarity of the pair.
        """
        return self.normalize_for_similarity(self.image(images.to(self.device)).embedding)

    @torch.no_grad()
    def embed_captions(self, captions: list[str]) -> Tensor:
        """Returns embeddings (B, E) of captions; see embed_images."""
        return self.normalize_for_similarity(self.text(captions).sentence)

    # ------------------------------------------------------------------------------------------ scores

    @torch.no_grad()
    def image_vectors(self, images: Tensor) -> Tensor:
        """Returns all that score_vectors needs of images, (B, F): the embedding and, with co-attention, the regions."""
        features = self.image(images.to(self.device))
        embedding = self.normalize_for_similarity(features.embedding)
        if self.coattention is None:
            return embedding
        return torch.cat([embedding, self.coattention.regions(features.maps[-1]).flatten(1)], dim=1)

    @torch.no_grad()
    def caption_vectors(self, captions: list[str]) -> Tensor:
        """Returns all that score_vectors needs of captions, (N, G).

        That is the embedding and, with co-attention, the words and their mask, at a length that all captions share.
        """
        text = self.text(captions)
        embedding = self.normalize_for_similarity(text.sentence)
        if self.coattention is None:
            return embedding
        words, mask = padded(self.coattention.words(text.words), text.mask)
        return torch.cat([embedding, words.flatten(1), mask.float()], dim=1)

    @torch.no_grad()
    def score_vectors(self, images: Tensor, captions: Tensor) -> Tensor:
        """Returns the scores (B, N) of every image with every caption, from image_vectors and caption_vectors."""
        dim = self.image.embedding_dim
        scores = inner_products(images[:, :dim], captions[:, :dim])
        if self.coattention is None:
            return scores
        rows = [[self.coattention_scores(a, b) for b in captions.split(BLOCK)] for a in images.split(BLOCK)]
        return scores + self.config.coattention_weight * torch.cat([torch.cat(row, dim=1) for row in rows])

    def coattention_scores(self, images: Tensor, captions: Tensor) -> Tensor:
        """Returns the scores (B, N) of words and regions, from image_vectors (B, F) and caption_vectors (N, G)."""
        assert self.coattention is not None  # without it vectors hold neither words nor regions
        dim = self.image.embedding_dim
        regions = images[:, dim:].unflatten(1, (-1, dim))
        words, mask = captions[:, dim:-MAX_WORDS].unflatten(1, (MAX_WORDS, dim)), captions[:, -MAX_WORDS:] > 0
        longest = int(mask.sum(dim=1).max())
        return self.coattention.score(regions, words[:, :longest], mask[:, :longest])

    def scores(self, images: Tensor, captions: list[str]) -> Tensor:
        """Returns the scores (B, N) of images (B, 3, H, W) in [-1, 1] with captions; the largest fits best."""
        return self.score_vectors(self.image_vectors(images), self.caption_vectors(captions))

    # ------------------------------------------------------------------------------------------ decoding

    @torch.no_grad()
    def captions_of(self, images: Tensor) -> list[str]:
        """Returns a caption for each of images (B, 3, H, W) in [-1, 1], by greedy_decode."""
        return self.greedy_decode(self.image(images.to(self.device)).embedding)

    def greedy_decode(self, embeddings: Tensor) -> list[str]:
        """Returns a caption for each embedding (B, E) of an image or a caption: the likeliest next word each time.

        Raises UserError where there is no caption decoder.
        """
        if self.caption_decoder is None:
            raise UserError("this joint encoder has no caption decoder; train one with joint.caption_weight=0.1")
        words = self.caption_decoder.greedy_decode(self.latent(embeddings))  # (B, L)
        return [self.vocabulary.decode(row) for row in words.tolist()]

    @torch.no_grad()
    def redraw(self, embeddings: Tensor) -> Tensor:
        """Returns an image (B, 3, H, W) in [-1, 1] for each embedding (B, E) of an image or a caption.

        Raises UserError where there is no picture decoder.
        """
        if self.picture_decoder is None:
            raise UserError("this joint encoder has no picture decoder; train one with joint.picture_weight=0.5")
        return self.picture_decoder(self.latent(embeddings))

    # ------------------------------------------------------------------------------------------ file

    def save(self, path: Path, half: bool = False) -> None:
        """Writes the weights as safetensors, in half precision if asked, with all settings as JSON in the metadata.

        Of a pretrained text encoder the settings hold the name, and the weights the projection alone. The file is
        written whole or not at all; raises CannotWrite.
        """
        towers = [self.text.spec(), self.image.spec()] if isinstance(self.image, CLIPImageEncoder) else None
        spec = {"joint": asdict(self.config), "words": self.vocabulary.words, "resolution": self.resolution}
        spec["splitting"] = self.vocabulary.splitting
        weights = {
            name: (value.half() if half and value.is_floating_point() else value).contiguous()
            for name, value in self.state_dict().items()
        }
        text = self.text.spec() if isinstance(self.text, ProjectedTextEncoder) else None
        write_bytes(path, save(weights, metadata={"spec": json.dumps(spec | {"towers": towers, "text": text})}))

    @classmethod
    def load(cls, path: str | Path) -> "JointEncoder":
        """Returns the joint encoder of a file that `save` wrote, on the CPU and in evaluation mode.

        Raises UserError where there is no such file or it holds no joint encoder. Nothing in the file is executed.
        """
        if not Path(path).is_file():
            raise UserError(f"joint.checkpoint={path}: no such file; give the joint.safetensors of a run directory")
        damaged = "damaged, or not a joint encoder of cgan (joint.checkpoint)"
        with reading(path, damaged):
            with safe_open(path, "pt") as file:
                spec = json.loads(file.metadata()["spec"])
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            vocabulary, resolution, towers = restore_vocabulary(spec), spec["resolution"], spec["towers"]
            config = joint_config(spec["joint"])
        with building(path, damaged):
            text_encoder = restore_text_encoder(spec["text"]) if spec.get("text") else None
            assert text_encoder is None or isinstance(text_encoder, ProjectedTextEncoder)  # as `save` wrote it
            joint = cls(config, vocabulary, resolution, towers, text_encoder)
            joint.load_state_dict(weights)
        return joint.eval()
