"""How similar generated images are to real ones, by their features: distances of the sets, precision and recall.

On Inception's features the distances are FID (Heusel et al. 2017) and KID (Binkowski et al. 2018), equal to those of
torch-fidelity. torchmetrics has both, but its KID hangs if processes are updated a different number of times and draws
subsets without a seed, and it counts real images once for each process. Here real images are fixed and counted once.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.image.kid import poly_mmd
from torchmetrics.utilities import dim_zero_cat

from cgan.metrics.features import FeatureNetwork, features_of

Measure = Literal["fid", "kid", "prdc"]
MEASURES: tuple[Measure, ...] = ("fid", "kid", "prdc")
SUBSETS, SUBSET_SIZE, SUBSET_SEED = 100, 1000, 2020  # of KID, as in torch-fidelity
NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}  # as in the papers
BLOCK = 1024  # rows of the matrix of distances that are formed at once


class Gaussian(NamedTuple):
    """A Gaussian fitted to features."""

    mean: Tensor  # (F,) float64
    covariance: Tensor  # (F, F) float64


def gaussian(total: Tensor, products: Tensor, count: Tensor | int) -> Gaussian:
    """Returns the Gaussian of `count` features, given their sum (F,) and the sum of their outer products (F, F)."""
    mean = total / count
    return Gaussian(mean, (products - count * mean.outer(mean)) / (count - 1))


def gaussian_of(features: Tensor) -> Gaussian:
    """Returns the Gaussian, in float64, of features (N, F) with N at least 2."""
    features = features.double()
    return gaussian(features.sum(0), features.t() @ features, len(features))


def root(matrix: Tensor) -> Tensor:
    """Returns the square root (F, F) of a symmetric positive semidefinite matrix (F, F)."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.t()


def frechet(fake: Gaussian, real: Gaussian, real_root: Tensor) -> Tensor:
    """Returns the Fréchet distance, a scalar (FID, equation 6).

    The trace of (a b)^(1/2) comes from the eigenvalues of b^(1/2) a b^(1/2), which are real; real_root is b^(1/2).
    """
    roots = torch.linalg.eigvalsh(real_root @ fake.covariance @ real_root).clamp(min=0).sqrt()
    distance = (fake.mean - real.mean).square().sum()
    return distance + fake.covariance.trace() + real.covariance.trace() - 2 * roots.sum()


def frechet_distance(features: Tensor, target: Tensor) -> float:
    """Returns the Fréchet distance of two sets of features, (N, F) and (M, F)."""
    real = gaussian_of(target)
    return float(frechet(gaussian_of(features), real, root(real.covariance)))


def kernel_distance(fake: Tensor, real: Tensor) -> Tensor:
    """Returns the mean unbiased MMD of random subsets of features, drawn as in torch-fidelity; it may be negative."""
    size, rng = min(SUBSET_SIZE, len(fake), len(real)), np.random.RandomState(SUBSET_SEED)
    num_subsets = 1 if size == len(fake) == len(real) else SUBSETS  # all subsets would be the same
    distances = []
    for _ in range(num_subsets):
        rows = [torch.from_numpy(rng.choice(len(x), size, replace=False)).to(x.device) for x in (fake, real)]
        distances.append(poly_mmd(real[rows[1]], fake[rows[0]]))
    return torch.stack(distances).mean()


def radii(points: Tensor, neighbours: int) -> Tensor:
    """Returns the distances (N, neighbours) of points (N, F) to their nearest neighbours, nearest first."""
    found = [torch.cdist(some, points).topk(neighbours + 1, largest=False).values for some in points.split(BLOCK)]
    return torch.cat(found)[:, 1:]  # a point is nearest to itself


def neighbourhoods(fake: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Returns precision, recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020) of features.

    fake and real are (N, F) and (M, F); each value is a float64 scalar.

    The ball of a point reaches to its third nearest neighbour, for density and coverage to its fifth.
    Precision: the share of fakes within the ball of any real point. Recall: the share of real points within the ball of
    any fake. Density: the mean number of real balls that hold a fake, divided by five. Coverage: the share of real
    balls that hold any fake.
    """
    real_radii, fake_radii = (radii(x, max(NEIGHBOURS.values())) for x in (real, fake))
    near = {name: (fake_radii if name == "recall" else real_radii)[:, k - 1] for name, k in NEIGHBOURS.items()}
    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    recalled, held, covered = [], [], []
    for rows in torch.arange(len(real), device=real.device).split(BLOCK):
        distances = torch.cdist(real[rows], fake)  # (block, N)
        precise |= (distances <= near["precision"][rows, None]).any(dim=0)
        recalled.append((distances <= near["recall"]).any(dim=1))
        held.append((distances <= near["density"][rows, None]).sum())
        covered.append((distances <= near["coverage"][rows, None]).any(dim=1))
    return {
        "precision": precise.double().mean(),
        "recall": torch.cat(recalled).double().mean(),
        "density": torch.stack(held).sum().double() / (NEIGHBOURS["density"] * len(fake)),
        "coverage": torch.cat(covered).double().mean(),
    }


class PictureQuality(Metric):
    """Distances of generated images from real ones; every image goes through the network once.

    network: maps images to features. Only Inception's distances are called fid and kid; those of other networks are
        NAME/frechet_distance and NAME/kernel_distance, and the shares NAME/precision and so on.
    real: the features of all real images (N, F), the same in every process.
    measures: fid stores only sums; kid and prdc (precision, recall, density, coverage) store all features.
    settings: keyword arguments of torchmetrics' Metric, such as sync_on_compute.
    Raises ValueError for real features of another shape.
    """

    real_root: Tensor  # (F, F) float64
    sum: Tensor  # (F,) float64
    products: Tensor  # (F, F) float64
    count: Tensor  # () int64
    real: Tensor  # (N, F) float64
    features: list[Tensor]  # each (B, F); one tensor after the processes' states are gathered
    ids: list[Tensor]  # each (B,) int64
    full_state_update = False

    def __init__(
        self, network: FeatureNetwork, real: Tensor, measures: Iterable[Measure] = MEASURES, **settings
    ) -> None:
        super().__init__(**settings)
        self.network, self.measures, dim = network, set(measures), network.num_features
        if real.ndim != 2 or real.shape[1] != dim:
            raise ValueError(f"real features of shape {tuple(real.shape)}: expected (N, {dim})")
        if "fid" in self.measures:
            self.real_gaussian = gaussian_of(real)
            self.register_buffer("real_root", root(self.real_gaussian.covariance), persistent=False)
            self.add_state("sum", torch.zeros(dim, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state("products", torch.zeros(dim, dim, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        if self.keeps_features:
            self.register_buffer("real", real.double(), persistent=False)
            self.add_state("features", [], dist_reduce_fx="cat")
            self.add_state("ids", [], dist_reduce_fx="cat")

    @property
    def keeps_features(self) -> bool:
        """Whether a requested measure needs the features of all images."""
        return bool({"kid", "prdc"} & self.measures)

    def update(self, images: Tensor, ids: Tensor) -> None:
        """Adds generated images, uint8 (B, 3, H, W); ids (B,), all different, fix their order among all processes.

        Every process needs at least one update, which may hold no images. Raises ValueError for NaN or infinity.
        """
        features = features_of(self.network, images)  # (B, F)
        if not features.isfinite().all():
            raise ValueError("features hold NaN or infinity")
        if "fid" in self.measures:
            self.sum += features.double().sum(0)
            self.products += features.double().t() @ features.double()
            self.count += len(features)
        if self.keeps_features:
            self.features.append(features)
            self.ids.append(ids.to(features.device).long())

    def compute(self) -> dict[str, Tensor]:
        """Returns the values by name, scalars; raises ValueError if kid or prdc have too few images."""
        values: dict[str, Tensor] = {}
        if "fid" in self.measures:
            real = Gaussian(*(x.to(self.sum.device) for x in self.real_gaussian))
            values["fid"] = frechet(gaussian(self.sum, self.products, self.count), real, self.real_root)
        if self.keeps_features:
            fake = dim_zero_cat(self.features)[dim_zero_cat(self.ids).argsort()].double()
            if min(len(fake), len(self.real)) <= max(NEIGHBOURS.values()):
                raise ValueError(f"{len(fake)} pictures against {len(self.real)}: too few to compare")
        if "kid" in self.measures:
            values["kid"] = kernel_distance(fake, self.real)
        if "prdc" in self.measures:
            values |= neighbourhoods(fake, self.real)
        return {named(name, self.network.name): value for name, value in values.items()}


def named(measure: str, network: str) -> str:
    """Returns the name of a measure on the features of a network, whose name is empty for Inception."""
    if not network:
        return measure
    return f"{network}/{ {'fid': 'frechet_distance', 'kid': 'kernel_distance'}.get(measure, measure) }"
