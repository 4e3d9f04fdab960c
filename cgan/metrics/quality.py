"""How like real pictures generated ones are, by their features: distances of the sets, and how they cover each other.

On Inception's features the distances are FID (Heusel et al. 2017) and KID (Binkowski et al. 2018), equal to
torch-fidelity's. torchmetrics has both, but hangs on KID where processes were updated another number of times, draws
its subsets without a seed, and counts the real side once a process; here the real side is fixed, and counted once.
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
SUBSETS, SUBSET_SIZE, SUBSET_SEED = 100, 1000, 2020  # of KID, as in torch-fidelity
NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}  # as in the papers
BLOCK = 1024  # rows of the matrix of distances that are formed at once


class Gaussian(NamedTuple):
    """Through features."""

    mean: Tensor  # (F,) float64
    covariance: Tensor  # (F, F) float64


def gaussian(total: Tensor, products: Tensor, count: Tensor | int) -> Gaussian:
    """From sums over features: of themselves (F,) and of their outer products (F, F)."""
    mean = total / count
    return Gaussian(mean, (products - count * mean.outer(mean)) / (count - 1))


def gaussian_of(features: Tensor) -> Gaussian:
    """The Gaussian of features (N, F)."""
    features = features.double()
    return gaussian(features.sum(0), features.t() @ features, len(features))


def root(matrix: Tensor) -> Tensor:
    """The square root of a positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.t()


def frechet(fake: Gaussian, real: Gaussian, real_root: Tensor) -> Tensor:
    """Equation 6 of FID; the trace of (a b)^(1/2) from eigenvalues of b^(1/2) a b^(1/2), which are real."""
    roots = torch.linalg.eigvalsh(real_root @ fake.covariance @ real_root).clamp(min=0).sqrt()
    distance = (fake.mean - real.mean).square().sum()
    return distance + fake.covariance.trace() + real.covariance.trace() - 2 * roots.sum()


def frechet_distance(features: Tensor, target: Tensor) -> float:
    """Of two sets of features (N, F)."""
    real = gaussian_of(target)
    return float(frechet(gaussian_of(features), real, root(real.covariance)))


def kernel_distance(fake: Tensor, real: Tensor) -> Tensor:
    """Mean unbiased MMD of random subsets of features (N, F), drawn as torch-fidelity draws them; may be negative."""
    size, rng = min(SUBSET_SIZE, len(fake), len(real)), np.random.RandomState(SUBSET_SEED)
    num_subsets = 1 if size == len(fake) == len(real) else SUBSETS  # all subsets would be the same
    distances = []
    for _ in range(num_subsets):
        rows = [torch.from_numpy(rng.choice(len(x), size, replace=False)).to(x.device) for x in (fake, real)]
        distances.append(poly_mmd(real[rows[1]], fake[rows[0]]))
    return torch.stack(distances).mean()


def radii(points: Tensor, neighbours: int) -> Tensor:
    """Distances of points (N, F) to their nearest others, (N, neighbours), nearest first."""
    found = [torch.cdist(some, points).topk(neighbours + 1, largest=False).values for some in points.split(BLOCK)]
    return torch.cat(found)[:, 1:]  # a point is nearest to itself


def neighbourhoods(fake: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020) of features (N, F).

    Precision: the share of fakes in the ball of a real one, whose radius is the distance to its third neighbour.
    Recall: the same the other way round. Density: in how many such balls, of five neighbours, a fake is, over five.
    Coverage: the share of these balls that hold a fake.
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
    """Distances of generated pictures from real ones; every picture goes through the network once.

    network: what turns pictures into features. Only Inception's distances are called fid and kid; those of another are
    NAME/frechet_distance and NAME/kernel_distance, and the shares NAME/precision and so on.
    real: features of the real pictures (N, F), all of them in every process.
    measures: fid needs sums alone, kid and prdc (precision, recall, density, coverage) keep all features.
    settings: torchmetrics', such as sync_on_compute.
    """

    full_state_update = False

    def __init__(
        self, network: FeatureNetwork, real: Tensor, measures: Iterable[Measure] = ("fid", "kid", "prdc"), **settings
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
        """Whether a wanted metric needs the features of all images."""
        return bool({"kid", "prdc"} & self.measures)

    def update(self, images: Tensor, ids: Tensor) -> None:
        """Add generated pictures, uint8 (B, 3, H, W); ids (B,), all different, fix their order among all processes.

        Every process needs an update, be it of no pictures.
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
        """Values by name; raises ValueError where there are too few pictures."""
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
    """The measure's name on the features of a network; Inception's is empty."""
    if not network:
        return measure
    return f"{network}/{ {'fid': 'frechet_distance', 'kid': 'kernel_distance'}.get(measure, measure) }"
