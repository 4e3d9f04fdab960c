"""How similar generated images are to real ones, by features of one pass through a network."""

from collections.abc import Iterable

from torch import Tensor, distributed
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.wrappers.abstract import WrapperMetric

from cgan.metrics.distances import frechet_metric, inception_score, kernel_distance, memorization
from cgan.metrics.features import FeatureNetwork, Inception
from cgan.metrics.names import ON_FEATURES, values_of
from cgan.metrics.neighbours import NEIGHBOURS, neighbourhoods


class Collected(Metric):
    """Collects the features of all images in the order of their ids, (N, F), from all processes.

    torchmetrics' KID, MIFID and Inception score store features as well, but gather each batch of each process by
    itself: processes with different numbers of batches wait for each other for ever (measured with torchmetrics 1.9.0
    and two processes of two batches and one). They get their features from here, when they compute.
    """

    features: list[Tensor]  # each (B, F); one tensor after the processes' states are gathered
    ids: list[Tensor]  # each (B,) int64
    full_state_update = False

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("ids", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, ids: Tensor) -> None:
        """Adds features (B, F) of images with ids (B,), which fix their order; B may be 0, but not with all updates."""
        self.features.append(features)
        self.ids.append(ids.to(features.device).long())

    def compute(self) -> Tensor:
        """Returns the features (N, F), sorted by id."""
        return dim_zero_cat(self.features)[dim_zero_cat(self.ids).argsort()]


class PictureQuality(WrapperMetric):
    """torchmetrics' distances of generated images from real ones; every image goes through the network once.

    network: maps images to features. Only Inception's distances are called fid and kid; those of other networks are
        NAME/frechet_distance and NAME/kernel_distance, and the shares NAME/precision and so on.
    real: the features of all real images (N, F), the same in every process.
    measures: fid stores only sums; the others store all features. prdc is precision, recall, density and coverage.
        inception_score and mifid need Inception, and mifid needs training images as the real ones.
    settings: keyword arguments of torchmetrics' Metric, such as sync_on_compute.
    Raises ValueError for real features of another shape, and for a measure that the network does not allow.
    """

    real: Tensor  # (N, F) float64
    full_state_update = False

    def __init__(
        self, network: FeatureNetwork, real: Tensor, measures: Iterable[str] = ON_FEATURES, **settings
    ) -> None:
        super().__init__()
        self.network, self.measures, dim = network, set(measures), network.num_features
        if real.ndim != 2 or real.shape[1] != dim:
            raise ValueError(f"real features of shape {tuple(real.shape)}: expected (N, {dim})")
        if "inception_score" in self.measures and not (isinstance(network, Inception) and network.classes is not None):
            raise ValueError("inception_score needs Inception with all of its 2048 features")
        self.register_buffer("real", real.double(), persistent=False)
        self.alone = settings.get("sync_on_compute") is False
        self.frechet = frechet_metric(dim, **settings) if "fid" in self.measures else None
        self.collected = Collected(**settings) if self.measures - {"fid"} else None

    def update(self, images: Tensor, ids: Tensor) -> None:
        """Adds generated images, uint8 (B, 3, H, W); ids (B,), all different, fix their order among all processes.

        Every process needs at least one update, which may hold no images. Raises ValueError for NaN or infinity.
        """
        features = self.network.once(images)  # (B, F)
        if not features.isfinite().all():
            raise ValueError("features hold NaN or infinity")
        if self.frechet is not None:
            if self.frechet.real_features_num_samples == 0:
                self.frechet.update(self.own_share(), real=True)
            self.frechet.update(features.double(), real=False)
        if self.collected is not None:
            self.collected.update(features, ids)

    def own_share(self) -> Tensor:
        """Returns those real features (M, F) that this process adds: torchmetrics sums up those of all processes."""
        if self.alone or not (distributed.is_available() and distributed.is_initialized()):
            return self.real
        return self.real[distributed.get_rank() :: distributed.get_world_size()]

    def compute(self) -> dict[str, Tensor]:
        """Returns the values by name, scalars; raises ValueError for fewer images than the measures need."""
        found: dict[str, Tensor] = {}
        if self.frechet is not None:
            found["fid"] = self.frechet.compute()
        if self.collected is not None:
            found |= self.of_all(self.collected.compute().double())
        return {named(name, self.network): value for name, value in found.items()}

    def of_all(self, fake: Tensor) -> dict[str, Tensor]:
        """Returns the values of those measures that look at all features (N, F) at once."""
        found: dict[str, Tensor] = {}
        if min(len(fake), len(self.real)) <= max(NEIGHBOURS.values()):
            raise ValueError(f"{len(fake)} pictures against {len(self.real)}: too few to compare")
        if "kid" in self.measures:
            found["kid"] = kernel_distance(fake, self.real)
        if "prdc" in self.measures:
            found |= neighbourhoods(fake, self.real)
        if "inception_score" in self.measures:
            assert isinstance(self.network, Inception)  # __init__ has raised ValueError for another network
            found["inception_score"] = inception_score(self.network.logits(fake))
        if "mifid" in self.measures:
            found |= memorization(fake, self.real)
        return found

    def reset(self) -> None:
        """Forgets the generated images; real ones are kept."""
        super().reset()
        for metric in (self.frechet, self.collected):
            if metric is not None:
                metric.reset()


def named(value: str, network: FeatureNetwork) -> str:
    """Returns the name of a value on the features of a network: the same on Inception's."""
    if not network.name:
        return value
    elsewhere = {"fid": values_of("fid", network.name)[0], "kid": values_of("kid", network.name)[0]}
    return elsewhere.get(value, f"{network.name}/{value}")
