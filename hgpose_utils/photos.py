"""Your own photos: their poses, drawn and written down."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hgpose_utils.crops import read_photo
from hgpose_utils.files import HgposeError, replacing
from hgpose_utils.overlay import draw_pose, to_image
from hgpose_utils.predict import PosePredictor
from hgpose_utils.skeleton import JOINTS, LIMBS

AT_ONCE = 8  # photos whose pixels are in memory together


def write_poses(predictor: PosePredictor, photos, out, coco: bool = False, progress: bool = True) -> list[str]:
    """Draws each photo's pose into ``out``/NAME-pose.jpg and writes poses.json, see `to_json` and `to_coco`.

    Photos that cannot be read are left out; returns one line about each of them. Raises `HgposeError`, and writes
    nothing, where two photos have one name.
    """
    targets = {path: Path(out) / f"{Path(path).stem}-pose.jpg" for path in photos}
    if len(set(targets.values())) < len(photos):
        raise HgposeError("two of the photos have the same name: predict them one by one, into different folders")
    poses, sizes, problems = {}, {}, []
    bar = tqdm(None, "photos", len(photos), disable=None if progress else True)
    with bar:
        for some in _readable(photos, problems):
            joints, confidence = predictor.batch(list(some.values()))
            for (path, photo), pose, sure in zip(some.items(), joints, confidence, strict=True):
                poses[path], sizes[path] = np.column_stack([pose, sure]), photo.shape[:0:-1]
                image = to_image(photo)
                draw_pose(image, pose)
                with replacing(targets[path]) as file:
                    image.save(file, "JPEG", quality=90)
            bar.update(len(some))
    with replacing(Path(out) / "poses.json") as file:
        file.write_text(json.dumps(to_coco(poses, sizes) if coco else to_json(poses), indent=1) + "\n")
    return problems


def _readable(photos, problems: list[str]) -> Iterator[dict]:
    """Yields photos path -> uint8 [3, H, W], a few at a time; of those that cannot be read, says why."""
    some = {}
    for path in photos:
        try:
            some[path] = read_photo(path, upright=True)
        except HgposeError as e:
            problems.append(str(e))
        if len(some) == AT_ONCE:
            yield some
            some = {}
    if some:
        yield some


def to_json(poses: dict) -> dict:
    """Poses path -> [16, 3] (x, y, confidence) as {path: {joint: [x, y, confidence]}}.

    x and y in pixels of the photo as it is seen (turned as its camera noted), (0, 0) the top left pixel's centre; the
    confidence is the heatmap's highest value, about 1 at best.
    """
    return {
        str(path): dict(zip(JOINTS, [[round(float(v), 2) for v in joint] for joint in pose], strict=True))
        for path, pose in poses.items()
    }


def to_coco(poses: dict, sizes: dict) -> dict:
    """Poses path -> [16, 3] and sizes path -> (width, height) in COCO's keypoint layout, with MPII's 16 joints.

    ``keypoints`` is x, y, v joint after joint, v = 2 (labelled, visible) throughout; ``score`` is the mean confidence.
    Source: https://cocodataset.org/#format-data.
    """
    bones = [[a + 1, b + 1] for a, b, _ in LIMBS]  # COCO counts joints from 1
    images = [
        {"id": i, "file_name": str(path), "width": int(sizes[path][0]), "height": int(sizes[path][1])}
        for i, path in enumerate(poses, 1)
    ]
    annotations = [
        {
            "id": i,
            "image_id": i,
            "category_id": 1,
            "num_keypoints": len(JOINTS),
            "keypoints": [v for x, y, _ in pose for v in (round(float(x), 2), round(float(y), 2), 2)],
            "score": round(float(pose[:, 2].mean()), 4),
        }
        for i, pose in enumerate(poses.values(), 1)
    ]
    person = {"id": 1, "name": "person", "keypoints": list(JOINTS), "skeleton": bones}
    return {"images": images, "annotations": annotations, "categories": [person]}
