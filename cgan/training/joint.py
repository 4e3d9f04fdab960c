"""JointTraining: a joint encoder's contrastive and reconstruction losses, its optimizer and its schedule.

Contrastive as VSE++ (Faghri et al. 2018) or CLIP (Radford et al. 2021), by the kind of negatives. Shared labels (Khosla
et al. 2020) and a modality discriminator (ACMR, Wang et al. 2017) align the latent further where they have a weight.
"""

import math
from collections.abc import Sequence
from typing import assert_never

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from cgan.interfaces import Batch, ImageFeatures, TextFeatures
from cgan.models.coattention import padded
from cgan.models.float32 import inner_products
from cgan.models.joint import JointEncoder
from cgan.models.layers import at_most
from cgan.models.modality import ModalityDiscriminator
from cgan.models.picture_augment import PictureAugmentation, augment_pictures
from cgan.pixels import as_floats
from cgan.sharding import num_processes, sharded_rand
from cgan.training import losses
from cgan.training.connected import record
from cgan.training.distributed import all_gather_local_first
from cgan.training.known_text import text_of
from cgan.training.muon import Muon
from cgan.training.schedule import late_decay, progress_of
from cgan.training.shared_labels import shared_labels_loss

LARGEST_LOG_SCALE = math.log(100)  # of the learned temperature, as in CLIP


def one_of_each(first: Tensor, second: Tensor) -> Tensor:
    """Returns (B, E) with each row from one of two tensors (B, E), chosen at random with equal chance."""
    return torch.where(sharded_rand(len(first), 1, device=first.device) < 0.5, first, second)


class JointTraining(pl.LightningModule):
    """Trains `joint`, in place, so that matching images and captions score highest and either can be decoded.

    augmentation: kinds by which pictures are changed at random in each step. num_labels is the number of different
    labels in the data set, for joint.labels_weight.
    """

    def __init__(
        self, joint: JointEncoder, augmentation: Sequence[PictureAugmentation] = (), num_labels: int = 0
    ) -> None:
        super().__init__()
        self.joint, self.config, self.augmentation = joint, joint.config, augmentation
        self.num_labels = num_labels
        self.progress = 0.0  # fraction of the training that is over
        self.modality = None  # of the training alone: checkpoints have it, joint.safetensors does not
        if self.config.adversarial_weight > 0:
            self.modality = ModalityDiscriminator(joint.image.embedding_dim)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Returns the batch with images as floats in [-1, 1], converted on the device."""
        return batch._replace(images=as_floats(batch.images))

    def on_train_start(self) -> None:
        """Sets the progress of a training that starts or is resumed."""
        self.progress = progress_of(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the weighted sum of the losses: contrastive, picture, caption, labels and modality."""
        joint, config = self.joint, self.config
        batch = batch._replace(images=augment_pictures(batch.images, self.augmentation))
        images, text = joint.image(batch.images), text_of(batch, joint.text, None)
        loss = config.contrastive_weight * self.contrastive_loss(images, text, batch.image_ids)
        latents = joint.latent(images.embedding), joint.latent(text.sentence)
        if joint.picture_decoder is not None:
            loss = loss + config.picture_weight * self.picture_loss(latents, batch.images)
        if joint.caption_decoder is not None:
            words = joint.tokenize(batch.captions) if batch.words is None else batch.words.ids
            loss = loss + config.caption_weight * self.caption_loss(latents, words)
        if config.labels_weight > 0:
            loss = loss + config.labels_weight * self.labels_loss(latents, batch.labels)
        return loss if self.modality is None else loss + self.modality_loss(self.modality, latents)

    def contrastive_loss(self, images: ImageFeatures, text: TextFeatures, image_ids: Tensor) -> Tensor:
        """Returns the mean ranking loss of both directions.

        The candidates are those of all processes, so that the number of negatives grows with the number of GPUs.
        """
        joint, all_ids = self.joint, all_gather_local_first(image_ids)
        embeddings = joint.normalize_for_similarity(images.embedding)
        sentences = joint.normalize_for_similarity(text.sentence)
        of_images = inner_products(embeddings, all_gather_local_first(sentences))  # (B, N)
        of_captions = inner_products(sentences, all_gather_local_first(embeddings))  # (B, N)
        if joint.coattention is not None:
            more = self.coattention_scores(images.maps[-1], text)
            of_images, of_captions = of_images + more[0], of_captions + more[1]
        first, second = (self.ranking_loss(scores, image_ids, all_ids) for scores in (of_images, of_captions))
        loss = (first + second) / 2
        record(self._trainer, {"loss/contrastive": loss})
        return loss

    def coattention_scores(self, last_map: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Returns weighted co-attention scores of this process's images with all captions, and the other way round.

        Both are (B, N).
        """
        network, weight = self.joint.coattention, self.config.coattention_weight
        assert network is not None  # called only where there is one
        regions = network.regions(last_map)
        words, mask = padded(network.words(text.words), text.mask, num_processes() > 1)
        of_images = network.score(regions, all_gather_local_first(words), all_gather_local_first(mask))
        of_captions = network.score(all_gather_local_first(regions), words, mask).t()
        return weight * of_images, weight * of_captions

    def ranking_loss(self, scores: Tensor, image_ids: Tensor, candidate_ids: Tensor) -> Tensor:
        """Returns the loss of scores (B, N) with the configured kind of negatives; see cgan.training.losses."""
        config, ids = self.config, (image_ids, candidate_ids)
        match config.negatives:
            case "all":
                assert self.joint.log_scale is not None  # the joint encoder has one for these negatives
                return losses.info_nce(scores * at_most(self.joint.log_scale, LARGEST_LOG_SCALE).exp(), *ids)
            case "hardest":
                return losses.hardest_negative(scores, *ids, config.margin, self.hardness())
            case "semihard":
                return losses.semi_hard_negative(scores, *ids, config.margin)
            case "weighted":
                return losses.weighted_negatives(scores, *ids, config.margin, config.temperature)
            case unknown:
                assert_never(unknown)

    def hardness(self) -> float:
        """Returns how far the warm-up to the hardest negatives is, in [0, 1]."""
        return min(1.0, self.progress / self.config.warm_up) if self.config.warm_up > 0 else 1.0

    def picture_loss(self, latents: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
        """Returns the L1 loss of images decoded each from its own latent or from its caption's."""
        assert self.joint.picture_decoder is not None  # called only where there is one
        loss = losses.multiscale_l1(self.joint.picture_decoder(one_of_each(*latents)), images)
        record(self._trainer, {"loss/picture": loss})
        return loss

    def caption_loss(self, latents: tuple[Tensor, Tensor], words: Tensor) -> Tensor:
        """Returns nats a word of captions, word ids (B, L), decoded each from its own latent or from its image's."""
        assert self.joint.caption_decoder is not None  # called only where there is one
        loss = self.joint.caption_decoder.loss(one_of_each(*latents), words)
        record(self._trainer, {"loss/caption": loss})
        return loss

    def labels_loss(self, latents: tuple[Tensor, Tensor], labels: Tensor | None) -> Tensor:
        """Returns the loss by which pairs that share labels attract; labels are those of Batch."""
        if labels is None:
            raise ValueError("joint.labels_weight needs Batch.labels: give endless_loader a Reading with a LabelTable")
        loss = shared_labels_loss(*latents, labels, self.num_labels, self.config.labels_temperature)
        record(self._trainer, {"loss/labels": loss})
        return loss

    def modality_loss(self, network: ModalityDiscriminator, latents: tuple[Tensor, Tensor]) -> Tensor:
        """Returns the modality discriminator's own loss, plus the weighted confusion that the encoders seek."""
        loss, confusion = network.loss(*latents), network.confusion(*latents)
        record(self._trainer, {"loss/modality": loss, "loss/confusion": confusion})
        return loss + self.config.adversarial_weight * confusion

    def configure_optimizers(self) -> dict:
        """Returns the optimizer with a schedule: Adam, and Muon for inner convolutions if matrix_learning_rate > 0."""
        convolutions = [layer.weight for layer in self.joint.image.modules() if isinstance(layer, nn.Conv2d)]
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
        """Updates the progress and then the learning rates, after each step."""
        self.progress = progress_of(self.trainer)
        scheduler.step()

    def rate(self, step: int) -> float:
        """Returns the factor of the learning rates; the step is ignored, for progress may be of time."""
        return late_decay(self.progress, self.config.decay_from)
