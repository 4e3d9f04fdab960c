"""Tests run in two processes, so each takes one thread; it is set before torch is imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
