import json

import numpy as np
import pytest
import torch
from PIL import Image

from hgpose_utils.crops import read_photo
from hgpose_utils.files import HgposeError
from hgpose_utils.photos import write_poses
from hgpose_utils.skeleton import JOINTS


class Corners:
    """Finds every joint in the photo's bottom right pixel, and counts the photos it gets at once."""

    def __init__(self):
        self.asked = []

    def batch(self, photos):
        self.asked.append(len(photos))
        corners = [[photo.shape[2] - 1, photo.shape[1] - 1] for photo in photos]
        return np.repeat(np.array(corners, float)[:, None], 16, axis=1), np.full((len(photos), 16), 0.5)


@pytest.fixture
def photos(tmp_path):
    """A dozen pictures, 60 x 40; the fourth is no picture."""
    for i in range(12):
        Image.fromarray(np.full((40, 60, 3), 20 * i, np.uint8)).save(tmp_path / f"{i:02d}.png")
    (tmp_path / "03.png").write_bytes(b"no picture")
    return sorted(tmp_path.glob("*.png"))


def test_poses_are_drawn_and_written_and_one_bad_photo_stops_nothing(photos, tmp_path):
    predictor = Corners()
    problems = write_poses(predictor, photos, tmp_path / "out", progress=False)
    assert predictor.asked == [8, 3]
    assert len(problems) == 1 and "03.png" in problems[0] and "\n" not in problems[0]
    poses = json.loads((tmp_path / "out/poses.json").read_text())
    assert list(poses) == [str(photo) for photo in photos if photo.name != "03.png"]
    assert poses[str(photos[0])] == {joint: [59, 39, 0.5] for joint in JOINTS}
    drawn = read_photo(tmp_path / "out/00-pose.jpg")
    assert (
        drawn.shape == (3, 40, 60) and drawn[:, :30].max() < 20 < drawn[:, -3:, -3:].max()
    )  # black but for the joints
    assert not list(tmp_path.rglob("*.tmp")) and not (tmp_path / "out/03-pose.jpg").exists()


def test_coco_layout(photos, tmp_path):
    write_poses(Corners(), photos[:2], tmp_path / "out", coco=True, progress=False)
    coco = json.loads((tmp_path / "out/poses.json").read_text())
    assert coco["images"][1] == {"id": 2, "file_name": str(photos[1]), "width": 60, "height": 40}
    pose, person = coco["annotations"][1], coco["categories"][0]
    assert pose["image_id"] == 2 and pose["keypoints"] == [59, 39, 2] * 16 and pose["score"] == 0.5
    assert person["keypoints"] == list(JOINTS) and np.array(person["skeleton"]).min() == 1
    assert np.array(person["skeleton"]).max() == 16


def test_two_photos_of_one_name_are_refused_before_anything_is_written(photos, tmp_path):
    with pytest.raises(HgposeError, match="same name"):
        write_poses(Corners(), [photos[0], photos[0]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_drawing_is_turned_as_the_photo_is_seen(tmp_path):
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "phone.jpg", exif=exif)
    write_poses(Corners(), [tmp_path / "phone.jpg"], tmp_path / "out", progress=False)
    assert Image.open(tmp_path / "out/phone-pose.jpg").size == (20, 40)


def test_bytes_are_a_photo_too(photos):
    assert torch.equal(read_photo(photos[1].read_bytes()), read_photo(photos[1]))
    with pytest.raises(HgposeError, match="cannot read the photo: "):
        read_photo(b"no picture")
