"""torchmetrics' FID, KID, Inception score and MIFID on features that are computed beforehand.

The `feature` network of each is GivenFeatures, which returns what it is given, so that one pass through Inception, or
through what stands in for it, serves all of them. Features are handed over in float64: torchmetrics returns values of
their type, and autocast leaves float64 alone.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance
from torchmetrics.utilities import dim_zero_cat

from cgan.metrics.features import GivenFeatures

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020  # of KID, and of the Inception score's order, as in torch-fidelity
SPLITS = 10  # of the Inception score, as in its paper
BLOCK = 1024  # rows of the matrix of cosines that are formed at once


class ConvergentFID(FrechetInceptionDistance):
    """torchmetrics' FID, which ends with a number where fewer pictures than features were seen.

    torchmetrics 1.9.0 takes the eigenvalues of the product of two covariances, which is not symmetric. Where many
    are equal, as with few pictures, LAPACK may not converge and raises LinAlgError (seen with 32 pictures, torch 2.14).
    The same sum comes from a symmetric matrix then: the roots of the eigenvalues of b^(1/2) a b^(1/2).
    """

    def compute(self) -> Tensor:
        """Returns the distance, a scalar."""
        try:
            return super().compute()
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]  # documented by PyTorch
            (fake_mean, fake), (real_mean, real) = self.gaussian("fake"), self.gaussian("real")
            values, vectors = torch.linalg.eigh(real)
            root = vectors * values.clamp(min=0).sqrt() @ vectors.t()
            roots = torch.linalg.eigvalsh(root @ fake @ root).clamp(min=0).sqrt()
            distance = (fake_mean - real_mean).square().sum() + fake.trace() + real.trace() - 2 * roots.sum()
            return distance.to(self.orig_dtype)

    def gaussian(self, side: str) -> tuple[Tensor, Tensor]:
        """Returns the mean (F,) and the covariance (F, F) of the features of a side, fake or real."""
        total, products, count = (
            getattr(self, f"{side}_features_{name}") for name in ("sum", "cov_sum", "num_samples")
        )
        mean = total / count
        return mean, (products - count * mean.outer(mean)) / (count - 1)


def frechet_metric(num_features: int, **settings) -> FrechetInceptionDistance:
    """Returns torchmetrics' FID on features (B, num_features); real ones are kept when it is reset.

    settings: keyword arguments of torchmetrics' Metric, such as sync_on_compute.
    """
    return ConvergentFID(GivenFeatures(num_features), reset_real_features=False, **settings)


def frechet_distance(fake: Tensor, real: Tensor) -> float:
    """Returns the Fréchet distance of two sets of features (N, F) and (M, F) that this process has in full."""
    metric = frechet_metric(fake.shape[1], sync_on_compute=False).to(fake.device)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    return float(metric.compute())


class FidelityKID(KernelInceptionDistance):
    """torchmetrics' KID on the subsets that torch-fidelity draws; it may be negative.

    torchmetrics 1.9.0 draws them from PyTorch's global generator, so that two calls of compute() on the same features
    differ, and it refuses fewer images than subset_size. Here the seed is fixed, and the size follows the images.
    """

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns the mean and the standard deviation over the subsets, scalars."""
        real, fake = dim_zero_cat(self.real_features), dim_zero_cat(self.fake_features)
        size, rng = min(self.subset_size, len(fake), len(real)), np.random.RandomState(SEED)
        num_subsets = 1 if size == len(fake) == len(real) else self.subsets  # all subsets would be the same
        distances = []
        for _ in range(num_subsets):
            rows = [torch.from_numpy(rng.choice(len(x), size, replace=False)).to(x.device) for x in (fake, real)]
            distances.append(poly_mmd(real[rows[1]], fake[rows[0]], self.degree, self.gamma, self.coef))
        found = torch.stack(distances)
        return found.mean(), found.std(unbiased=False)


def kernel_distance(fake: Tensor, real: Tensor) -> Tensor:
    """Returns the mean unbiased MMD, a scalar, of random subsets of features (N, F) and (M, F) in float64."""
    with without_memory_warning():
        metric = FidelityKID(GivenFeatures(fake.shape[1]), SUBSETS, SUBSET_SIZE, sync_on_compute=False)
    metric.to(fake.device)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute()[0]


class FidelityInceptionScore(InceptionScore):
    """torchmetrics' Inception score in the order and the splits of torch-fidelity.

    torchmetrics 1.9.0 shuffles by PyTorch's global generator, so that two calls of compute() differ, and makes fewer
    splits than it is asked for where they would not be equal: 6 of 12 images in place of 10.
    """

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns the mean and the standard deviation over the splits, scalars."""
        logits = dim_zero_cat(self.features)
        order = torch.from_numpy(np.random.RandomState(SEED).permutation(len(logits)))
        log_p = logits[order.to(logits.device)].log_softmax(dim=1)
        splits = min(self.splits, len(log_p))
        ends = [len(log_p) * (i + 1) // splits for i in range(splits)]
        scores = []
        for some in log_p.tensor_split(ends[:-1]):
            log_mean = some.exp().mean(dim=0).log()
            scores.append((some.exp() * (some - log_mean)).sum(dim=1).mean().exp())
        found = torch.stack(scores)
        return found.mean(), found.std(unbiased=False)


def inception_score(logits: Tensor) -> Tensor:
    """Returns the Inception score (Salimans et al. 2016), at least 1, of logits (N, classes); the mean over SPLITS."""
    given = GivenFeatures(logits.shape[1])
    with without_memory_warning():
        metric = FidelityInceptionScore(given, splits=SPLITS, sync_on_compute=False).to(logits.device)
    metric.update(logits.double())
    return metric.compute()[0]


class TrainingMIFID(MemorizationInformedFrechetInceptionDistance):
    """torchmetrics' MIFID, by the distance of each generated image to the nearest real one (Bai et al. 2021).

    torchmetrics 1.9.0 takes it the other way round, from each real image to the nearest generated one. A generator that
    repeats ten of a thousand training images then seems to have memorised nothing: nine hundred and ninety of them are
    near no generated image. It also forms all N x M cosines at once, 7.2 GB in float64 for 30,000 images of each.
    """

    def compute(self) -> Tensor:
        """Returns the distance, a scalar: that of FID, divided by memorization_distance() where it is small."""
        real, fake = dim_zero_cat(self.real_features), dim_zero_cat(self.fake_features)
        distance, memorization = frechet_distance(fake, real), self.memorization_distance()
        penalty = memorization if float(memorization) < self.cosine_distance_eps else torch.ones_like(memorization)
        return distance / (penalty + 1e-14) if distance > 1e-8 else torch.zeros_like(penalty)  # as in torchmetrics

    def memorization_distance(self) -> Tensor:
        """Returns the mean cosine distance, a scalar in [0, 1], of generated images to the nearest real one."""
        real, fake = (unit_vectors(dim_zero_cat(x)) for x in (self.real_features, self.fake_features))
        return torch.cat([1 - (some @ real.t()).abs().amax(dim=1) for some in fake.split(BLOCK)]).mean()


def memorization(fake: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Returns mifid and memorization_distance of features (N, F) and those of training images (M, F), in float64."""
    with without_memory_warning():
        metric = TrainingMIFID(GivenFeatures(fake.shape[1]), sync_on_compute=False).to(fake.device)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return {"mifid": metric.compute(), "memorization_distance": metric.memorization_distance()}


def unit_vectors(features: Tensor) -> Tensor:
    """Returns features (N, F) at length 1, without those that are 0."""
    lengths = features.norm(dim=1, keepdim=True)
    return (features / lengths)[lengths[:, 0] > 0]


@contextmanager
def without_memory_warning() -> Iterator[None]:
    """Silences torchmetrics' warning that features are stored, which they are on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric .* will save all extracted features")
        yield
