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
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import pandas as pd
import scipy.io
from scipy.io.matlab import MatReadError

from hgpose_utils.files import HgposeError
from hgpose_utils.skeleton import LSP_TO_MPII

COLUMNS = ["image", "center", "scale", "head_size", "split", "joints", "visible"]
DAMAGED = (ValueError, LookupError, AttributeError, TypeError, OSError, EOFError, zlib.error, BadZipFile, MatReadError)
MPII_VALIDATION = 2958 / 25204  # the usual validation split's share of the people (Tompson et al.)


def read_people(path) -> pd.DataFrame:
    """The people of a dataset, one row each (columns above).

    ``path`` is MPII's folder or its ``.mat``, a folder made by ``hgpose synth``, PyTorch-Pose's ``.json`` or
    ``.json.gz`` (with MPII's ``.mat`` beside it, people get their head sizes from there), or the folder or the ``.zip``
    of LSP or LSP Extended. People whose centre or scale cannot be are left out; ``attrs["left_out"]`` counts them.
    Raises `HgposeError` where no annotations are found or they cannot be read.
    """
    file = Path(path)
    try:
        file, folder = _annotation_file(file)
        if file.name.endswith((".json", ".json.gz")):
            mats = sorted(folder.glob("*.mat"))
            rows = list(_read_json(file, _head_sizes(_load_mat(mats[0].read_bytes())["RELEASE"]) if mats else {}))
        else:
            mat = _load_mat(stored_bytes(file))
            lsp = "joints" in mat
            rows = list(_read_lsp(mat["joints"], folder) if lsp else _read_mpii(mat["RELEASE"], folder))
    except DAMAGED as e:
        raise HgposeError(f"cannot read the annotations in {file}: {e or type(e).__name__}; get the file again") from e
    everybody = pd.DataFrame(rows, columns=COLUMNS)
    people = everybody[[_can_be(*row) for row in zip(everybody.center, everybody.scale, strict=True)]]
    people = people.reset_index(drop=True)
    if people.empty:
        raise HgposeError(f"no annotated person in {file}: is it the right file?")
    people = _split_by_image(people) if set(people.split) == {"train"} else people
    people.attrs["left_out"] = len(everybody) - len(people)
    return people


def stored_bytes(path) -> bytes:
    """The content of a file, be it inside a zip file (``lsp.zip/joints.mat``). OSError or KeyError if there is none."""
    archive, name = _in_archive(Path(path))
    return _open_zip(archive).read(name) if archive else Path(path).read_bytes()


def _in_archive(path: Path) -> tuple[Path | None, str]:
    """The zip file that a path leads into, and the rest of the path; None and the whole path if there is none."""
    archive = next((p for p in path.parents if p.suffix == ".zip" and p.is_file()), None)
    return archive, (path.relative_to(archive) if archive else path).as_posix()


@lru_cache(2)
def _open_zip(path: Path) -> ZipFile:
    return ZipFile(path)


def _load_mat(content: bytes) -> dict:
    return scipy.io.loadmat(BytesIO(content), struct_as_record=False, squeeze_me=True)


def _can_be(center, scale) -> bool:
    return bool(np.isfinite(center).all() and (np.abs(center) < 1e5).all() and 0.01 < scale < 100)


def _annotation_file(path: Path) -> tuple[Path, Path]:
    """The annotation file that a path means, and the folder that the images' paths start from."""
    if path.suffix == ".zip" and path.is_file():
        names = [name for name in _open_zip(path).namelist() if Path(name).name == "joints.mat"]
        if not names:
            raise HgposeError(f"no joints.mat in {path}: is it the zip file of LSP?")
        return path / names[0], (path / names[0]).parent
    if path.is_file():
        return path, path.parent
    if not path.exists():
        raise HgposeError(f"no dataset at {path}: give a folder or an annotation file (data/README.md says how)")
    patterns = ("*.json", "*.json.gz", "*.mat", "*/*.mat")
    found = [f for pattern in patterns for f in sorted(path.glob(pattern)) if f.name != "synthetic.json"]
    if not found:
        raise HgposeError(f"no annotations (.mat, .json or .json.gz) in {path}: see data/README.md")
    return found[0], found[0].parent


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
            center = float(position.x) - 1, float(position.y) - 1
            yield _person(image, center, scale, _head_size(rect), "train" if is_train else "val", joints, visible)


def _head_size(rect) -> float:
    """0.6 × the diagonal of the head box; NaN where there is none."""
    corners = [getattr(rect, name, np.nan) for name in ("x1", "y1", "x2", "y2")]
    x1, y1, x2, y2 = (float(v) if np.size(v) == 1 else np.nan for v in corners)
    return 0.6 * np.hypot(x2 - x1, y2 - y1)


def _head_sizes(release) -> dict[tuple[int, int], float]:
    """The head size of every person in MPII's .mat, by the numbers of image and person, counted from 1."""
    images = enumerate(np.atleast_1d(release.annolist), start=1)
    rects = ((i, enumerate(np.atleast_1d(getattr(image, "annorect", [])), start=1)) for i, image in images)
    return {(i, k): _head_size(rect) for i, people in rects for k, rect in people}


def _is_visible(flag) -> bool:
    """MPII writes 1, '1', 0, '0', or nothing at all (always so for upper_neck and head_top, which are seen)."""
    return np.size(flag) == 0 or bool(int(flag))


def _read_json(file: Path, head_sizes: dict):
    """PyTorch-Pose's list of people: joint_self [16, 3], objpos, scale_provided, isValidation; no head box."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt") as f:
        annotations = json.load(f)
    for a in annotations:
        points = np.array(a["joint_self"], float)
        joints = np.where((points[:, :2] == 0).all(axis=1, keepdims=True), np.nan, points[:, :2] - 1)
        center = np.array(a["objpos"], float) - 1
        split = "val" if a["isValidation"] else "train"
        image = file.parent / "images" / a["img_paths"]
        head = head_sizes.get((a.get("annolist_index"), a.get("people_index")), np.nan)
        yield _person(image, center, a["scale_provided"], head, split, joints, points[:, 2] > 0)


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
    """A validation split where the file has none: whole images in a fixed random order, 11.7 % of the people.

    Of MPII's, 2,958 people, as in the usual split (whose images only PyTorch-Pose's file names).
    """
    wanted = min(round(MPII_VALIDATION * len(people)), 2958)
    groups = people.groupby("image", sort=True).indices
    split = people.split.to_numpy(object).copy()
    for image in np.random.default_rng(0).permutation(list(groups)):
        if len(groups[image]) <= wanted:
            split[groups[image]] = "val"
            wanted -= len(groups[image])
    return people.assign(split=split)


def check_people(path) -> list[str]:
    """What a dataset holds, and what to do next, one line each: for ``hgpose data check``."""
    people = read_people(path)
    joints, visible = np.stack(people.joints), np.stack(people.visible)
    annotated = ~np.isnan(joints).any(-1)
    images = people.image.unique()
    missing = [Path(image).name for image in images if not _is_there(image)]
    heights = 200 * people.scale.to_numpy()[:, None]
    reach = np.linalg.norm(joints - np.stack(people.center)[:, None], axis=-1) / heights
    far = np.nan_to_num(reach).max(axis=1) > 3
    train, hidden = (people.split == "train").sum(), annotated & ~visible
    lines = [
        f"people        {len(people):,}: {train:,} to train on, {len(people) - train:,} to validate",
        f"images        {len(images):,}, of which {len(missing):,} are missing",
        f"joints        {annotated.mean():.1%} annotated, {hidden.sum() / annotated.sum():.1%} of these hidden",
        f"head sizes    {people.head_size.notna().mean():.0%} known (PCKh needs them)",
        f"odd           {people.attrs['left_out']:,} people left out (no sensible centre or scale), "
        f"{far.sum():,} with a joint further than three body heights away",
    ]
    if missing:
        lines.append(
            f"next          put the photos in place, {Path(missing[0]).name} for one; or train without those people"
        )
    else:
        lines.append(f"next          hgpose crop {path}")
    return lines


def _is_there(image: str) -> bool:
    archive, name = _in_archive(Path(image))
    return name in _open_zip(archive).NameToInfo if archive else Path(image).is_file()
