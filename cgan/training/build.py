"""Networks from a configuration: the GAN on its encoders, and the weights that it starts from."""

from collections.abc import Mapping
from pathlib import Path

import torch

from cgan.config import RunConfig
from cgan.damage import building, reading
from cgan.interfaces import ImageEncoder, TextEncoder, UserError
from cgan.models.discriminator import DiscriminatorConfig
from cgan.models.joint import JointEncoder
from cgan.models.text.lstm import Vocabulary
from cgan.models.text.pretrained import PretrainedTextEncoder
from cgan.models.text.projected import ProjectedTextEncoder
from cgan.sampling.pipeline import TextToImage
from cgan.training.gan import ExtraLoss, TextToImageGAN

MODEL = "give a model's folder or its name on the hub"
TEXT_MODEL = "give minilm, a model's folder or its name on the hub"


def build_gan(
    config: RunConfig,
    joint: JointEncoder | None = None,
    text_encoder: TextEncoder | None = None,
    extra_losses: Mapping[str, ExtraLoss] | None = None,
) -> TextToImageGAN:
    """Returns the GAN of a configuration, untrained, as a LightningModule.

    joint is the trained joint encoder that it stands on; without it, that of config.joint.checkpoint is loaded.
    text_encoder takes the place of the configured one. A pretrained text encoder conditions the GAN through the joint
    encoder's projection of it where there is one, otherwise directly and without a matching term. extra_losses are
    added to the generator's loss. Raises UserError where the configuration needs a joint encoder and has none, or where
    weights that it names can't be loaded.
    """
    image_encoder, coattention = outside_image_encoder(config.gan.discriminator), None
    on_joint = config.gan.discriminator.form == "features" and image_encoder is None
    if text_encoder is None and config.text.encoder == "pretrained":
        joint = joint or (loaded_joint(config) if on_joint else None)
        if not (joint and projects(joint, config.text.name)):
            text_encoder = pretrained_text_encoder(config)
    shared_latent = image_encoder is None and text_encoder is None
    if text_encoder is None and config.text.encoder == "custom":
        raise UserError("text.encoder=custom: give it in Python, train(config, text_encoder=...)")
    if text_encoder is None or on_joint:
        joint = joint or loaded_joint(config)
        text_encoder = text_encoder or joint.text
        image_encoder, coattention = image_encoder or joint.image, joint.coattention
    torch.manual_seed(config.seed)  # the same start, whether the joint encoder was trained just now or before
    gan = TextToImageGAN(config.gan, text_encoder, image_encoder, config.data.resolution, shared_latent, coattention)
    gan.extra_losses = dict(extra_losses or {})
    return gan


def build_joint(config: RunConfig, vocabulary: Vocabulary) -> JointEncoder:
    """Returns the joint encoder of a configuration, with a pretrained text encoder in place of the LSTM if it has one.

    A finetuned CLIP has its own text encoder. Raises UserError where weights that the configuration names can't be
    loaded.
    """
    text_encoder = None
    if config.text.encoder == "pretrained" and config.joint.encoders == "own":
        text_encoder = ProjectedTextEncoder(pretrained_text_encoder(config), config.joint.text.dim)
    return JointEncoder(config.joint, vocabulary, config.data.resolution, text_encoder=text_encoder)


def pretrained_text_encoder(config: RunConfig) -> PretrainedTextEncoder:
    """Returns the frozen text encoder that a configuration names; raises UserError where it can't be loaded."""
    if config.text.name is None:
        raise UserError("text.encoder=pretrained: text.name is not set; " + TEXT_MODEL)
    return PretrainedTextEncoder(config.text.name, config.text.max_words)


def projects(joint: JointEncoder, name: str | None) -> bool:
    """Returns whether the caption side of a joint encoder is a projection of the pretrained text encoder of a name."""
    return isinstance(joint.text, ProjectedTextEncoder) and joint.text.frozen.name == name


def loaded_joint(config: RunConfig) -> JointEncoder:
    """Returns the joint encoder of joint.checkpoint; raises UserError where none is given."""
    if config.joint.checkpoint is None:
        raise UserError("this GAN stands on a joint encoder: set joint.checkpoint, or give one to build_gan")
    return JointEncoder.load(config.joint.checkpoint)


def outside_image_encoder(discriminator: DiscriminatorConfig) -> ImageEncoder | None:
    """Returns the frozen pretrained network that a discriminator uses; None if it has none of its own."""
    from cgan.models.encoders.frozen import DINOEncoder, EfficientNetEncoder
    from cgan.models.encoders.imagenet import ImageNetEncoder

    match discriminator.form, discriminator.features:
        case "features", "imagenet":
            return ImageNetEncoder(discriminator.imagenet_weights)
        case "features", "efficientnet":
            return EfficientNetEncoder(discriminator.imagenet_weights)
        case "features", "dino":
            return DINOEncoder(discriminator.dino)
    return None


def start_from(gan: TextToImageGAN, checkpoint: str) -> None:
    """Load the weights of a checkpoint (.ckpt) into a GAN, or exported weights (.safetensors) into its generator.

    With a checkpoint, gan.images_seen counts on from it. Raises UserError where the file is not there, damaged, or of
    other networks.
    """
    if not Path(checkpoint).is_file():
        raise UserError(f"init={checkpoint}: no such checkpoint; give the last.ckpt of a run directory")
    damaged = "damaged, or of other networks (init); give its gan.* settings, and joint.checkpoint of its run"
    if checkpoint.endswith(".safetensors"):
        weights = TextToImage.load(checkpoint).generator.state_dict()
        with building(checkpoint, damaged):
            for generator in (gan.generator, gan.generator_ema):
                generator.load_state_dict(weights)
        return
    with reading(checkpoint, damaged), open(checkpoint, "rb") as file:
        content = torch.load(file, map_location="cpu", weights_only=True)
        weights, seen = content["state_dict"], content["images_seen"]
    with building(checkpoint, damaged):
        gan.load_state_dict(weights)
    gan.images_seen = seen
