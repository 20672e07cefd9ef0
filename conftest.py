"""Tests run the notebooks at the smallest budget, unless told otherwise, and use one thread: they run side by side."""

import os

os.environ.setdefault("HGPOSE_BUDGET", "fast")
os.environ.setdefault("OMP_NUM_THREADS", "1")
