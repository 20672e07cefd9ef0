"""From an annotation file to one table of people, whatever the dataset.

Every reader gives the same columns, one row a person:

    image      path of the picture
    center     [2], MPII's objpos: a point on the person's torso, in pixels
    scale      the person's height / 200 px (MPII); the crop of a person is the square of 250 · scale px
               around (center_x, center_y + 15 · scale)
    head_size  0.6 × the diagonal of the head box in pixels, the unit of PCKh; NaN where the dataset has no head box
    split      "train" or "val"
    joints     [16, 2] in pixels, (0, 0) the centre of the top left one; NaN: not annotated
    visible    [16], False where a joint is hidden (its position is then a careful guess) or not annotated
"""

import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io
from scipy.io.matlab import MatReadError

from hgpose_utils.files import HgposeError
from hgpose_utils.skeleton import LSP_TO_MPII

COLUMNS = ["image", "center", "scale", "head_size", "split", "joints", "visible"]
DAMAGED = (ValueError, LookupError, AttributeError, TypeError, OSError, EOFError, zlib.error, MatReadError)
MPII_VALIDATION = 2958 / 25204  # the usual validation split's share of the people (Tompson et al.)


def read_people(path) -> pd.DataFrame:
    """The people of a dataset, one row each (columns above).

    ``path`` is MPII's folder or its ``.mat``, a folder made by ``hgpose synth``, PyTorch-Pose's ``.json`` or
    ``.json.gz``, or the folder of LSP or LSP Extended. Raises `HgposeError` where no annotations are found or
    they cannot be read.
    """
    file = _annotation_file(Path(path))
    try:
        if file.name.endswith((".json", ".json.gz")):
            rows = list(_read_json(file))
        else:
            mat = scipy.io.loadmat(file, struct_as_record=False, squeeze_me=True)
            lsp = "joints" in mat
            rows = list(_read_lsp(mat["joints"], file.parent) if lsp else _read_mpii(mat["RELEASE"], file.parent))
    except DAMAGED as e:
        raise HgposeError(f"cannot read the annotations in {file}: {e or type(e).__name__}; get the file again") from e
    people = pd.DataFrame(rows, columns=COLUMNS)
    if people.empty:
        raise HgposeError(f"no annotated person in {file}: is it the right file?")
    return _split_by_image(people) if set(people.split) == {"train"} else people


def _annotation_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        raise HgposeError(f"no dataset at {path}: give a folder or an annotation file (data/README.md says how)")
    found = [f for pattern in ("*.mat", "*/*.mat", "*.json", "*.json.gz") for f in sorted(path.glob(pattern))]
    if not found:
        raise HgposeError(f"no annotations (.mat, .json or .json.gz) in {path}: see data/README.md")
    return found[0]


def _person(image, center, scale, head_size, split, joints, visible):
    annotated = ~np.isnan(joints).any(axis=1)
    return image.as_posix(), np.asarray(center, float), float(scale), head_size, split, joints, visible & annotated


def _read_mpii(release, folder: Path):
    """MPII's own layout. A person without position, scale or joints is left out: there is nothing to train on."""
    for annotation, is_train in zip(
        np.atleast_1d(release.annolist), np.atleast_1d(release.img_train).astype(bool), strict=True
    ):
        image = folder / "images" / annotation.image.name
        for rect in np.atleast_1d(getattr(annotation, "annorect", [])):
            points = getattr(getattr(rect, "annopoints", None), "point", [])
            position, scale = getattr(rect, "objpos", None), getattr(rect, "scale", [])
            if np.size(points) == 0 or not hasattr(position, "x") or np.size(scale) != 1:
                continue
            joints, visible = np.full((16, 2), np.nan), np.zeros(16, bool)
            for point in np.atleast_1d(points):
                joints[int(point.id)] = float(point.x) - 1, float(point.y) - 1  # MATLAB counts pixels from 1
                visible[int(point.id)] = _is_visible(getattr(point, "is_visible", []))
            head = 0.6 * np.hypot(float(rect.x2) - float(rect.x1), float(rect.y2) - float(rect.y1))
            center = float(position.x) - 1, float(position.y) - 1
            yield _person(image, center, scale, head, "train" if is_train else "val", joints, visible)


def _is_visible(flag) -> bool:
    """MPII writes 1, '1', 0, '0', or nothing at all (always so for upper_neck and head_top, which are seen)."""
    return np.size(flag) == 0 or bool(int(flag))


def _read_json(file: Path):
    """PyTorch-Pose's list of people: joint_self [16, 3], objpos, scale_provided, isValidation; no head box."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt") as f:
        annotations = json.load(f)
    for a in annotations:
        points = np.array(a["joint_self"], float)
        joints = np.where((points[:, :2] == 0).all(axis=1, keepdims=True), np.nan, points[:, :2] - 1)
        center = np.array(a["objpos"], float) - 1
        split = "val" if a["isValidation"] else "train"
        image = file.parent / "images" / a["img_paths"]
        yield _person(image, center, a["scale_provided"], np.nan, split, joints, points[:, 2] > 0)


def _read_lsp(points, folder: Path):
    """LSP ([3, 14, 2000], third row: 1 = hidden) and LSP Extended ([14, 3, 10000], third: 1 = annotated).

    They have no center and scale: the crop is put around the joints, with a third of their extent to spare.
    LSP's first half is for training, the second for testing; of LSP Extended every tenth number is kept for validation.
    """
    extended = points.shape[0] == 14
    points = np.moveaxis(points if extended else points.transpose(1, 0, 2), -1, 0).astype(float)
    for number, p in enumerate(points, start=1):
        if not np.isfinite(p).all():
            continue
        joints, visible = np.full((16, 2), np.nan), np.zeros(16, bool)
        annotated = p[:, 2] > 0 if extended else np.ones(14, bool)
        joints[LSP_TO_MPII[annotated]] = p[annotated, :2]
        visible[LSP_TO_MPII] = p[:, 2] > 0 if extended else p[:, 2] == 0
        if not annotated.any():
            continue
        low, high = np.nanmin(joints, axis=0), np.nanmax(joints, axis=0)
        scale = (4 / 3) * max((high - low).max(), 1) / 250
        center = (low + high) / 2 - [0, 15 * scale]
        name = f"im{number:05d}.jpg" if extended else f"im{number:04d}.jpg"
        train = number % 10 != 0 if extended else number <= len(points) // 2
        yield _person(folder / "images" / name, center, scale, np.nan, "train" if train else "val", joints, visible)


def _split_by_image(people: pd.DataFrame) -> pd.DataFrame:
    """A validation split where the file has none: whole images in a fixed random order, 11.7 % of the people."""
    wanted = round(MPII_VALIDATION * len(people))
    groups = people.groupby("image", sort=True).indices
    split = people.split.to_numpy(object).copy()
    for image in np.random.default_rng(0).permutation(list(groups)):
        if len(groups[image]) <= wanted:
            split[groups[image]] = "val"
            wanted -= len(groups[image])
    return people.assign(split=split)
