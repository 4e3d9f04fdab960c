"""Which metrics a training evaluates: those requested that the data and the weights on this machine allow."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from cgan.config import RunConfig, uses_joint_encoder
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.levels import LevelName
from cgan.data.sources import build_dataset
from cgan.evaluation.images import NUM_DISTRACTORS, EvalSet, Networks, PictureEvaluator, eval_set_of, other_captions
from cgan.evaluation.loop import JointNetwork, device_of, of_dataset
from cgan.evaluation.memorization import MOST_PICTURES, NO_TRAINING, Training
from cgan.evaluation.multi_object import JUDGES, MultiLevel, MultiObjectEvaluator
from cgan.evaluation.protocol import by_network
from cgan.evaluation.scenes import FEWEST, SceneEvaluator, captions_of, contradicted_r_precision
from cgan.interfaces import ImageTextDataset, Report, UserError, silent
from cgan.metrics.clip import CLIPNetwork
from cgan.metrics.features import Inception, SceneClassifierFeatures
from cgan.metrics.matching import GeneratedRPrecision
from cgan.metrics.names import (
    COMPARE_SETS,
    NAMES,
    OF_TRAINING,
    ON_FEATURES,
    ON_INCEPTION,
    ON_PIXELS,
    PREFERRED,
    SCENE_FEATURES,
    current,
    evaluated_in_training,
    is_known,
    shown_as,
    unknown_in,
    values_of,
)
from cgan.metrics.required_weights import MissingWeights, clip_source, in_lines, inception_weights, missing_weights
from cgan.metrics.scenes import load_scene_classifier
from cgan.models.joint import JointEncoder
from cgan.resources import STARTER_JOINT

SEED = 1234  # of captions and noise, as in cgan evaluate


class Evaluator(NamedTuple):
    """evaluate(generator, text_encoder, progress) -> values by name, the same in all processes."""

    evaluate: Callable[..., dict[str, float]]
    names: list[str]  # of the values that can be followed
    num_captions: int


class Plan(NamedTuple):
    """The metrics that will be evaluated, and the networks that they use."""

    wanted: frozenset[str]  # some of NAMES
    features: (
        str | None
    )  # "" is Inception, "scene_classifier" and "joint" stand in; None where no such metric is wanted
    joint: bool  # whether R-precision, or what stands in for Inception, needs the run's own joint encoder
    clip: str | None
    independent: bool = False  # whether that joint encoder is another one than the generator is trained against
    level: LevelName = "one"  # objects in a scene

    def names(self) -> list[str]:
        """Returns the names of the values that best.ckpt can follow; it follows the first where none is preferred."""
        names = [name for name in ("clip_score",) if name in self.wanted]
        if "scenes" in self.wanted and self.level != "one":
            names += JUDGES[self.level].names()
        elif "scenes" in self.wanted:
            names += ["scene_accuracy", "scene_accuracy_heldout", "frechet_distance", "diversity"]
            names += [*values_of("kid", SCENE_FEATURES), *values_of("prdc", SCENE_FEATURES)]
        if self.features is not None:
            on_these = ON_FEATURES if self.features else ON_INCEPTION
            names += [name for metric in on_these if metric in self.wanted for name in values_of(metric, self.features)]
        if "r_precision" in self.wanted:
            by = ["r_precision" if self.independent else "joint/r_precision"] * self.joint
            by += ["clip/r_precision"] * (self.clip is not None)
            names += by or ["r_precision"]
        names += self.names_on_pixels()  # last, so that best.ckpt follows one of them where there is nothing else
        return list(dict.fromkeys(names))

    def names_on_pixels(self) -> list[str]:
        """Returns the names of the values of spectra and of memorization that are measured."""
        names = values_of("spectrum") if "spectrum" in self.wanted else []
        if "memorization" in self.wanted:
            own = [] if self.features is None else values_of("memorization", self.features)[1:]
            names += ["copies", "pixels/training_distance", *(own or ["pixels/seed_diversity"])]
        return names

    def followed(self, asked: str | None) -> str:
        """Returns the metric of best.ckpt; raises UserError if the requested one is not measured."""
        names = self.names()
        if asked is None:
            return next((name for name in PREFERRED if name in names), names[0])
        asked = current(asked)
        if asked not in names:
            raise UserError(f"trainer.best_metric={asked}: not measured in this run; choose one of {', '.join(names)}")
        return asked


# ------------------------------------------------------------------------------------------------ before training


def plan_of(config: RunConfig, report: Report = silent) -> Plan | None:
    """Returns the plan of a configuration, None if nothing is evaluated; raises UserError for a mistake in it.

    report gets a line for each requested metric that can't be computed here, with a hint how to make it possible.
    """
    settings = config.trainer
    unknown = unknown_in(settings.metrics or ())
    if unknown:
        raise UserError(f"trainer.metrics: {', '.join(unknown)} is not one of {', '.join(NAMES)}")
    if settings.best_metric is not None and not is_known(settings.best_metric):
        known = ", ".join(PREFERRED)
        raise UserError(f"trainer.best_metric={settings.best_metric}: no such metric; {known} and others are")
    file = settings.eval_joint_encoder
    if file is not None and not Path(file).is_file():
        raise UserError(f"trainer.eval_joint_encoder={file}: no such file; give another run's joint.safetensors")
    if settings.evaluate_every <= 0 or settings.metrics == []:
        return None
    if settings.evaluation_images < FEWEST:
        raise UserError(f"trainer.evaluation_images={settings.evaluation_images}: take at least {FEWEST}, better 2000")
    plan = possible(config, report)
    if not plan.wanted:
        report("nothing can be evaluated during training, so there will be no best.ckpt")
        return None
    plan.followed(settings.best_metric)
    return plan


def possible(config: RunConfig, report: Report) -> Plan:
    """Returns the plan of what is possible here; weights of metrics that are requested by name may be downloaded."""
    if config.data.source == "scenes" and config.data.level != "one":
        return possible_of_several(config.data.level, config, report)
    settings, on_scenes = config.trainer, config.data.source == "scenes"
    asked = settings.metrics is not None
    default = evaluated_in_training("scenes" if on_scenes else "others")
    wanted = default if settings.metrics is None else set(settings.metrics)
    missing = missing_weights(wanted, inception_file(config), settings.clip, fetch=asked)
    independent = settings.eval_joint_encoder is not None
    own = not on_scenes and (independent or uses_joint_encoder(config))
    clip = None
    if "clip_score" in wanted - set(missing) or (not on_scenes and "r_precision" in wanted):
        clip = clip_here(settings.clip, fetch=asked)
    if not on_scenes and "scenes" in wanted:
        missing["scenes"] = "the scene classifier reads only the built-in scenes"
    if on_scenes or config.data.test_images > 0:
        missing |= {name: reason for name, reason in OF_TRAINING.items() if name in wanted}
    if on_scenes and "memorization" in wanted:
        missing["memorization"] = NO_TRAINING
    if not on_scenes and "r_precision" in wanted and not own and clip is None:
        missing["r_precision"] = "needs a CLIP (trainer.clip=FOLDER), as this run has no joint encoder"
    for line in in_lines(missing):
        report(line)
    features = features_of(wanted, missing, SCENE_FEATURES if on_scenes else "joint" if own else None, report)
    standing_in = set(ON_FEATURES) & wanted if features else set()
    wanted = wanted - set(missing) | standing_in
    joint = own and ("r_precision" in wanted or features == "joint")
    return Plan(frozenset(wanted), features, joint, clip, independent)


def possible_of_several(level: MultiLevel, config: RunConfig, report: Report) -> Plan:
    """Returns the plan for scenes of several objects, which only their own classifier measures; raises UserError."""
    unfit = set(config.trainer.metrics or ()) - {"scenes"}
    if unfit:
        raise UserError(f"trainer.metrics: {', '.join(sorted(unfit))} is not for data.level={level}; give [scenes]")
    plan, path = Plan(frozenset({"scenes"}), None, joint=False, clip=None, level=level), JUDGES[level].classifier
    if path.is_file():
        return plan
    report(f"without scenes: {path} is not there; train it with `cgan judge --level {level}`")
    return plan._replace(wanted=frozenset())


def features_of(wanted: set[str], missing: dict[str, str], stand_in: str | None, report: Report) -> str | None:
    """Returns the name of the features of metrics that compare sets, empty for Inception, or None.

    None is also returned if Inception is missing and scenes, which use the classifier's features anyway, are measured.
    """
    on_features = set(ON_INCEPTION) & wanted
    if not on_features:
        return None
    if not on_features & set(missing):
        return ""
    if stand_in is None or "scenes" in wanted - set(missing) or not on_features & set(ON_FEATURES):
        return None
    report(f"measured on other features instead: {stand_in}/frechet_distance and so on")
    return stand_in


def inception_file(config: RunConfig) -> Path | None:
    """Returns the file of Inception's weights that trainer.inception names, or None."""
    return None if config.trainer.inception is None else Path(config.trainer.inception)


def clip_here(given: str | None, fetch: bool) -> str | None:
    """Returns the CLIP that can be loaded here, downloaded if `fetch` allows it, or None."""
    try:
        return clip_source(given, fetch)
    except MissingWeights:
        return None


def measured_by(plan: Plan, config: RunConfig) -> str:
    """Returns in one line which metrics of a plan are measured by which network."""
    networks = {"": "Inception-v3", SCENE_FEATURES: "the scene classifier", "joint": "the joint encoder"}
    by = dict.fromkeys(ON_INCEPTION, networks.get(plan.features or "")) | dict.fromkeys(ON_PIXELS, "pixels")
    if plan.features is not None:
        by["memorization"] = f"pixels and {networks[plan.features]}"
    by["scenes"] = networks[SCENE_FEATURES] + ("" if plan.level == "one" else f" of {plan.level} objects")
    by["clip_score"] = f"CLIP {plan.clip}"
    file = config.trainer.eval_joint_encoder or (STARTER_JOINT.name if config.data.source == "scenes" else None)
    joint = ["this run's own joint encoder" if file is None else f"the joint encoder {file}"]
    if config.data.source != "scenes":
        joint = joint * plan.joint + [f"CLIP {plan.clip}"] * (plan.clip is not None)
    by["r_precision"] = " and ".join(joint)
    names = {name: shown_as(name, plan.features or "") for name in NAMES if name in plan.wanted}
    return by_network({shown: str(by[name]) for name, shown in names.items()})


# ------------------------------------------------------------------------------------------------ of the run


def evaluator_of(
    plan: Plan, config: RunConfig, dataset: ImageTextDataset, run_dir: Path, report: Report = silent
) -> tuple[Plan, Evaluator | None]:
    """Returns the plan that the data set allows, and its evaluator, or None if nothing is left of the plan.

    report gets a line for each metric that the data set is too small for.
    """
    if plan.level != "one":
        return plan, of_several_objects(plan.level, plan, config)
    if config.data.source == "scenes":
        return plan, of_scenes(plan, config)
    eval_set = eval_set_for(config, dataset)
    training = training_of(config, dataset)
    if config.trainer.metrics is None and training.pictures.count > MOST_PICTURES:
        plan = plan._replace(wanted=plan.wanted - {"memorization"})
    plan = fitting_to(plan, eval_set, report)
    return plan, of_pictures(plan, config, eval_set, run_dir, training) if plan.wanted else None


def training_of(config: RunConfig, dataset: ImageTextDataset) -> Training:
    """Returns the training images, without random crops and flips."""
    data = replace(config.data, crop="center", flip=False)
    if config.data.source != "custom" and data != config.data:
        dataset = build_dataset(data)
    return Training(of_dataset(dataset), held_out=config.data.test_images > 0 and config.data.source != "custom")


def eval_set_for(config: RunConfig, dataset: ImageTextDataset) -> EvalSet:
    """Returns images kept out of training, or training images if there are none; without random crops and flips."""
    data = replace(config.data, crop="center", flip=False)
    if config.data.source == "custom":
        return eval_set_of(dataset, config.trainer.evaluation_images, SEED)
    part = "test" if data.test_images > 0 else "train"
    chosen = dataset if part == "train" and data == config.data else build_dataset(data, part)
    return eval_set_of(chosen, config.trainer.evaluation_images, SEED)


def fitting_to(plan: Plan, eval_set: EvalSet, report: Report) -> Plan:
    """Returns the plan without the metrics that have too few images or captions; report gets the reasons."""
    captions, unfit = eval_set.texts(), {}
    num_texts = len(set(captions))
    if "r_precision" in plan.wanted and num_texts <= 2 * NUM_DISTRACTORS:
        unfit["r_precision"] = f"{num_texts} different captions are too few to find {NUM_DISTRACTORS} wrong ones"
    if len(captions) < FEWEST:
        few = f"{len(captions)} pictures are too few to compare"
        unfit |= {name: few for name in COMPARE_SETS if name in plan.wanted}
    for line in in_lines(unfit):
        report(line)
    return plan._replace(wanted=plan.wanted - set(unfit))


def networks_of(plan: Plan, config: RunConfig, joint: JointNetwork | None = None) -> Networks:
    """Returns the loaded networks of a plan's metrics."""
    match plan.features:
        case None:
            features = None
        case "":
            features = Inception(inception_weights(inception_file(config)))
        case name if name == SCENE_FEATURES:
            features = SceneClassifierFeatures(load_scene_classifier())
        case "joint":
            features = joint
        case unknown:
            raise ValueError(f"no such features: {unknown}")
    clip = None if plan.clip is None else CLIPNetwork(plan.clip)
    return Networks(features, clip, clip)


def of_scenes(plan: Plan, config: RunConfig) -> Evaluator:
    """Returns an evaluator of both splits if scenes are wanted, and of seen combinations by other metrics.

    R-precision is by trainer.eval_joint_encoder or the starter weights, not by the encoder that the generator
    is trained against.
    """
    count, resolution, classifier = config.trainer.evaluation_images, config.data.resolution, load_scene_classifier()
    captions, networks = captions_of("seen", count, SEED, config.data.language), networks_of(plan, config)
    eval_set = EvalSet(captions, of_dataset(Scenes(count, resolution, SEED)), {})
    file, by_joint = config.trainer.eval_joint_encoder or STARTER_JOINT, "r_precision" in plan.wanted
    joint = JointEncoder.load(file) if by_joint else None
    others = PictureEvaluator(eval_set, networks, plan.wanted - {"scenes", "r_precision"}, SEED)
    if "scenes" not in plan.wanted:
        if joint is not None:
            others.more["r_precision"] = contradicted_r_precision(JointNetwork(joint), captions, SEED)
        return Evaluator(lambda g, t, progress: others(g, t, progress=progress), plan.names(), count)

    @cache
    def evaluator(device: torch.device) -> SceneEvaluator:  # real scenes are measured on the device of training
        more = others.metrics(device)
        return SceneEvaluator(classifier, resolution, count, SEED, joint, more, language=config.data.language)

    def evaluate(generator, text_encoder, progress) -> dict[str, float]:
        return evaluator(device_of(generator))(generator, text_encoder, progress).metrics()

    return Evaluator(evaluate, plan.names(), count)


def of_several_objects(level: MultiLevel, plan: Plan, config: RunConfig) -> Evaluator:
    """Returns an evaluator of both splits of scenes of several objects, by the classifier of their level."""
    count, classifier = config.trainer.evaluation_images, load_scene_classifier(JUDGES[level].classifier)
    evaluator = MultiObjectEvaluator(
        level, classifier, config.data.resolution, count, SEED, language=config.data.language
    )
    return Evaluator(evaluator, plan.names(), count)


def of_pictures(plan: Plan, config: RunConfig, eval_set: EvalSet, run_dir: Path, training: Training) -> Evaluator:
    """Returns an evaluator of images and captions of any data set.

    Without trainer.eval_joint_encoder, R-precision is by the encoder that the generator is trained against: too high.
    """
    joint, more, captions = None, {}, eval_set.texts()
    if plan.joint:
        file = config.trainer.eval_joint_encoder or config.joint.checkpoint or run_dir / "joint.safetensors"
        joint = JointNetwork(JointEncoder.load(file))
        if "r_precision" in plan.wanted:
            others = torch.from_numpy(other_captions(captions, eval_set.own_places(), NUM_DISTRACTORS, SEED))
            name = "r_precision" if plan.independent else "joint/r_precision"
            more[name] = GeneratedRPrecision(joint, captions, others)
    evaluator = PictureEvaluator(eval_set, networks_of(plan, config, joint), plan.wanted, SEED, more, training)
    return Evaluator(lambda g, t, progress: evaluator(g, t, progress=progress), plan.names(), len(captions))
