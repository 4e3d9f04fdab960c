"""Exact nearest-neighbour search by inner products."""

import numpy as np
import torch
from torch import Tensor

LARGEST_BLOCK = 2**24  # scores held at once


def nearest(queries: Tensor | np.ndarray, points: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the points (N, E) with the largest inner products, best first: scores and indices, each (Q, min(top, N)).

    The search is exact. faiss is used if it is installed; it finds the same points, but may order equal scores
    differently.
    """
    queries = torch.as_tensor(queries).detach().cpu().float().numpy()  # (Q, E)
    top = min(top, len(points))
    try:
        from faiss import IndexFlatIP
    except ImportError:
        return nearest_by_numpy(queries, points, top)
    index = IndexFlatIP(points.shape[1])
    index.add(np.ascontiguousarray(points))
    return index.search(np.ascontiguousarray(queries), top)


def nearest_by_numpy(queries: np.ndarray, points: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the same as `nearest`, computed in blocks of at most LARGEST_BLOCK scores to bound the memory."""
    block = max(1, LARGEST_BLOCK // len(points))
    found = [best_of(queries[i : i + block] @ points.T, top) for i in range(0, len(queries), block)]
    scores, rows = zip(*found, strict=True)
    return np.concatenate(scores), np.concatenate(rows)


def best_of(scores: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `top` largest values of each row of scores (Q, N), best first, and their indices, each (Q, top)."""
    rows = np.argpartition(scores, -top, axis=1)[:, -top:]  # (Q, top), in no order
    order = np.argsort(-np.take_along_axis(scores, rows, axis=1), axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)
    return np.take_along_axis(scores, rows, axis=1), rows
