"""Checks of a configuration that find mistakes before any picture is decoded, drawn or trained on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from cgan.config import RunConfig, trains_joint
from cgan.data.labels import has_labels
from cgan.data.sources import check_data
from cgan.interfaces import ImageEncoder, ImageTextDataset, Report, TextEncoder, UserError, silent
from cgan.models.coattention import CoAttention
from cgan.models.encoders.resnet import build_image_encoder
from cgan.models.generators.base import Generator
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.lstm import LSTMTextEncoder, Vocabulary
from cgan.models.text.pretrained import check_packaged
from cgan.sampling.pipeline import TextToImage
from cgan.training.adaptive import check_adaptive
from cgan.training.build import MODEL, TEXT_MODEL
from cgan.training.gan import TextToImageGAN
from cgan.training.loggers import wandb_mode
from cgan.training.processes import whole_batch


def check_before_training(config: RunConfig, report: Report = silent, dataset: ImageTextDataset | None = None) -> None:
    """Raise UserError for a mistake that can be found before anything is written, decoded or trained.

    dataset is the user's own, in place of config.data's. The sections are gone through in their order: pictures, files
    that are read, networks, trainer. report gets the settings that name files which are not read.
    """
    if dataset is None:
        check_data(config.data)
    else:
        check_dataset(dataset, config.data.resolution)
    check_inputs(config, report)
    if config.resume is None:  # otherwise its networks have been built before
        check_networks(config)
    if config.text.encoder == "pretrained":
        check_packaged(config.text.name or "")
    check_adaptive(config)
    wandb_mode(config.trainer.wandb)
    check_batches(config)


def check_dataset(dataset: ImageTextDataset, resolution: int) -> None:
    """Raise UserError where a data set that is given in Python does not keep the contract of cgan.interfaces.Sample."""
    if len(dataset) == 0:
        raise UserError("the data set is empty")
    image, captions = dataset[0].image, dataset[0].captions
    if image.dtype != torch.uint8 or tuple(image.shape) != (3, resolution, resolution):
        found = f"{tuple(image.shape)} {image.dtype}".replace("torch.", "")
        raise UserError(f"the data set's images are {found}; data.resolution={resolution} asks for "
                        f"(3, {resolution}, {resolution}) uint8")  # fmt: skip
    if not captions or list(dataset.captions_of(0)) != list(captions):
        raise UserError("the data set's captions_of(0) must be the captions of its first sample, at least one")


OFF = "without them it must be left out"
LABEL_HINTS = {
    "coco": "give data.labels COCO's instances file",
    "karpathy": "give data.labels COCO's instances file",
    "folder": "metadata.jsonl may have them under labels or keywords",
    "shards": "the data that cgan prepare reads must have them",
}


def check_labels(config: RunConfig, dataset: ImageTextDataset) -> None:
    """Raise UserError where a joint encoder is to be trained by labels, or captions made of them, that are not there.

    The data set is searched until the first picture that has a label.
    """
    by_labels = config.joint.labels_weight > 0 and trains_joint(config)
    if (by_labels or config.data.label_captions) and not has_labels(dataset):
        key = f"joint.labels_weight={config.joint.labels_weight}" if by_labels else "data.label_captions=true"
        raise UserError(f"{key}: no picture of the data has labels; {LABEL_HINTS.get(config.data.source, OFF)}")


# ------------------------------------------------------------------------------------------------ files


IN_RUN = "give the joint.safetensors of a run directory"


class Input(NamedTuple):
    """A setting that names a file or folder to read, the kind that it must be, and why it is not read, if so."""

    key: str
    value: str | None
    kind: Literal["file", "folder", "model"]  # a model is a folder, or a name on the hub
    hint: str
    unused: str | None = None


def inputs_of(config: RunConfig) -> Iterator[Input]:
    """Yields the files and folders that a training reads beside its data set."""
    joint, discriminator, trainer = config.joint, config.gan.discriminator, config.trainer
    no_gan = None if config.task == "gan" else f"task={config.task}"
    yield Input("init", config.init, "file", "give the last.ckpt of a run directory", no_gan)
    yield Input("joint.checkpoint", joint.checkpoint, "file", IN_RUN, no_gan)
    yield from joint_inputs(config)
    no_text = None if config.text.encoder == "pretrained" else f"text.encoder={config.text.encoder}"
    yield Input("text.name", config.text.name, "model", TEXT_MODEL, no_text)
    frozen = discriminator.features if no_gan is None and discriminator.form == "features" else "none"
    on_imagenet = None if frozen in ("imagenet", "efficientnet") else f"gan.discriminator.features={frozen}"
    weights = discriminator.imagenet_weights
    yield Input("gan.discriminator.imagenet_weights", weights, "file", "give the file of weights", on_imagenet)
    if frozen == "dino":
        yield Input("gan.discriminator.dino", discriminator.dino, "model", MODEL)
    never = no_gan or (None if trainer.evaluate_every > 0 else "trainer.evaluate_every=0")
    yield Input("trainer.inception", trainer.inception, "file", "give Inception's weights of torch-fidelity", never)
    yield Input("trainer.clip", trainer.clip, "model", MODEL, never)
    yield Input("trainer.eval_joint_encoder", trainer.eval_joint_encoder, "file", IN_RUN, never)


def joint_inputs(config: RunConfig) -> Iterator[Input]:
    """Yields the pretrained weights that a joint encoder starts from, if it is trained."""
    joint = config.joint
    given = None if joint.checkpoint is None or config.task == "joint" else "joint.checkpoint is given"
    no_clip = given or (None if joint.encoders == "clip" else f"joint.encoders={joint.encoders}")
    yield Input("joint.clip", joint.clip, "folder", "give the folder of a pretrained CLIP", no_clip)
    if joint.image.weights not in (None, "imagenet"):
        network = f"joint.encoders={joint.encoders}, joint.image.network={joint.image.network}"
        unused = given or (None if network == "joint.encoders=own, joint.image.network=resnet50" else network)
        hint = "give torchvision's file of ResNet-50, or imagenet"
        yield Input("joint.image.weights", joint.image.weights, "file", hint, unused)


def check_inputs(config: RunConfig, report: Report) -> None:
    """Raise UserError for a file or folder that is not there; report which keys are not read at all."""
    if config.text.encoder == "pretrained" and config.text.name is None:
        raise UserError("text.encoder=pretrained: text.name is not set; " + TEXT_MODEL)
    for wanted in inputs_of(config):
        if wanted.value is None:
            continue
        if wanted.unused is not None:
            report(f"{wanted.key}={wanted.value} is not read: {wanted.unused}")
        elif not is_there(wanted):
            what = "file" if wanted.kind == "file" else "folder"
            raise UserError(f"{wanted.key}={wanted.value}: no such {what}; {wanted.hint}")


def is_there(wanted: Input) -> bool:
    """Returns whether a file or folder exists; a name on the hub is looked for when it is loaded."""
    assert wanted.value is not None  # values that are not given are passed over before
    path = Path(wanted.value).expanduser()
    match wanted.kind:
        case "file":
            return path.is_file()
        case "folder":
            return path.is_dir()
        case "model":
            looks_like_path = wanted.value.startswith((".", "/", "~")) or wanted.value.count("/") > 1
            return path.is_dir() or not looks_like_path
        case unknown:
            raise ValueError(f"no such kind of input: {unknown}")


# ------------------------------------------------------------------------------------------------ batches


def check_batches(config: RunConfig, num_images: int | None = None) -> None:
    """Raise UserError where batches can't be shared out among the processes; num_images where they are known."""
    settings, scenes = config.trainer, config.data.source == "scenes"
    known = config.data.num_images if num_images is None and scenes else num_images
    if config.task == "gan":
        most = settings.batch_size if known is None else known
        whole_batch(settings, settings.batch_size, most, "trainer.batch_size", config.gan.accumulate)
    if trains_joint(config):
        most = settings.joint_batch_size if known is None else known
        whole_batch(settings, settings.joint_batch_size, most, "trainer.joint_batch_size")


# ------------------------------------------------------------------------------------------------ networks


ONE_WORD = Vocabulary(["word"])  # of encoders that are built to be tried


def check_networks(config: RunConfig) -> None:
    """Build the networks without memory, on torch's meta device; raises UserError for settings that fit no network.

    The GAN stands on the encoders alone, so it is tried before the whole joint encoder. Where parts of them are
    pretrained and come from outside, nothing is built: to load them is work by itself.
    """
    discriminator, resolution, is_gan = config.gan.discriminator, config.data.resolution, config.task == "gan"
    outside = discriminator.form == "features" and discriminator.features != "joint"
    checkpoint = config.joint.checkpoint if is_gan else None
    if (config.joint.encoders == "clip" and checkpoint is None) or config.text.encoder != "joint" or outside:
        return
    if is_gan:
        plain = replace(discriminator, spectral_norm=False)  # whose first iterations would take a second
        text, image, coattention = encoders_without_memory(config.joint)
        with without_memory():
            gan = TextToImageGAN(
                replace(config.gan, discriminator=plain), text, image, resolution, coattention=coattention
            )
        if config.init is not None:
            check_init(gan.generator, config.init)
    if checkpoint is None:
        with without_memory():
            untrained_joint(config)


@contextmanager
def without_memory() -> Iterator[None]:
    """Build what the block builds on torch's meta device; raises UserError where torch raises any error."""
    try:
        with torch.device("meta"):
            yield
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, AssertionError, StopIteration) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"no network can be built by these settings ({reason}); see widths and patches") from error


def encoders_without_memory(config: JointConfig) -> tuple[TextEncoder, ImageEncoder, CoAttention | None]:
    """Returns what a GAN takes of its joint encoder, on torch's meta device: a checkpoint's, or new ones."""
    if config.checkpoint is None:
        with without_memory():
            image, coattention = build_image_encoder(replace(config.image, weights=None)), None
            if config.coattention_weight > 0:
                coattention = CoAttention(image.map_channels[-1], config.text.dim, image.embedding_dim)
            return LSTMTextEncoder(config.text, ONE_WORD), image, coattention
    joint = JointEncoder.load(config.checkpoint).to("meta")
    return joint.text, joint.image, joint.coattention


def check_init(generator: Generator, checkpoint: str) -> None:
    """Raise UserError where the generator of a checkpoint is another one; the other weights may hang on the data."""
    given, wanted = (
        {name: x.shape for name, x in network.state_dict().items()}
        for network in (TextToImage.load(checkpoint).generator, generator)
    )
    if given != wanted:
        hint = "give its gan.* settings, and joint.checkpoint of its run"
        raise UserError(f"init={checkpoint}: its generator is another one; {hint}")


def untrained_joint(config: RunConfig) -> JointEncoder:
    """Returns a joint encoder of the configured sizes with a vocabulary of one word and without pretrained weights."""
    image = replace(config.joint.image, weights=None)
    return JointEncoder(replace(config.joint, image=image), ONE_WORD, config.data.resolution).eval()
