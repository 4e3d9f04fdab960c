"""Which metrics a training measures: what is asked for, what the data and this machine's weights allow, and how."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from cgan.cli.evaluate import NAMES
from cgan.config import RunConfig
from cgan.data.scenes.dataset import Scenes
from cgan.data.sources import build_dataset
from cgan.evaluation.images import NUM_DISTRACTORS, Networks, PictureEvaluator, Question, other_captions, question_of
from cgan.evaluation.loop import JointNetwork, device_of, of_dataset
from cgan.evaluation.scenes import FEWEST, SceneEvaluator, captions_of, choice_of
from cgan.evaluation.two_objects import NAMES as TWO_OBJECT_NAMES
from cgan.evaluation.two_objects import TwoObjectEvaluator
from cgan.interfaces import UserError
from cgan.metrics.clip import CLIPNetwork
from cgan.metrics.features import Inception, JudgeFeatures
from cgan.metrics.matching import CaptionChoice
from cgan.metrics.names import PREFERRED, is_known
from cgan.metrics.quality import NEIGHBOURS, named
from cgan.metrics.scenes import load_judge
from cgan.metrics.weights import MissingWeights, clip_source, in_lines, inception_weights, missing_weights
from cgan.resources import PAIR_CLASSIFIER, STARTER_JOINT
from cgan.training.callbacks.evaluation import Examination, Measures
from cgan.training.joint import JointEncoder
from cgan.training.trainer import say

SEED = 1234  # of captions and noise, as in cgan evaluate
ON_FEATURES = ("fid", "kid", "prdc")
ON_SCENES, ON_OTHERS = ("scenes", "r_precision"), ("fid", "clip_score", "r_precision")


class Plan(NamedTuple):
    """What will be measured, and through what."""

    wanted: frozenset[str]  # some of NAMES
    features: str | None  # "" is Inception, "judge" and "joint" stand in for it; None where no such metric is wanted
    joint: bool  # whether R-precision, or what stands in for Inception, needs the run's own joint encoder
    clip: str | None
    independent: bool = False  # whether that joint encoder is another one than the generator is trained against
    level: str = "one"  # objects in a scene

    def names(self) -> list[str]:
        """Of the values that best.ckpt can follow."""
        names = [name for name in ("clip_score",) if name in self.wanted]
        if "scenes" in self.wanted and self.level == "two":
            names += TWO_OBJECT_NAMES
        elif "scenes" in self.wanted:
            names += ["scene_accuracy", "scene_accuracy_heldout", "frechet_distance", "diversity"]
            names += [f"judge/{name}" for name in ("kernel_distance", *NEIGHBOURS)]
        for measure in ON_FEATURES if self.features is not None else ():
            if measure in self.wanted:
                names += [named(name, self.features) for name in (NEIGHBOURS if measure == "prdc" else (measure,))]
        if "r_precision" in self.wanted:
            by = ["r_precision" if self.independent else "joint/r_precision"] * self.joint
            by += ["clip/r_precision"] * (self.clip is not None)
            names += by or ["r_precision"]
        return list(dict.fromkeys(names))

    def followed(self, asked: str | None) -> str:
        """The metric of best.ckpt; raises UserError where the one asked for is not among the measured ones."""
        names = self.names()
        if asked is None:
            return next((name for name in PREFERRED if name in names), names[0])
        if asked not in names:
            raise UserError(f"trainer.best_metric={asked}: not measured in this run; choose one of {', '.join(names)}")
        return asked


# ------------------------------------------------------------------------------------------------ before training


def plan_of(config: RunConfig) -> Plan | None:
    """Says what is missing; None where nothing is to be measured. Raises UserError for a mistake."""
    settings = config.trainer
    unknown = set(settings.metrics or ()) - set(NAMES)
    if unknown:
        raise UserError(f"trainer.metrics: {', '.join(sorted(unknown))} is not one of {', '.join(NAMES)}")
    if settings.best_metric is not None and not is_known(settings.best_metric):
        known = ", ".join(PREFERRED)
        raise UserError(f"trainer.best_metric={settings.best_metric}: no such metric; {known} and others are")
    if settings.examiner is not None and not Path(settings.examiner).is_file():
        raise UserError(f"trainer.examiner={settings.examiner}: no such file; give another run's joint.safetensors")
    if settings.evaluate_every <= 0 or settings.metrics == []:
        return None
    if settings.evaluation_images < FEWEST:
        raise UserError(f"trainer.evaluation_images={settings.evaluation_images}: take at least {FEWEST}, better 2000")
    plan = possible(config)
    if not plan.wanted:
        say("nothing can be measured during training, so there will be no best.ckpt")
        return None
    plan.followed(settings.best_metric)
    return plan


def possible(config: RunConfig) -> Plan:
    """Asked for by name, weights may be downloaded."""
    if config.data.source == "scenes" and config.data.level == "two":
        return possible_of_two(config)
    settings, on_scenes = config.trainer, config.data.source == "scenes"
    asked = settings.metrics is not None
    wanted = set(settings.metrics if asked else ON_SCENES if on_scenes else ON_OTHERS)
    missing = missing_weights(wanted, inception_file(config), settings.clip, fetch=asked)
    independent = settings.examiner is not None
    own = not on_scenes and (independent or makes_joint(config))
    clip = None
    if "clip_score" in wanted - set(missing) or (not on_scenes and "r_precision" in wanted):
        clip = clip_here(settings.clip, fetch=asked)
    if not on_scenes and "scenes" in wanted:
        missing["scenes"] = "the judge reads only the built-in scenes"
    if not on_scenes and "r_precision" in wanted and not own and clip is None:
        missing["r_precision"] = "needs a CLIP (trainer.clip=FOLDER), as this run has no joint encoder"
    for line in in_lines(missing):
        say(line)
    features = features_of(wanted, missing, "judge" if on_scenes else "joint" if own else None)
    standing_in = set(ON_FEATURES) & wanted if features else set()
    wanted = wanted - set(missing) | standing_in
    joint = own and ("r_precision" in wanted or features == "joint")
    return Plan(frozenset(wanted), features, joint, clip, independent)


def possible_of_two(config: RunConfig) -> Plan:
    """Of scenes with two objects their own judge measures all that is measured."""
    unfit = set(config.trainer.metrics or ()) - {"scenes"}
    if unfit:
        raise UserError(f"trainer.metrics: {', '.join(sorted(unfit))} is not for data.level=two; give [scenes]")
    if not PAIR_CLASSIFIER.is_file():
        say(f"without scenes: {PAIR_CLASSIFIER} is not there; train it with `cgan judge --level two`")
        return Plan(frozenset(), None, joint=False, clip=None, level="two")
    return Plan(frozenset({"scenes"}), None, joint=False, clip=None, level="two")


def features_of(wanted: set[str], missing: dict[str, str], stand_in: str | None) -> str | None:
    """The name of what fid, kid and prdc look through; scenes are measured by the judge's features anyway."""
    on_features = set(ON_FEATURES) & wanted
    if not on_features:
        return None
    if not on_features & set(missing):
        return ""
    if stand_in is None or "scenes" in wanted - set(missing):
        return None
    say(f"measured on other features instead: {stand_in}/frechet_distance and so on")
    return stand_in


def inception_file(config: RunConfig) -> Path | None:
    return None if config.trainer.inception is None else Path(config.trainer.inception)


def clip_here(given: str | None, fetch: bool) -> str | None:
    try:
        return clip_source(given, fetch)
    except MissingWeights:
        return None


def makes_joint(config: RunConfig) -> bool:
    """Whether the GAN of this configuration stands on a joint encoder."""
    discriminator = config.gan.discriminator
    on_joint = discriminator.form == "features" and discriminator.features == "joint"
    return config.text.encoder != "pretrained" or on_joint


# ------------------------------------------------------------------------------------------------ of the run


def measures_of(
    plan: Plan | None, config: RunConfig, dataset, run_dir: Path, captions: list[str], tell: Callable[[int, int], None]
) -> list[Measures]:
    """The callback that measures by a plan, if there is any."""
    if plan is None:
        return []
    settings = config.trainer
    if plan.level == "two":
        examination = of_two_objects(plan, config)
    elif config.data.source == "scenes":
        examination = of_scenes(plan, config)
    else:
        question = question_about(config, dataset)
        plan = fitting_to(plan, question)
        if not plan.wanted:
            return []
        examination = of_pictures(plan, config, question, run_dir)
    followed = plan.followed(settings.best_metric)
    what = ", ".join(name for name in NAMES if name in plan.wanted)
    say(f"measuring {what} every {settings.evaluate_every:,} images; best.ckpt follows {followed}")
    return [Measures(examination, run_dir, settings.evaluate_every, followed, captions, tell)]


def question_about(config: RunConfig, dataset) -> Question:
    """Pictures kept out of training, where there are any; without random crops."""
    data = replace(config.data, crop="center", flip=False)
    part = "test" if data.test_images > 0 else "train"
    chosen = dataset if part == "train" and data == config.data else build_dataset(data, part)
    return question_of(chosen, config.trainer.evaluation_images, SEED)


def fitting_to(plan: Plan, question: Question) -> Plan:
    """Without what so few pictures and captions do not allow, which is said."""
    unfit, num_texts = {}, len(set(question.captions))
    if "r_precision" in plan.wanted and num_texts <= 2 * NUM_DISTRACTORS:
        unfit["r_precision"] = f"{num_texts} different captions are too few to find {NUM_DISTRACTORS} wrong ones"
    if len(question.captions) < FEWEST:
        few = f"{len(question.captions)} pictures are too few to compare"
        unfit |= {name: few for name in ON_FEATURES if name in plan.wanted}
    for line in in_lines(unfit):
        say(line)
    return plan._replace(wanted=plan.wanted - set(unfit))


def networks_of(plan: Plan, config: RunConfig, joint: JointNetwork | None = None) -> Networks:
    match plan.features:
        case None:
            features = None
        case "":
            features = Inception(inception_weights(inception_file(config)))
        case "judge":
            features = JudgeFeatures(load_judge())
        case "joint":
            features = joint
        case unknown:
            raise ValueError(f"no such features: {unknown}")
    clip = None if plan.clip is None else CLIPNetwork(plan.clip)
    return Networks(features, clip, clip)


def of_scenes(plan: Plan, config: RunConfig) -> Examination:
    """Both splits where scenes are wanted; other metrics see the pictures of seen combinations.

    R-precision is judged by trainer.examiner or the starter weights, not by the encoder that the generator is trained
    against.
    """
    count, resolution, judge = config.trainer.evaluation_images, config.data.resolution, load_judge()
    captions, networks = captions_of("seen", count, SEED), networks_of(plan, config)
    question = Question(captions, of_dataset(Scenes(count, resolution, SEED)), {})
    joint = JointEncoder.load(config.trainer.examiner or STARTER_JOINT) if "r_precision" in plan.wanted else None
    others = PictureEvaluator(question, networks, plan.wanted - {"scenes", "r_precision"}, SEED)
    if "scenes" not in plan.wanted:
        if joint is not None:
            others.more["r_precision"] = choice_of(JointNetwork(joint), captions, SEED)
        return Examination(lambda g, t, tell: others(g, t, tell=tell), plan.names(), count)

    @cache
    def evaluator(device: torch.device) -> SceneEvaluator:  # real pictures are looked at where training takes place
        return SceneEvaluator(judge, resolution, count, SEED, joint, others.metrics(device))

    def evaluate(generator, text_encoder, tell) -> dict[str, float]:
        return evaluator(device_of(generator))(generator, text_encoder, tell).metrics()

    return Examination(evaluate, plan.names(), count)


def of_two_objects(plan: Plan, config: RunConfig) -> Examination:
    count = config.trainer.evaluation_images
    evaluator = TwoObjectEvaluator(load_judge(PAIR_CLASSIFIER), config.data.resolution, count, SEED)
    return Examination(evaluator, plan.names(), count)


def of_pictures(plan: Plan, config: RunConfig, question: Question, run_dir: Path) -> Examination:
    """Where there is no trainer.examiner, the encoder that the generator is trained against judges, and so flatters."""
    joint, more = None, {}
    if plan.joint:
        file = config.trainer.examiner or config.joint.checkpoint or run_dir / "joint.safetensors"
        joint = JointNetwork(JointEncoder.load(file))
        if "r_precision" in plan.wanted:
            others = torch.from_numpy(other_captions(question.captions, question.places, NUM_DISTRACTORS, SEED))
            name = "r_precision" if plan.independent else "joint/r_precision"
            more[name] = CaptionChoice(joint, question.captions, others)
    evaluator = PictureEvaluator(question, networks_of(plan, config, joint), plan.wanted, SEED, more)
    return Examination(lambda g, t, tell: evaluator(g, t, tell=tell), plan.names(), len(question.captions))
