"""The evaluation of any images: opens images and networks, computes metrics and anchors, records the protocol."""

from dataclasses import asdict, replace
from pathlib import Path

import torch

from cgan.data.pictures import CaptionedPictures
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.levels import Language
from cgan.data.sources import DataConfig, build_dataset
from cgan.evaluation.images import (
    NUM_DISTRACTORS,
    EvalSet,
    Networks,
    PictureEvaluator,
    counted,
    eval_set_of,
    eval_set_of_ids,
    nearest_training_pictures,
    pictures_of_folder,
    read_caption_ids,
)
from cgan.evaluation.loop import JointNetwork, Pictures, of_dataset, of_generator
from cgan.evaluation.memorization import MOST_PICTURES, NO_TRAINING, Training, described
from cgan.evaluation.protocol import EvaluationReport, by_network, device_name, versions
from cgan.evaluation.scenes import (
    FEWEST,
    NUM_SCENES,
    SceneEvaluator,
    SceneReading,
    captions_of,
    contradicted_r_precision,
    scenes_of,
)
from cgan.evaluation.settings import EvaluationSettings
from cgan.evaluation.spectra import size_of, why_not
from cgan.interfaces import ImageTextDataset, Report, UserError
from cgan.metrics.clip import CLIPNetwork
from cgan.metrics.distances import SEED, SPLITS, SUBSET_SIZE, SUBSETS
from cgan.metrics.features import FeatureNetwork, Inception, SceneClassifierFeatures
from cgan.metrics.memorization import copying
from cgan.metrics.names import (
    BY_DEFAULT,
    COMPARE_SETS,
    NAMES,
    NEED_CAPTIONS,
    OF_TRAINING,
    ON_FEATURES,
    ON_INCEPTION,
    ON_PIXELS,
    SCENE_FEATURES,
    shown_as,
)
from cgan.metrics.neighbours import NEIGHBOURS
from cgan.metrics.required_weights import clip_source, in_lines, inception_weights, missing_weights
from cgan.metrics.scenes import load_scene_classifier
from cgan.models.joint import JointEncoder
from cgan.models.weights_hash import hash_weights
from cgan.resources import STARTER_JOINT
from cgan.retrieval import joint_checkpoint_of
from cgan.sampling.pipeline import TextToImage
from cgan.workers import Progress

NUM_CAPTIONS = 5000


class ImageEvaluation:
    """evaluation.run() -> EvaluationReport, of images that a checkpoint generates or a folder holds.

    data: the data set that they are compared with, unless settings name a folder of reference images.
    report gets a line about each metric that is left out, progress the numbers of images done and in all.
    Raises UserError for images, captions and weights that are missing, damaged or too few.
    """

    dataset: ImageTextDataset | None  # None with a folder of reference images

    def __init__(self, settings: EvaluationSettings, data: DataConfig, report: Report, progress: Progress) -> None:
        self.settings, self.asked, self.report, self.progress = settings, settings.metrics, report, progress
        self.left_out: list[str] = []  # lines about metrics that can't run
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.pipe = None if settings.checkpoint is None else TextToImage.from_pretrained(settings.checkpoint)
        self.folder = None if settings.images is None else pictures_of_folder(settings.images, settings.resolution)
        self.config = None if settings.reference is not None else self.at_resolution(data)
        self.on_scenes = self.config is not None and self.config.source == "scenes"
        if self.on_scenes and settings.captions is not None:
            raise UserError("captions: ids of captions need data.source=coco and data.annotations=FILE")
        self.dataset = self.open_dataset()
        self.eval_set = self.choose_eval_set()
        self.wanted, missing = self.possible()
        self.networks = self.loaded(missing)
        if self.pipe is not None:
            self.pipe.to(self.device)

    # ------------------------------------------------------------------------------------------ pictures

    def at_resolution(self, data: DataConfig) -> DataConfig:
        """Returns the settings of the data set; its resolution, unless given, is that of the images to measure."""
        config = replace(data, crop="center", flip=False)
        resolution = self.settings.resolution if self.pipe is None else self.pipe.generator.resolution
        if resolution is not None and not self.settings.sets_resolution:
            config.resolution = resolution
        return config

    def open_dataset(self) -> ImageTextDataset | None:
        """Returns scenes by the seed, or the images of other data that are kept out of training, or all if none are."""
        if self.config is None:
            return None
        if self.on_scenes:
            return Scenes(self.settings.num_images or NUM_SCENES, self.config.resolution, self.settings.seed)
        return build_dataset(self.config, "test" if self.config.test_images > 0 else "train")

    def language(self) -> Language:
        """Returns the language of the captions of scenes."""
        return "en" if self.config is None else self.config.language

    def choose_eval_set(self) -> EvalSet:
        """Returns the captions and images of the data set; a folder that is measured has its own captions."""
        if self.settings.reference is not None:
            eval_set = EvalSet(None, pictures_of_folder(self.settings.reference, self.settings.resolution), {})
        else:
            eval_set = self.scenes_eval_set() if self.on_scenes else self.dataset_eval_set()
        if self.folder is None:
            return eval_set
        captions = self.folder.captions
        about = {"choice": "none"} if captions is None else {"choice": "those of the folder", **counted(captions)}
        return EvalSet(captions, eval_set.reference, about, None if captions is None else list(range(len(captions))))

    def scenes_eval_set(self) -> EvalSet:
        """Returns captions of seen combinations by the seed, and as many real scenes."""
        assert self.dataset is not None  # on_scenes
        captions = captions_of("seen", len(self.dataset), self.settings.seed, self.language())
        about = {"choice": "scenes drawn by the seed", "seed": self.settings.seed, **counted(captions)}
        return EvalSet(captions, of_dataset(self.dataset), about)

    def dataset_eval_set(self) -> EvalSet:
        """Returns a caption of each image by the seed, or COCO's captions of fixed ids; raises UserError."""
        assert self.config is not None and self.dataset is not None  # choose_eval_set calls it without a reference
        if self.settings.captions is None:
            return eval_set_of(self.dataset, self.settings.num_images or NUM_CAPTIONS, self.settings.seed)
        if self.config.annotations is None or not isinstance(self.dataset, CaptionedPictures):
            raise UserError("captions: ids of captions need data.source=coco and data.annotations=FILE")
        return eval_set_of_ids(self.dataset, Path(self.config.annotations), read_caption_ids(self.settings.captions))

    def measured(self) -> Pictures:
        """Returns the images to measure."""
        if self.folder is not None:
            return self.folder
        assert self.pipe is not None  # settings name a folder or a checkpoint
        generator, text_encoder = self.pipe.generator, self.pipe.text_encoder
        return of_generator(
            generator, text_encoder, self.eval_set.texts(), self.settings.seed, self.settings.truncation
        )

    # ------------------------------------------------------------------------------------------ networks

    def possible(self) -> tuple[set[str], dict[str, str]]:
        """Returns the metrics that can run, and why others can't; raises UserError if none can.

        The reasons are kept in left_out; for metrics that do not fit the images, only if they were requested.
        """
        wanted = set(self.asked or BY_DEFAULT)
        unfit = self.out_of_place()
        missing = missing_weights(
            wanted - set(unfit), self.settings.inception, self.settings.clip, fetch=self.asked is not None
        )
        reported = wanted if self.asked else wanted & set(ON_INCEPTION)
        self.left_out = in_lines(missing | {name: reason for name, reason in unfit.items() if name in reported})
        stand_in = (set(ON_FEATURES) & wanted) - set(unfit) if self.stand_in() is not None else set()
        wanted = wanted - set(unfit) - set(missing) | stand_in
        if not wanted:
            self.report_left_out()
            raise UserError("no metric can be computed; `cgan evaluate --help` lists the metrics")
        return wanted, missing

    def out_of_place(self) -> dict[str, str]:
        """Returns why these images and captions do not allow metrics, by the names of the metrics."""
        captions, unfit = self.eval_set.captions, self.too_few() | self.unfit_for_pixels()
        if self.on_scenes or (self.config is not None and self.config.test_images > 0):
            unfit |= OF_TRAINING
        if captions is None:
            unfit |= dict.fromkeys(NEED_CAPTIONS, "the pictures have no captions")
        if not self.on_scenes:
            unfit["scenes"] = "the scene classifier reads only the built-in scenes"
        if captions is None:
            return unfit
        num_texts = len(set(captions))
        if num_texts <= 2 * NUM_DISTRACTORS and not self.generates_scenes():
            unfit["r_precision"] = f"{num_texts} different captions are too few to find {NUM_DISTRACTORS} wrong ones"
        elif self.joint_file() is None and self.settings.clip is None:
            unfit["r_precision"] = "needs a joint encoder (--joint FILE) or a CLIP (--clip NAME)"
        return unfit

    def unfit_for_pixels(self) -> dict[str, str]:
        """Returns why spectra and distances to training images are left out, by the names of the metrics."""
        size = self.size_of_measured()
        reason, unfit = why_not(size, size_of(self.eval_set.reference)), {}
        if reason is not None:
            unfit["spectrum"] = reason
        if self.on_scenes:
            unfit["memorization"] = NO_TRAINING
        elif self.asked is None and self.training().pictures.count > MOST_PICTURES:
            unfit["memorization"] = f"over {MOST_PICTURES:,} training pictures; ask for it by --metrics"
        return unfit

    def size_of_measured(self) -> tuple[int, int]:
        """Returns the height and the width of the images to measure."""
        if self.pipe is None:
            return size_of(self.measured())
        return self.pipe.generator.resolution, self.pipe.generator.resolution

    def training(self) -> Training:
        """Returns the images that may have been memorised: the data set's training part, or the reference images."""
        if self.config is None or self.dataset is None:
            return Training(self.eval_set.reference, held_out=False)
        return Training(of_dataset(self.training_pictures()[0]), held_out=self.config.test_images > 0)

    def too_few(self) -> dict[str, str]:
        """Returns why metrics that compare sets are left out if there are too few images, by their names."""
        measured = len(self.eval_set.texts()) if self.folder is None else self.folder.count
        count = min(measured, self.eval_set.reference.count)
        return {} if count >= FEWEST else dict.fromkeys(COMPARE_SETS, f"{count} pictures are too few to compare")

    def generates_scenes(self) -> bool:
        """Returns whether a checkpoint generates the built-in scenes."""
        return self.on_scenes and self.pipe is not None

    def joint_file(self) -> Path | None:
        """Returns the joint encoder's file; that of the generator's own training would flatter, and must be given."""
        if self.settings.joint is not None:
            return joint_checkpoint_of(self.settings.joint)
        return STARTER_JOINT if self.on_scenes else None

    def stand_in(self) -> str | None:
        """Returns the name of the features that replace Inception's if those are missing; None if there are none."""
        return SCENE_FEATURES if self.on_scenes else "joint" if self.joint_file() is not None else None

    def loaded(self, missing: dict[str, str]) -> Networks:
        """Returns the networks of the metrics that can run."""
        joint = clip = None
        file = self.joint_file()
        if file is not None:
            joint = JointNetwork(JointEncoder.load(file))
        if "clip_score" in self.wanted or ("r_precision" in self.wanted and joint is None):
            clip = CLIPNetwork(clip_source(self.settings.clip, fetch=self.asked is not None))
        return Networks(self.feature_network(bool(set(ON_INCEPTION) & set(missing)), joint), clip, joint or clip)

    def feature_network(self, inception_missing: bool, joint: JointNetwork | None) -> FeatureNetwork | None:
        """Returns Inception or its substitute; None if no metric needs it."""
        if not set(ON_INCEPTION) & self.wanted:
            return None
        if not inception_missing:
            file = inception_weights(self.settings.inception)
            return Inception(file, self.settings.resize)
        self.left_out.append(f"measured on other features instead: {self.stand_in()}/frechet_distance and so on")
        return SceneClassifierFeatures(load_scene_classifier()) if self.on_scenes else joint

    def described(self) -> str:
        """Returns how many images are measured, against how many, and each metric with the network that measures it."""
        features, clip, matching = self.networks
        by = {}
        for name in (name for name in NAMES if name in self.wanted):
            network = features if name in ON_INCEPTION else matching if name == "r_precision" else clip
            if name in ON_PIXELS:
                by[name] = described(features if name == "memorization" else None)
            elif name == "scenes" or network is None:
                by[name] = "the scene classifier"
            else:
                by[shown_as(name, network.name)] = network.describe()
        return f"{self.measured().count:,} pictures against {self.eval_set.reference.count:,}: {by_network(by)}"

    def report_left_out(self) -> None:
        """Reports the metrics that can't run here, and why."""
        for line in self.left_out:
            self.report(line)

    # ------------------------------------------------------------------------------------------ measures

    def run(self) -> EvaluationReport:
        """Reports what is measured by which network, then computes the metrics, and the anchors if requested."""
        self.report(f"measuring {self.described()}")
        self.report_left_out()
        if self.generates_scenes() and "scenes" in self.wanted:
            metrics = self.of_scenes()
        else:
            metrics = self.of_pictures()
        anchors = self.anchors() if self.settings.anchors else {}
        return EvaluationReport(metrics, anchors, self.protocol())

    def of_pictures(self) -> dict[str, float]:
        """Measures any images, and warns of a model that copies those of its training."""
        evaluator = self.evaluator()
        found = evaluator.of(self.measured(), self.device, self.progress)
        if self.pipe is not None:
            found |= evaluator.diversity(self.pipe.generator, self.pipe.text_encoder, self.settings.truncation)
        warning = copying(found)
        if warning is not None:
            self.report(warning)
        return found

    def of_scenes(self) -> dict[str, float]:
        """Measures scenes of seen and held-out combinations; other metrics use the images of the seen ones."""
        assert self.pipe is not None and self.config is not None and self.dataset is not None  # generates_scenes
        # distances by the scene classifier's features are reported anyway
        on_classifier = isinstance(self.networks.features, SceneClassifierFeatures)
        wanted = self.wanted - {"r_precision", *(ON_FEATURES if on_classifier else ())}
        more = PictureEvaluator(self.eval_set, self.networks, wanted, self.settings.seed).metrics(self.device)
        joint = self.joint_network().joint if "r_precision" in self.wanted else None
        evaluator = SceneEvaluator(
            load_scene_classifier(), self.config.resolution, len(self.dataset), self.settings.seed, joint, more,
            self.settings.truncation, self.language(),
        )  # fmt: skip
        return evaluator(self.pipe.generator, self.pipe.text_encoder, self.progress).metrics()

    def joint_network(self) -> JointNetwork:
        """Returns the joint encoder, which R-precision of scenes always has."""
        assert isinstance(self.networks.matching, JointNetwork)  # joint_file names one for scenes
        return self.networks.matching

    def evaluator(self) -> PictureEvaluator:
        """Returns the evaluator of all metrics except those of SceneEvaluator."""
        wanted, more = set(self.wanted), {}
        if "scenes" in wanted:
            more["reading"] = SceneReading(load_scene_classifier())
        if "r_precision" in wanted and self.generates_scenes():
            wanted.remove("r_precision")
            captions = self.eval_set.texts()
            more["r_precision"] = contradicted_r_precision(self.joint_network(), captions, self.settings.seed)
        training = self.training() if "memorization" in wanted else None
        return PictureEvaluator(self.eval_set, self.networks, wanted, self.settings.seed, more, training)

    def anchors(self) -> dict[str, dict[str, float]]:
        """Returns the floor and, with captions, the values of their real images and of the nearest training images."""
        evaluator = self.evaluator()
        found = {"real_against_real": evaluator.floor(self.device)}
        if self.config is None or self.eval_set.captions is None:
            return found
        own = self.own_pictures()
        if own is not None:
            found["real_of_captions"] = evaluator.of_real(own, self.device)
        if not isinstance(self.networks.matching, JointNetwork):
            self.report("without nearest_training: needs a joint encoder (--joint FILE)")
            return found
        joint = self.networks.matching.joint.to(self.device)
        training, same = self.training_pictures()
        nearest = nearest_training_pictures(joint, self.eval_set, training, same)
        return found | {"nearest_training": evaluator.of(nearest, self.device)}

    def own_pictures(self) -> Pictures | None:
        """Returns the real images that the captions belong to; None for a folder, whose own images are measured."""
        if self.folder is not None:
            return None
        assert self.config is not None and self.dataset is not None  # anchors has returned without a data set
        captions = self.eval_set.texts()
        if self.on_scenes:
            return scenes_of(captions, self.config.resolution, [self.settings.seed, 4])
        return of_dataset(self.dataset, self.eval_set.places, captions)

    def training_pictures(self) -> tuple[ImageTextDataset, bool]:
        """Returns the training images, and whether the captions are theirs, so that own images must be skipped."""
        assert self.config is not None and self.dataset is not None  # anchors has returned without a data set
        same = not self.on_scenes and self.config.test_images == 0
        return (self.dataset if same else build_dataset(self.config, "train")), same and self.folder is None

    # ------------------------------------------------------------------------------------------ protocol

    def protocol(self) -> dict:
        """Returns all that is needed to reproduce the values, JSON-able."""
        inception = isinstance(self.networks.features, Inception)
        return {
            "versions": versions(),
            "device": device_name(self.device),
            "pictures": self.about_pictures(),
            "captions": self.eval_set.about,
            "reference": self.about_reference(),
            "networks": self.networks.spec()
            | ({SCENE_FEATURES: hash_weights(load_scene_classifier())} if self.on_scenes else {}),
            "resize": f"{self.settings.resize}, to 299 px" if inception else "by the network",
            "kid": {"subsets": SUBSETS, "subset_size": SUBSET_SIZE, "seed": SEED, "degree": 3},
            "inception_score": {"splits": SPLITS, "seed": SEED},
            "neighbours": NEIGHBOURS,
            "r_precision": {"wrong_captions": NUM_DISTRACTORS},
            "seed": self.settings.seed,
        }

    def about_reference(self) -> dict:
        """Returns the description of the real images, with the settings of their data set."""
        data = {} if self.config is None else {"data": asdict(self.config)}
        return self.eval_set.reference.about | data

    def about_pictures(self) -> dict:
        """Returns the origin of the measured images, how they were generated, and their number."""
        about = {**self.measured().about, "num_images": self.measured().count}
        if self.pipe is None:
            return about
        networks = {"generator": self.pipe.generator, "text_encoder": self.pipe.text_encoder}
        hashes = {name: hash_weights(network) for name, network in networks.items()}
        weights = {"averaged_weights": True, "weights": hashes, "bytes": "rounded, no JPEG"}
        return {"source": str(self.settings.checkpoint), **about, **weights}
