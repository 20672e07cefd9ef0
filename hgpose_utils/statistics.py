"""What the people of a dataset are like: how visible, large, varied. Lengths are in heights (200 · scale px)."""

import warnings

import numpy as np
import pandas as pd
from scipy.cluster.vq import kmeans2, vq

from hgpose_utils.metrics import pck
from hgpose_utils.skeleton import INDEX, JOINTS, LIMBS, PCKH_JOINTS

QUANTILES = np.linspace(0, 1, 41).round(3)
CLUSTERS = 12  # of poses, as many as can be looked at
TENTH_OF_THE_BOX = 1.25 / 10  # the reference of the report's PCK: the box's side is 1.25 heights


def joint_statistics(people: pd.DataFrame) -> pd.DataFrame:
    """One row per joint.

    annotated, hidden: shares of all, and of the annotated; x, y: standard deviation of the place around ``center``;
    limb: median length of the limb that begins there (see `skeleton.LIMBS`), NaN where none does.
    """
    joints, visible = np.stack(people.joints), np.stack(people.visible)
    annotated = ~np.isnan(joints).any(-1)
    places = in_heights(people)
    limb = np.full(len(JOINTS), np.nan)
    with warnings.catch_warnings():  # of joints that the dataset does not have
        warnings.simplefilter("ignore", RuntimeWarning)
        for start, end, _ in LIMBS:
            limb[start] = np.nanmedian(np.linalg.norm(places[:, start] - places[:, end], axis=-1))
        x, y = np.nanstd(places, axis=0).T
    hidden = (annotated & ~visible).sum(0) / np.where(annotated.any(0), annotated.sum(0), np.nan)
    columns = {"annotated": annotated.mean(0), "hidden": hidden, "x": x, "y": y, "limb": limb}
    return pd.DataFrame(columns, index=pd.Index(JOINTS, name="joint"))


def people_statistics(people: pd.DataFrame) -> pd.DataFrame:
    """One row per person.

    height: in pixels; annotated, hidden: numbers of joints; lean: degrees between the trunk (from the middle of the
    hips to the neck) and upright, 0 … 180, NaN where they are not annotated.
    """
    joints, visible = np.stack(people.joints), np.stack(people.visible)
    annotated = ~np.isnan(joints).any(-1)
    trunk = joints[:, INDEX["upper_neck"]] - joints[:, [INDEX["r_hip"], INDEX["l_hip"]]].mean(1)
    return pd.DataFrame(
        {
            "height": 200 * people.scale.to_numpy(),
            "annotated": annotated.sum(1),
            "hidden": (annotated & ~visible).sum(1),
            "lean": np.degrees(np.arctan2(np.abs(trunk[:, 0]), -trunk[:, 1])),
        }
    )


def in_heights(people: pd.DataFrame) -> np.ndarray:
    """The joints [N, 16, 2] as seen from the person's centre, in heights."""
    height = 200 * people.scale.to_numpy()[:, None, None]
    return (np.stack(people.joints) - np.stack(people.center)[:, None]) / height


def whole_poses(people: pd.DataFrame) -> np.ndarray:
    """The poses [M, 16, 2] in heights, of the people of whom all of PCKh's 14 joints are annotated."""
    poses = in_heights(people)
    return poses[~np.isnan(poses[:, PCKH_JOINTS]).any((1, 2))]


def cluster_poses(poses: np.ndarray, clusters: int = CLUSTERS, seed: int = 0) -> np.ndarray:
    """Typical poses [clusters, 16, 2] by k-means on PCKh's joints, the most frequent first.

    Pelvis and thorax, which some datasets lack, are put between the hips and the shoulders.
    """
    points = poses[:, PCKH_JOINTS].reshape(len(poses), -1)
    centres, labels = kmeans2(points, clusters, minit="++", rng=np.random.default_rng(seed))
    typical = np.empty((clusters, len(JOINTS), 2))
    typical[:, PCKH_JOINTS] = centres.reshape(clusters, -1, 2)
    for middle, sides in {"pelvis": ["r_hip", "l_hip"], "thorax": ["r_shoulder", "l_shoulder"]}.items():
        typical[:, INDEX[middle]] = typical[:, [INDEX[side] for side in sides]].mean(1)
    return typical[np.argsort(-np.bincount(labels, minlength=clusters), kind="stable")]


def nearest_pose(poses: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """Which of the ``typical`` poses [k, 16, 2] each of the ``poses`` [M, 16, 2] is nearest to: [M] numbers."""
    points, centres = (p[:, PCKH_JOINTS].reshape(len(p), -1) for p in (poses, typical))
    return vq(points, centres)[0]


def guessing(people: pd.DataFrame, clusters=(1, 4, 16, 64, 256)) -> pd.Series:
    """The report's PCK of a guess: the best of k typical training poses for each validation person, by k.

    One is the mean pose, and needs no picture. More say how much a picture still tells when the kind of pose is known.
    """
    training, validation = (whole_poses(people[people.split == split]) for split in ("train", "val"))
    found = {}
    for k in (k for k in clusters if k <= len(training) / 2):
        typical = cluster_poses(training, k)
        found[k] = pck(typical[nearest_pose(validation, typical)], validation, TENTH_OF_THE_BOX)
    return pd.Series(found, name="pck").rename_axis("clusters")


def dataset_statistics(people: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All of it as small tables, so that a dataset that may not be shared can be compared with another."""
    poses = whole_poses(people)
    typical = cluster_poses(poses)
    share = np.bincount(nearest_pose(poses, typical), minlength=len(typical)) / len(poses)
    columns = [f"{name}_{axis}" for name in JOINTS for axis in "xy"]
    return {
        "joints": joint_statistics(people),
        "people": people_statistics(people).quantile(QUANTILES).rename_axis("quantile"),
        "poses": pd.DataFrame(typical.reshape(len(typical), -1), columns=columns).assign(share=share),
        "guessing": guessing(people).to_frame(),
    }
