"""RunConfig: the settings of a run, from dataclass defaults, then a YAML file, then key=value."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cgan.data import DataConfig
from cgan.gan import GANConfig
from cgan.interfaces import UserError
from cgan.joint import JointConfig
from cgan.text import TextConfig


@dataclass
class TrainerConfig:
    joint_images: int = 100_000  # images that the joint encoder sees
    joint_minutes: float | None = None  # its training also ends after these
    images: int = 120_000  # images that the GAN sees
    minutes: float | None = None  # the GAN's training also ends after these; its schedules follow whichever is nearer
    joint_batch_size: int = 128
    batch_size: int = 32  # pictures of a step, of all processes together; so learning rates mean the same on any number
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"  # auto: bf16 where the hardware has it
    compile: bool = False  # the GAN's networks, by torch.compile: minutes at the start, for steps hardly faster
    devices: str = "1"  # how many GPUs or CPU processes, or which; auto: all GPUs
    num_nodes: int = 1  # machines
    num_workers: int | None = None  # processes that read pictures, for each that trains; absent: by the hardware
    sample_every: int | None = None  # images between grids; absent: 100 a training, but 10,000 images apart at least
    evaluate_every: int = 40_000  # images between measures, of scenes about 15 s each on 2 cores; 0: never
    evaluation_images: int = 2000  # captions in a measure, of scenes in each split
    metrics: list[str] | None = None  # scenes, fid, kid, prdc, clip_score, r_precision; absent: what the data allows
    best_metric: str | None = None  # that best.ckpt follows: scene_accuracy, else fid, else r_precision when absent
    inception: str | None = None  # the file of Inception's weights; torch's downloaded one when absent
    clip: str | None = None  # the CLIP of clip_score, a folder or a name on the hub
    examiner: str | None = None  # joint.safetensors of another run, to judge r_precision and to stand in for Inception
    checkpoint_every: int | None = None  # absent: 50 checkpoints a training, but 20,000 images apart at least
    keep_checkpoints: int = 2  # last.ckpt, last-1.ckpt, ...: the older ones stand in where a newer one is damaged
    on_nan: Literal["stop", "skip"] = "stop"  # at a loss that is not finite: end, or leave the step out
    gradient_clip: float | None = None  # largest norm of either player's gradient
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"  # auto: online when logged in, else offline


@dataclass
class RunConfig:
    name: str = "scenes"
    task: Literal["gan", "joint"] = "gan"  # gan trains the joint encoder first where it needs one
    seed: int = 0
    init: str | None = None  # a checkpoint whose weights the GAN starts from, with joint.checkpoint of its run, or an
    # exported .safetensors, from which it takes the generator's
    run_dir: str | None = None  # runs/<name>-<time> when absent
    resume: str | None = None  # a run directory to go on in; auto: run_dir's, or the newest of this name if unfinished
    data: DataConfig = field(default_factory=DataConfig)
    text: TextConfig = field(default_factory=TextConfig)
    joint: JointConfig = field(default_factory=JointConfig)
    gan: GANConfig = field(default_factory=GANConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def load_config(arguments: list[str]) -> RunConfig:
    """Settings from YAML files and key=value arguments, in their order; a mistake is a UserError of one line."""
    config, at_fault = OmegaConf.structured(RunConfig), "config"
    try:
        for at_fault in arguments:
            config = OmegaConf.merge(config, layer(at_fault))
        return OmegaConf.to_object(config)
    except (OmegaConfBaseException, TypeError, OSError, yaml.YAMLError) as error:
        raise UserError(explain(at_fault, error, config)) from None


def layer(argument: str) -> DictConfig:
    if argument.endswith((".yaml", ".yml")) and "=" not in argument:
        if not Path(argument).is_file():
            raise UserError(f"{argument}: no such file; configs/gan/scenes.yaml is one to start from")
        return OmegaConf.load(argument)
    if "=" not in argument:
        raise UserError(f"{argument}: expected a .yaml file or key=value")
    return OmegaConf.from_dotlist([argument])


def explain(argument: str, error: Exception, config: DictConfig) -> str:
    """One line: which argument, which key, what is wrong, and the nearest key that exists."""
    key, message = getattr(error, "full_key", None), str(error).splitlines()[0]
    if key and "not in" in message and "Did you mean" not in message:
        section, _, name = key.rpartition(".")
        known = list(OmegaConf.select(config, section) if section else config)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        message += f" Did you mean: '{near[0]}'?" if near else f" Known here: {', '.join(known)}"
    return f"{argument}: {key + ': ' if key else ''}{message}"
