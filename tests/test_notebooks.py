"""Notebook 1 on a reader's own data: the one variable HGPOSE_DATA, here an LSP folder."""

import os
import subprocess
import sys

import numpy as np
import scipy.io

from hgpose_utils.annotations import read_people
from hgpose_utils.budget import ROOT
from hgpose_utils.skeleton import LSP_TO_MPII


def as_lsp(dataset, folder, times):
    """The dataset's photos and joints in LSP's layout, several times over."""
    (folder / "images").mkdir(parents=True)
    people = read_people(dataset).drop_duplicates("image")
    rows = [people.iloc[i % len(people)] for i in range(times * len(people))]
    for number, person in enumerate(rows, 1):
        (folder / f"images/im{number:04d}.jpg").symlink_to(person.image)
    points = np.stack([person.joints[LSP_TO_MPII] for person in rows])  # [N, 14, 2]
    blocked = np.isnan(points).any(-1, keepdims=True)
    joints = np.concatenate([np.nan_to_num(points) + 1, blocked], -1)
    scipy.io.savemat(folder / "joints.mat", {"joints": joints.transpose(2, 1, 0)})
    return folder


def test_notebook_1_explores_lsp(dataset, tmp_path):
    lsp = as_lsp(dataset, tmp_path / "lsp", times=4)
    environment = os.environ | {"HGPOSE_DATA": str(lsp), "HGPOSE_BUDGET": "fast", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "01_data_exploration.py"],
        cwd=ROOT / "notebooks",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{len(read_people(lsp))} people:" in done.stdout
