"""Tests run the notebooks at the smallest budget, unless told otherwise, and use one thread: they run side by side."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("HGPOSE_BUDGET", "fast")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # once, not in each worker: the notebooks must train, not resume
        shutil.rmtree(Path(__file__).parent / "results/fast", ignore_errors=True)
