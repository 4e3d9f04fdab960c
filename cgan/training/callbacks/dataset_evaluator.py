"""Builds the evaluator of a data set from its parts, for a training that has no configuration of cgan's."""

from collections.abc import Sequence

from cgan.evaluation.images import Networks, PictureEvaluator, eval_set_of
from cgan.evaluation.loop import of_dataset
from cgan.evaluation.memorization import Training
from cgan.evaluation.plan import SEED, Evaluator
from cgan.interfaces import ImageTextDataset, UserError
from cgan.metrics.features import FeatureNetwork, Inception, MatchingNetwork
from cgan.metrics.names import NAMES, ON_PIXELS
from cgan.metrics.required_weights import inception_weights

ON_CAPTIONS = ("clip_score", "r_precision")  # metrics that compare images with captions
POSSIBLE = tuple(name for name in NAMES if name != "scenes")


def dataset_evaluator(
    dataset: ImageTextDataset,
    metrics: Sequence[str],
    features: FeatureNetwork | None = None,
    clip: MatchingNetwork | None = None,
    num_images: int = 2000,
    seed: int = SEED,
) -> Evaluator:
    """Returns an evaluator of generated images against a data set's, by the names of metrics.

    metrics: some of POSSIBLE. clip: the network of clip_score and r_precision. features: the network of all others;
    Inception with the weights on this machine when absent. num_images: pictures of the data set, with one caption each.
    seed: of captions and noise. Raises UserError for an unknown metric and a missing network.
    """
    unknown = set(metrics) - set(POSSIBLE)
    if unknown or not metrics:
        raise UserError(f"metrics: {', '.join(sorted(unknown)) or 'none'}: give some of {', '.join(POSSIBLE)}")
    on_captions = [name for name in metrics if name in ON_CAPTIONS]
    if on_captions and clip is None:
        raise UserError(f"metrics: {', '.join(on_captions)}: give clip=NETWORK, such as CLIPNetwork(FOLDER)")
    if features is None and set(metrics) - {*ON_CAPTIONS, *ON_PIXELS}:
        features = Inception(inception_weights(None))
    eval_set = eval_set_of(dataset, num_images, seed)
    training = Training(of_dataset(dataset), held_out=False)
    evaluator = PictureEvaluator(eval_set, Networks(features, clip, clip), metrics, seed, training=training)
    return Evaluator(lambda g, t, progress: evaluator(g, t, progress=progress), [], len(eval_set.texts()))
