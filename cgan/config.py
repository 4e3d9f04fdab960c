"""RunConfig: the settings of a run, from dataclass defaults, then a YAML file, then key=value."""

import difflib
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cgan.data.sources import DataConfig
from cgan.data.text_files import read_text
from cgan.interfaces import UserError, silent
from cgan.models.augment import Augmentation
from cgan.models.discriminator import DiscriminatorConfig
from cgan.models.generators.base import GeneratorConfig
from cgan.models.joint import JointConfig
from cgan.models.picture_augment import PictureAugmentation
from cgan.models.text import TextConfig
from cgan.ranges import check_ranges
from cgan.renamed import OLDER, SETTINGS, rename_settings
from cgan.resources import shipped
from cgan.sizes import Size, derived_defaults, origin_of_derived

# the adversarial losses of cgan.training.losses
Adversarial = Literal["hinge", "nonsaturating", "relativistic"]


@dataclass
class GANConfig:
    """The networks, losses and optimizers of the GAN."""

    size: Size = "auto"  # sets widths, batch sizes and learning rates that are not given; auto: base on a GPU, else
    # small above 8 processor cores, tiny up to 8
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    adversarial: Adversarial = "hinge"  # the adversarial loss; relativistic compares each fake with a real picture
    adversarial_weight: float = 0.2  # weight of the adversarial term in the generator's loss
    adversarial_from: float = 0.5  # share of the training before the discriminator joins
    latent_prior_alone_from: float = 0.9  # share of the training after which the latent prior alone is trained, on
    # latents that no longer move; 1: never
    fake_weight: float = 1.0  # weight of fakes in the discriminator's loss, where that of real pictures is 1; the
    # relativistic loss has none
    mismatched_weight: float = 0.5  # weight of real pictures with another picture's caption in the discriminator's
    # loss; 0 switches them off
    mismatched: Literal["random", "soft", "hard"] = "random"  # how these captions are chosen; soft: rather near
    # captions, hard: the nearest ones
    matching: Literal["relational", "contrastive", "spherical", "attention"] = "relational"  # the loss by which
    # fakes match their captions; relational: as well as their real pictures do; attention: of words and regions too
    matching_weight: float = 0.3  # weight of the matching term, which is by the joint encoder; 0 without one
    matching_from: float | None = None  # share of the training before the matching term joins, unless it alone teaches
    # some fakes; null: with the discriminator
    reconstruction_weight: float = 5.0  # weight of reconstructing real pictures from latents of the posterior; 0
    # switches the posterior off
    reconstructed_fraction: float = 1.0  # share of the fakes that are made from latents of the posterior; the others
    # come from the latent prior
    feature_weight: float = 3.0  # weight of reconstruction on the joint encoder's feature maps
    kl_weight: float = 0.001  # weight of the divergence of the posterior from a normal distribution
    first_beta: float = 0.5  # first beta of Adam, for generator and discriminator
    second_beta: float = 0.99  # second beta of Adam, for generator and discriminator
    last_second_beta: float | None = None  # second beta at the end of the training, reached along a cosine; absent: the
    # same all the time
    decay_from: float = 0.5  # share of the training after which all learning rates fall linearly, to last_rate
    last_rate: float = 0.05  # learning rates at the end of the training, as a share of those at the start
    penalty: Literal["finite", "exact", "matching_aware"] = "finite"  # the discriminator's gradient penalty: R1 and R2
    # by finite differences or exactly, or DF-GAN's
    penalty_weight: float = 0.0  # weight of the penalty: gamma / 2 of R1 and R2, 2 for DF-GAN's; 0 switches it off
    last_penalty_weight: float | None = None  # weight of the penalty at the end of the training, reached along a
    # cosine; absent: the same all the time
    augmentation: list[Augmentation] = field(default_factory=list)  # augmentations of all that the discriminator sees
    # (DiffAugment)
    adaptive_augmentation: bool = False  # apply each augmentation with a probability that follows overfitting (ADA)
    adaptive_target: float = 0.6  # overfitting at which this probability stays, see cgan/training/adaptive.py
    adaptive_images: float = 20_000  # images of the discriminator's training in which this probability can go from 0 to
    # 1
    picture_augmentation: list[PictureAugmentation] = field(default_factory=list)  # augmentations of the training
    # pictures, for posterior and discriminator alike; the generator learns to draw them
    learning_rate: float = 1e-3  # learning rate of Adam for the generator and the posterior
    matrix_learning_rate: float = 3e-3  # learning rate of Muon for the matrices inside the generator; 0 takes Adam
    latent_prior_learning_rate: float = 3e-3  # learning rate of Adam for the latent prior
    discriminator_learning_rate: float = 1e-3  # learning rate of Adam for the discriminator
    discriminator_matrix_learning_rate: float = 2e-3  # learning rate of Muon for the convolutions inside the
    # discriminator; 0 takes Adam
    ema_half_life: float = 10_000  # half-life of the averaged generator, in images
    ema_ramp_up: float = 0.05  # largest half-life of the averaged generator as a share of the images seen so far
    accumulate: int = 1  # micro-batches that a batch is split into, to save memory; the matching term compares within a
    # micro-batch
    recompute: bool = False  # compute activations of generator and frozen features again in the backward pass, to save
    # memory


@dataclass
class TrainerConfig:
    """Budgets, batch sizes, hardware, evaluation, checkpoints and logging of a training."""

    joint_images: int = 100_000  # images that the joint encoder is trained on, repeats included
    joint_minutes: float | None = None  # largest number of minutes for the joint encoder's training; absent: no limit
    images: int = 120_000  # images that the GAN is trained on, repeats included
    minutes: float | None = None  # largest number of minutes for the GAN's training, whose schedules follow whichever
    # end is nearer; absent: no limit
    joint_batch_size: int = 128  # pictures in a step of the joint encoder, of all processes together
    batch_size: int = 32  # pictures in a step of the GAN, of all processes together; learning rates mean the same on
    # any number
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"  # number format of the networks; auto:
    # bf16-mixed where the hardware has bfloat16, else 32-true
    compile: Literal["auto", "true", "false", "reduce-overhead"] = "false"  # compile the GAN's losses by torch.compile;
    # auto: on a GPU, reduce-overhead: as CUDA graphs too
    devices: str = "1"  # how many GPUs or CPU processes, or which, such as [0,2]; auto: all GPUs
    num_nodes: int = 1  # number of machines that train together
    num_workers: int | None = None  # processes that read pictures, for each that trains; absent: by the hardware
    pictures_on_device: Literal["auto", "always", "never"] = "auto"  # whether all pictures are kept on the GPU; auto:
    # where it has room
    sample_every: int | None = None  # images between grids of samples, 0: never; absent: 100 per run, at least
    # 10,000 apart
    evaluate_every: int = 40_000  # images between evaluations, of scenes about 15 s each on 2 cores; 0: never
    evaluation_images: int = 2000  # captions in an evaluation, of scenes in each split
    metrics: list[str] | None = None  # metrics of an evaluation: scenes, fid, kid, prdc, clip_score, r_precision;
    # absent: what the data allows
    best_metric: str | None = None  # the metric that best.ckpt follows; absent: scene_accuracy, else fid, else
    # r_precision
    inception: str | None = None  # the file of Inception's weights; torch's downloaded one when absent
    clip: str | None = None  # the CLIP of clip_score, a folder or a name on the hub
    eval_joint_encoder: str | None = None  # joint.safetensors of another run, for r_precision and in place of Inception
    checkpoint_every: int | None = None  # images between checkpoints, 0: at the end; absent: 50 per run, at least
    # 20,000 apart
    keep_checkpoints: int = 2  # checkpoints to keep: last.ckpt, last-1.ckpt, ...; the older ones stand in where a newer
    # one is damaged
    on_nan: Literal["stop", "skip"] = "stop"  # at a non-finite loss: end the run, or skip the step
    gradient_clip: float | None = None  # largest norm of the generator's and of the discriminator's gradient; absent:
    # no limit
    loggers: list[Literal["csv", "tensorboard"]] = field(default_factory=lambda: ["csv"])  # where metrics are written
    # beside W&B; csv is always written
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"  # logging to Weights & Biases; auto: online when
    # logged in, else offline
    wandb_models: bool = True  # upload the weights of best.ckpt and last.ckpt as artifacts of W&B when a run ends


@dataclass
class RunConfig:
    """All settings of a run."""

    name: str = "scenes"  # name of the run; run directories and W&B use it
    task: Literal["gan", "joint"] = "gan"  # what is trained: gan trains the joint encoder first where it needs one,
    # joint trains it alone
    seed: int = 0  # seed of all random numbers of a run
    init: str | None = None  # a checkpoint whose weights the GAN starts from, with joint.checkpoint of its run, or an
    # exported .safetensors, from which it takes the generator's
    run_dir: str | None = None  # the folder that the run writes into; runs/<name>-<time> when absent
    resume: str | None = None  # a run directory to resume; auto: run_dir's, or the newest of this name if unfinished
    data: DataConfig = field(default_factory=DataConfig)
    text: TextConfig = field(default_factory=TextConfig)
    joint: JointConfig = field(default_factory=JointConfig)
    gan: GANConfig = field(default_factory=GANConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


GIVEN = "command line"  # the origin of a key=value


class ResolvedConfig(NamedTuple):
    """The settings of a run, and where they come from."""

    config: RunConfig
    origins: dict[str, str]  # by dotted key: a YAML file, the command line, or a rule; none for a dataclass's default


def load_config(arguments: list[str], report: Callable[[str], None] = warnings.warn) -> RunConfig:
    """Returns the settings that YAML files and key=value arguments give, in their order, over the defaults.

    A YAML file is found by its path or, where there is none, among the configurations that come with cgan: both
    "configs/gan/scenes.yaml" and "gan/scenes.yaml" work in any folder. resume=RUN_DIR puts the settings of that run
    before all arguments. What no argument gives and follows from other settings, such as widths from gan.size, is
    filled in by cgan.sizes. `report` gets a line for each setting that has another name by now. Raises UserError of one
    line for what can't be read, unknown keys, and values out of range.
    """
    return resolve_config(arguments, report).config


def resolve_config(arguments: list[str], report: Callable[[str], None] = warnings.warn) -> ResolvedConfig:
    """Returns what load_config does, together with where each value comes from; raises UserError."""
    resolved = merged(arguments, report)
    resume = resolved.config.resume
    stored = Path(resume or "auto") / "config.yaml"
    if resume not in (None, "auto") and stored.is_file():
        with suppress(UserError):  # train() reports damage
            resolved = merged([*left_out(stored), str(stored), *arguments], silent)
    check_ranges(resolved.config)
    return resolved


def left_out(stored: Path) -> list[str]:
    """Returns the settings, as key=value, that a run had before there were keys for them."""
    found: list[str] = []
    with suppress(OmegaConfBaseException, yaml.YAMLError, OSError):  # `merged` reports them
        settings = renamed(layer_of_file(stored), silent)
        for section, older in OLDER.items():
            known = OmegaConf.select(settings, section)
            found += [f"{section}.{name}={value}" for name, value in older.items() if known and name not in known]
    return found


def merged(arguments: list[str], report: Callable[[str], None]) -> ResolvedConfig:
    """Returns the settings of some arguments over the defaults; raises UserError."""
    config, at_fault = cast(DictConfig, OmegaConf.structured(RunConfig)), "config"
    origins: dict[str, str] = {}
    try:
        for at_fault in arguments:
            hint = partial(report_for, report, at_fault)
            settings = renamed(layer(at_fault), hint)
            config = cast(DictConfig, OmegaConf.merge(config, settings))
            origins |= dict.fromkeys(keys_of(settings), GIVEN if "=" in at_fault else at_fault)
        check_ranges(OmegaConf.to_object(config))
        for key, value in derived_defaults(partial(OmegaConf.select, config), set(origins)).items():
            changed = value != OmegaConf.select(config, key)
            OmegaConf.update(config, key, value)
            if changed or key not in origins:
                origins[key] = origin_of_derived(key, value, OmegaConf.select(config, "gan.size"))
        return ResolvedConfig(cast(RunConfig, OmegaConf.to_object(config)), origins)
    except (OmegaConfBaseException, TypeError, OSError, yaml.YAMLError) as error:
        raise UserError(explain(at_fault, error, config)) from None


def keys_of(settings: DictConfig | ListConfig, prefix: str = "") -> set[str]:
    """Returns the dotted keys of all values in nested settings."""
    if not OmegaConf.is_dict(settings):
        return set()
    found: set[str] = set()
    for name in settings:
        value, key = OmegaConf.select(settings, str(name)), f"{prefix}{name}"
        found |= keys_of(value, f"{key}.") if OmegaConf.is_dict(value) else {key}
    return found


def report_for(report: Callable[[str], None], argument: str, hint: str) -> None:
    """Reports what is said about an argument, beginning with it."""
    report(f"{argument}: {hint}")


def renamed(content: DictConfig | ListConfig, report: Callable[[str], None]) -> DictConfig | ListConfig:
    """Returns settings under their present names."""
    if not OmegaConf.is_dict(content):  # a file that holds something else; merging raises
        return content
    settings = cast(dict, OmegaConf.to_container(content))
    return OmegaConf.create(rename_settings(settings, report=report))


def layer(argument: str) -> DictConfig | ListConfig:
    """Returns the settings of one argument: a YAML file, or key=value, where text stays as it was typed."""
    if argument.endswith((".yaml", ".yml")) and "=" not in argument:
        return layer_of_file(Path(argument))
    if "=" not in argument:
        raise UserError(f"{argument}: expected a .yaml file or key=value")
    key, _, value = argument.partition("=")
    names, kind = key.split("."), kind_of(SETTINGS.get(key, key))
    if is_text(kind):
        return OmegaConf.create(nested(names, one_of_words(as_typed(value, kind), kind)))
    result = OmegaConf.from_dotlist([argument])
    if isinstance(kind, type) and is_dataclass(kind):
        keep_text(OmegaConf.select(result, key), yaml.compose(value), kind)
    return result


def layer_of_file(path: Path) -> DictConfig | ListConfig:
    """Returns the settings of a YAML file, or of the one of that name that comes with cgan; raises UserError."""
    if not path.is_file():
        path = shipped_config(path)
    content = read_text(path)
    result = OmegaConf.create(content)
    keep_text(result, yaml.compose(content), RunConfig)
    return result


def shipped_config(path: Path) -> Path:
    """Returns the path of a configuration that comes with cgan, by its name; raises UserError if there is none."""
    name = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    found = shipped("configs", str(name))
    if path.is_absolute() or ".." in path.parts or not found.is_file():
        raise UserError(f"{path}: no such file; configs/gan/scenes.yaml is one to start from")
    return found


def uses_joint_encoder(config: RunConfig) -> bool:
    """Returns whether the GAN of a configuration uses a joint encoder, for captions or in its discriminator."""
    discriminator = config.gan.discriminator
    on_joint = discriminator.form == "features" and discriminator.features == "joint"
    return config.text.encoder == "joint" or on_joint


def trains_joint(config: RunConfig) -> bool:
    """Returns whether a configuration trains a joint encoder, alone or as the first stage."""
    return config.task == "joint" or (uses_joint_encoder(config) and config.joint.checkpoint is None)


# ------------------------------------------------------------------------------------------------ text


def kind_of(key: str) -> object:
    """Returns the type of a dotted key; None where there is no such key."""
    kind: object = RunConfig
    for name in key.split("."):
        kind = get_type_hints(kind).get(name) if is_dataclass(kind) else None
    return kind


def is_text(kind: object) -> bool:
    """Returns whether a key takes text, or one of some words; None may stand in its place."""
    if isinstance(kind, UnionType):
        return all(part is NoneType or is_text(part) for part in get_args(kind))
    return kind is str or get_origin(kind) is Literal


def as_typed(value: str, kind: object) -> str | None:
    """Returns text as typed, where YAML 1.1 may read a number or a date; null or nothing is None if the kind allows it.

    Quotes around all of it fall off, as in YAML.
    """
    if not value or (value == "null" and NoneType in get_args(kind)):
        return None
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def one_of_words(text: str | None, kind: object) -> str | None:
    """Returns text, or the word "true" or "false" where a kind has these among its words and YAML reads a boolean."""
    if text is None or "true" not in get_args(kind):
        return text
    found = yaml.safe_load(text)
    return str(found).lower() if isinstance(found, bool) else text


def nested(names: list[str], value: object) -> dict:
    """Returns a value in nested dictionaries, by the names of the levels."""
    result: Any = value
    for name in reversed(names):
        result = {name: result}
    return result


def keep_text(content: DictConfig | ListConfig, node: yaml.Node | None, settings: type) -> None:
    """Restore the YAML's own text of keys that take text, where it was read as a number or a date."""
    if not isinstance(node, yaml.MappingNode) or not OmegaConf.is_dict(content):
        return
    kinds = get_type_hints(settings)
    for key, value in node.value:
        kind = kinds.get(key.value)
        if isinstance(kind, type) and is_dataclass(kind):
            keep_text(content[key.value], value, kind)
        elif is_text(kind) and isinstance(value, yaml.ScalarNode) and content[key.value] is not None:
            content[key.value] = one_of_words(value.value, kind)


# ------------------------------------------------------------------------------------------------ mistakes


def explain(argument: str, error: Exception, config: DictConfig) -> str:
    """Returns one line: the argument, the key, what is wrong, and the nearest key that exists."""
    key, message = getattr(error, "full_key", None), str(error).splitlines()[0]
    if key and "not in" in message and "Did you mean" not in message:
        section, _, name = key.rpartition(".")
        known = list(OmegaConf.select(config, section) if section else config)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        message += f" Did you mean: '{near[0]}'?" if near else f" Known here: {', '.join(known)}"
    return f"{argument}: {key + ': ' if key else ''}{message}"
