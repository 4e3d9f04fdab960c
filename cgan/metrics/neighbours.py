"""Precision, recall, density and coverage of images by nearest neighbours of features, which torchmetrics lacks."""

import torch
from torch import Tensor

NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}  # as in the papers
BLOCK = 1024  # rows of the matrix of distances that are formed at once


def radii(points: Tensor, neighbours: int) -> Tensor:
    """Returns the distances (N, neighbours) of points (N, F) to their nearest neighbours, nearest first."""
    found = [torch.cdist(some, points).topk(neighbours + 1, largest=False).values for some in points.split(BLOCK)]
    return torch.cat(found)[:, 1:]  # a point is nearest to itself


def neighbourhoods(fake: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Returns precision, recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020) of features.

    fake and real are (N, F) and (M, F), each of more than five points; each value is a float64 scalar.

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
