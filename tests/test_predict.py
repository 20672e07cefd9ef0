import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hgpose_utils.crops import read_photo
from hgpose_utils.files import HgposeError
from hgpose_utils.models import build_model
from hgpose_utils.predict import PosePredictor, person_box, write_poses

HG = {"model": "hg", "stacks": "1", "size": "64"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained HG-1: its poses are nonsense, its arithmetic is not."""
    file = tmp_path_factory.mktemp("checkpoint") / "hg.safetensors"
    torch.manual_seed(0)
    save_file(build_model("hg").state_dict(), file, HG)
    return file


def bright_spot(heatmap_pixel, size=16):
    """A model that sees every joint at one heatmap pixel (x, y)."""

    class Spot(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            heatmaps = torch.zeros(len(images), 16, size, size)
            heatmaps[..., heatmap_pixel[1], heatmap_pixel[0]] = 1
            return [heatmaps]

    return Spot()


def test_joints_come_back_in_the_photos_own_pixels():
    photo = torch.zeros(3, 400, 600, dtype=torch.uint8)
    predictor = PosePredictor(bright_spot((8, 8)), size=64)  # just below and right of the input's centre
    joints, confidence = predictor(photo, center=[300, 200 - 15 * 0.8], scale=0.8)  # a box of 200 px around (300, 200)
    assert joints.shape == (16, 2) and confidence.tolist() == [1] * 16
    assert np.allclose(joints, [300 + 2 * 200 / 64, 200 + 2 * 200 / 64], atol=1)


def test_without_a_box_the_whole_picture_is_the_box():
    photo = torch.zeros(3, 300, 640, dtype=torch.uint8)
    left, top, side = person_box(photo)
    assert side == 1.5 * 640 and abs(left + side / 2 - 320) <= 1 and abs(top + side / 2 - 150) <= 1


def test_a_path_an_image_an_array_and_a_tensor_are_the_same_photo(checkpoint, tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (80, 60, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.png")
    predictor = PosePredictor.load(checkpoint)
    photos = [tmp_path / "photo.png", Image.fromarray(array), array, torch.from_numpy(array).movedim(-1, 0)]
    poses = [predictor(photo)[0] for photo in photos]
    assert all(np.array_equal(pose, poses[0]) for pose in poses)


def test_half_precision_weights_load(checkpoint, tmp_path):
    weights = {k: v.half() if v.is_floating_point() else v for k, v in load_file(checkpoint).items()}
    save_file(weights, tmp_path / "half.safetensors", HG)
    assert PosePredictor.load(tmp_path / "half.safetensors").name == "hg-s1"


@pytest.mark.parametrize(
    "about", [{}, {"model": "hru", "stacks": "1", "size": "64"}, {"model": "hg", "stacks": "one", "size": "64"}]
)
def test_a_checkpoint_of_another_network_is_refused(checkpoint, tmp_path, about):
    save_file(load_file(checkpoint), tmp_path / "other.safetensors", about)
    with pytest.raises(HgposeError, match=r"other\.safetensors"):
        PosePredictor.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(HgposeError, match="damaged"):
        PosePredictor.load(tmp_path / "damaged")


def test_poses_are_drawn_and_written(checkpoint, dataset, tmp_path):
    photos = sorted((dataset / "images").glob("*"))[:2]
    write_poses(PosePredictor.load(checkpoint), photos, tmp_path / "out")
    poses = json.loads((tmp_path / "out/poses.json").read_text())
    assert list(poses) == [str(photo) for photo in photos]
    assert len(poses[str(photos[0])]["head_top"]) == 3
    assert Image.open(tmp_path / "out" / f"{photos[0].stem}-pose.png").size[0] == 600
    with pytest.raises(HgposeError, match="same name"):
        write_poses(PosePredictor.load(checkpoint), [photos[0], photos[0]], tmp_path)


def test_a_phone_photo_is_turned_upright(tmp_path):
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "phone.jpg", exif=exif)
    assert read_photo(tmp_path / "phone.jpg").shape == (3, 20, 40)
    assert read_photo(tmp_path / "phone.jpg", upright=True).shape == (3, 40, 20)
    assert read_photo(Image.open(tmp_path / "phone.jpg"), upright=True).shape == (3, 40, 20)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
@pytest.mark.parametrize("kind", ["jpg", "png", "gif", "webp", "tiff", "bmp"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode, kind):
    if mode == "I;16" and kind not in ("png", "tiff"):
        pytest.skip(f"no {kind} holds 16 bits")
    grey = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (32, 1))
    picture = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    try:
        picture.save(tmp_path / f"x.{kind}")
    except (OSError, ValueError):
        pytest.skip(f"no {kind} holds {mode}")
    photo = read_photo(tmp_path / f"x.{kind}")
    assert photo.shape == (3, 32, 48) and photo.dtype == torch.uint8
    if mode not in ("1", "CMYK"):
        assert np.abs(photo.float().mean(0).numpy() - grey).mean() < 8


def test_a_picture_too_large_for_the_memory_is_refused_by_its_header(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(HgposeError, match=r"bomb\.png.*pixels"):
        read_photo(tmp_path / "bomb.png")


@pytest.mark.parametrize("kept", [0, 2, 100, 700])
def test_a_cut_off_picture_is_named_or_read(tmp_path, kept):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:kept])
    with pytest.raises(HgposeError, match=r"x\.jpg"):
        read_photo(tmp_path / "x.jpg")


def test_what_is_no_photo_is_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    with pytest.raises(HgposeError, match=r"x\.jpg"):
        read_photo(tmp_path / "x.jpg")
    with pytest.raises(HgposeError, match="three channels"):
        read_photo(np.zeros((4, 4), np.uint8)[None])
