"""Tests run in two processes, so each takes one thread; it is set before torch is imported."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that are marked cuda are skipped where there is no GPU."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    for item in marked if not torch.cuda.is_available() else []:
        item.add_marker(pytest.mark.skip(reason="no GPU"))
