"""What `cgan evaluate` does between its options and its report: opens pictures and networks, and measures."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

import torch

import cgan
from cgan.cli.evaluate import NAMES
from cgan.config import load_config
from cgan.data.scenes.dataset import Scenes
from cgan.data.sources import build_dataset
from cgan.evaluation.images import (
    NUM_DISTRACTORS,
    Networks,
    PictureEvaluator,
    Question,
    counted,
    nearest_training_pictures,
    pictures_of_folder,
    question_of,
    question_of_ids,
    read_caption_ids,
)
from cgan.evaluation.loop import JointNetwork, Pictures, Tell, of_dataset, of_generator, silent
from cgan.evaluation.scenes import FEWEST, SceneEvaluator, SceneReading, captions_of, choice_of, scenes_of
from cgan.interfaces import UserError
from cgan.metrics.clip import CLIPNetwork
from cgan.metrics.features import FeatureNetwork, Inception, JudgeFeatures, weights_hash
from cgan.metrics.quality import NEIGHBOURS, SUBSET_SEED, SUBSET_SIZE, SUBSETS
from cgan.metrics.scenes import load_judge
from cgan.metrics.weights import clip_source, in_lines, inception_weights, missing_weights
from cgan.resources import STARTER_JOINT
from cgan.retrieval import joint_checkpoint_of, progress
from cgan.sampling.pipeline import TextToImage
from cgan.training.joint import JointEncoder

ON_FEATURES = {"fid", "kid", "prdc"}
NUM_SCENES, NUM_CAPTIONS = 2000, 5000
PACKAGES = ("torch", "torchvision", "torchmetrics", "torch-fidelity", "transformers", "numpy", "pillow")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def told(title: str) -> Iterator[Tell]:
    """A bar on the terminal; nothing where there is none."""
    with progress() as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class EvaluationRun:
    """run.report() -> metrics, anchors and protocol, JSON-able. asked: metrics by name, None for all that can run."""

    def __init__(self, options: argparse.Namespace, asked: list[str] | None) -> None:
        self.options, self.asked = options, asked
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.pipe = None if options.checkpoint is None else TextToImage.from_pretrained(options.checkpoint)
        self.folder = None if options.images is None else pictures_of_folder(options.images, options.resolution)
        self.config = None if options.reference is not None else self.data_config()
        self.on_scenes = self.config is not None and self.config.source == "scenes"
        if self.on_scenes and options.captions is not None:
            raise UserError("--captions: ids of captions need data.source=coco and data.annotations=FILE")
        self.dataset = self.opened()
        self.question = self.asked_question()
        self.wanted, missing = self.possible()
        self.networks = self.loaded(missing)
        if self.pipe is not None:
            self.pipe.to(self.device)

    # ------------------------------------------------------------------------------------------ pictures

    def data_config(self):
        """The data set's settings; where its resolution is not given, it is that of the pictures to measure."""
        config = replace(load_config(self.options.data).data, crop="center", flip=False)
        resolution = self.options.resolution if self.pipe is None else self.pipe.generator.resolution
        if resolution is not None and not any(x.startswith("data.resolution=") for x in self.options.data):
            config.resolution = resolution
        return config

    def opened(self):
        """Scenes of the seed; of other data the pictures kept out of training, or all where none are."""
        if self.config is None:
            return None
        if self.on_scenes:
            return Scenes(self.options.num_images or NUM_SCENES, self.config.resolution, self.options.seed)
        return build_dataset(self.config, "test" if self.config.test_images > 0 else "train")

    def asked_question(self) -> Question:
        """The data set's captions and pictures; a folder that is measured brings its own captions."""
        if self.options.reference is not None:
            question = Question(None, pictures_of_folder(self.options.reference, self.options.resolution), {})
        else:
            question = self.scenes_question() if self.on_scenes else self.drawn_question()
        if self.folder is None:
            return question
        captions = self.folder.captions
        about = {"choice": "none"} if captions is None else {"choice": "those of the folder", **counted(captions)}
        return Question(captions, question.reference, about, captions and list(range(len(captions))))

    def scenes_question(self) -> Question:
        captions = captions_of("seen", len(self.dataset), self.options.seed)
        about = {"choice": "scenes drawn by the seed", "seed": self.options.seed, **counted(captions)}
        return Question(captions, of_dataset(self.dataset), about)

    def drawn_question(self) -> Question:
        if self.options.captions is None:
            return question_of(self.dataset, self.options.num_images or NUM_CAPTIONS, self.options.seed)
        if self.config.annotations is None:
            raise UserError("--captions: ids of captions need data.source=coco and data.annotations=FILE")
        return question_of_ids(self.dataset, Path(self.config.annotations), read_caption_ids(self.options.captions))

    def measured(self) -> Pictures:
        if self.folder is not None:
            return self.folder
        generator, text_encoder = self.pipe.generator, self.pipe.text_encoder
        return of_generator(generator, text_encoder, self.question.captions, self.options.seed, self.options.truncation)

    # ------------------------------------------------------------------------------------------ networks

    def possible(self) -> tuple[set[str], dict[str, str]]:
        """The metrics that can run, and why others can't, which is said; of what is out of place only if asked."""
        wanted = set(self.asked or NAMES)
        unfit = self.out_of_place()
        missing = missing_weights(
            wanted - set(unfit), self.options.inception, self.options.clip, fetch=self.asked is not None
        )
        said = wanted if self.asked else ON_FEATURES
        for line in in_lines(missing | {name: reason for name, reason in unfit.items() if name in said & wanted}):
            say(line)
        stand_in = (ON_FEATURES & wanted) - set(unfit) if self.stand_in() is not None else set()
        wanted = wanted - set(unfit) - set(missing) | stand_in
        if not wanted:
            raise UserError("nothing is left to measure; `cgan evaluate --help` says what can be")
        return wanted, missing

    def out_of_place(self) -> dict[str, str]:
        """Metrics that these pictures and captions do not allow, and why."""
        captions, unfit = self.question.captions, self.too_few()
        if not self.on_scenes or captions is None:
            unfit["scenes"] = "the judge reads only the built-in scenes, with their captions"
        if captions is None:
            return unfit | dict.fromkeys(("clip_score", "r_precision"), "the pictures have no captions")
        num_texts = len(set(captions))
        if num_texts <= 2 * NUM_DISTRACTORS and not self.draws_scenes():
            unfit["r_precision"] = f"{num_texts} different captions are too few to find {NUM_DISTRACTORS} wrong ones"
        elif self.joint_file() is None and self.options.clip is None:
            unfit["r_precision"] = "needs a joint encoder (--joint FILE) or a CLIP (--clip NAME)"
        return unfit

    def too_few(self) -> dict[str, str]:
        measured = len(self.question.captions) if self.folder is None else self.folder.count
        count = min(measured, self.question.reference.count)
        return {} if count >= FEWEST else dict.fromkeys(sorted(ON_FEATURES), f"{count} pictures are too few to compare")

    def draws_scenes(self) -> bool:
        return self.on_scenes and self.pipe is not None

    def joint_file(self) -> Path | None:
        """Not the one that a generator was trained against, unless it is given: it would flatter."""
        if self.options.joint is not None:
            return joint_checkpoint_of(self.options.joint)
        return STARTER_JOINT if self.on_scenes else None

    def stand_in(self) -> str | None:
        """What takes Inception's place where that is missing."""
        return "judge" if self.on_scenes else "joint" if self.joint_file() is not None else None

    def loaded(self, missing: dict[str, str]) -> Networks:
        joint = clip = None
        if self.joint_file() is not None:
            joint = JointNetwork(JointEncoder.load(self.joint_file()))
        if "clip_score" in self.wanted or ("r_precision" in self.wanted and joint is None):
            clip = CLIPNetwork(clip_source(self.options.clip, fetch=self.asked is not None))
        return Networks(self.feature_network(bool(ON_FEATURES & set(missing)), joint), clip, joint or clip)

    def feature_network(self, inception_missing: bool, joint: JointNetwork | None) -> FeatureNetwork | None:
        if not ON_FEATURES & self.wanted:
            return None
        if not inception_missing:
            file = inception_weights(self.options.inception)
            return Inception(file, self.options.resize)
        say(f"measured on other features instead: {self.stand_in()}/frechet_distance and so on")
        return JudgeFeatures(load_judge()) if self.on_scenes else joint

    # ------------------------------------------------------------------------------------------ measures

    def report(self) -> dict:
        with told("measuring") as tell:
            metrics = self.of_scenes(tell) if self.draws_scenes() and "scenes" in self.wanted else None
            metrics = self.evaluator().of(self.measured(), self.device, tell) if metrics is None else metrics
        anchors = self.anchors() if self.options.anchors else {}
        return {"metrics": metrics, "anchors": anchors, "protocol": self.protocol()}

    def of_scenes(self, tell: Tell = silent) -> dict[str, float]:
        """Both splits of scenes, held-out combinations too; other metrics see the pictures of the seen ones."""
        on_judge = isinstance(self.networks.features, JudgeFeatures)  # distances on it are reported anyway
        wanted = self.wanted - {"r_precision", *(("fid", "kid", "prdc") if on_judge else ())}
        more = PictureEvaluator(self.question, self.networks, wanted, self.options.seed).metrics(self.device)
        joint = self.networks.matching.joint if "r_precision" in self.wanted else None
        evaluator = SceneEvaluator(
            load_judge(), self.config.resolution, len(self.dataset), self.options.seed, joint, more,
            self.options.truncation,
        )  # fmt: skip
        return evaluator(self.pipe.generator, self.pipe.text_encoder, tell).metrics()

    def evaluator(self) -> PictureEvaluator:
        wanted, more = set(self.wanted), {}
        if "scenes" in wanted:
            more["reading"] = SceneReading(load_judge())
        if "r_precision" in wanted and self.draws_scenes():
            wanted.remove("r_precision")
            more["r_precision"] = choice_of(self.networks.matching, self.question.captions, self.options.seed)
        return PictureEvaluator(self.question, self.networks, wanted, self.options.seed, more)

    def anchors(self) -> dict[str, dict[str, float]]:
        """The floor, and what pictures of the captions and the nearest of training reach where there are captions."""
        evaluator = self.evaluator()
        found = {"real_against_real": evaluator.floor(self.device)}
        if self.config is None or self.question.captions is None:
            return found
        own = self.own_pictures()
        if own is not None:
            found["real_of_captions"] = evaluator.of_real(own, self.device)
        if not isinstance(self.networks.matching, JointNetwork):
            say("without nearest_training: needs a joint encoder (--joint FILE)")
            return found
        joint = self.networks.matching.joint.to(self.device)
        training, same = self.training_pictures()
        with told("nearest training pictures"):
            nearest = nearest_training_pictures(joint, self.question, training, same)
        return found | {"nearest_training": evaluator.of(nearest, self.device)}

    def own_pictures(self) -> Pictures | None:
        """The real pictures that the captions belong to; a folder's captions belong to its own pictures."""
        captions = self.question.captions
        if self.folder is not None:
            return None
        if self.on_scenes:
            return scenes_of(captions, self.config.resolution, [self.options.seed, 4])
        return of_dataset(self.dataset, self.question.places, captions)

    def training_pictures(self) -> tuple:
        """And whether the captions are of the very same pictures, of which each must not find its own."""
        same = not self.on_scenes and self.config.test_images == 0
        return (self.dataset if same else build_dataset(self.config, "train")), same and self.folder is None

    # ------------------------------------------------------------------------------------------ protocol

    def protocol(self) -> dict:
        """All that somebody needs to find the same numbers."""
        inception = isinstance(self.networks.features, Inception)
        return {
            "versions": {"cgan": cgan.__version__, "python": python_version(), **versions()},
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "pictures": self.about_pictures(),
            "captions": self.question.about,
            "reference": self.about_reference(),
            "networks": self.networks.spec() | ({"judge": weights_hash(load_judge())} if self.on_scenes else {}),
            "resize": f"{self.options.resize}, to 299 px" if inception else "by the network",
            "kid": {"subsets": SUBSETS, "subset_size": SUBSET_SIZE, "seed": SUBSET_SEED, "degree": 3},
            "neighbours": NEIGHBOURS,
            "r_precision": {"wrong_captions": NUM_DISTRACTORS},
            "seed": self.options.seed,
            "command": " ".join(["cgan", "evaluate", *self.options.arguments]),
        }

    def about_reference(self) -> dict:
        """The real pictures, with the settings of their data set."""
        data = {} if self.config is None else {"data": asdict(self.config)}
        return self.question.reference.about | data

    def about_pictures(self) -> dict:
        """Where they come from, how they were drawn, and their number."""
        about = {**self.measured().about, "num_images": self.measured().count}
        if self.pipe is None:
            return about
        networks = {"generator": self.pipe.generator, "text_encoder": self.pipe.text_encoder}
        hashes = {name: weights_hash(network) for name, network in networks.items()}
        weights = {"averaged_weights": True, "weights": hashes, "bytes": "rounded, no JPEG"}
        return {"source": str(self.options.checkpoint), **about, **weights}


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
