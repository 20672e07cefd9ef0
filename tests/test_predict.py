import struct
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from hgpose_utils.augment import no_jitter
from hgpose_utils.crops import read_photo
from hgpose_utils.files import HgposeError
from hgpose_utils.heatmaps import decode, encode
from hgpose_utils.metrics import ReportPCK, pckh
from hgpose_utils.models import build_model
from hgpose_utils.predict import (
    SETTINGS,
    ZOOMS,
    PosePredictor,
    box_around,
    evaluate,
    evaluation_table,
    input_to_photo,
    person_boxes,
    photo_to_input,
    predict_people,
    true_people,
)
from hgpose_utils.skeleton import JOINTS
from hgpose_utils.train import Recipe, batches

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


class Symmetric(torch.nn.Module):
    """Knows left from right, and draws for a mirrored picture exactly the mirrored heatmaps, left and right swapped."""

    def __init__(self):
        super().__init__()
        tap = {"r": [1.0, 2, 4], "l": [4.0, 2, 1]}  # right joints look to one side, left ones to the other
        taps = [tap.get(name[0] if name[1] == "_" else "", [1.0, 3, 1]) for name in JOINTS]
        self.taps = torch.nn.Parameter(torch.tensor(taps)[:, None, None])
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        grey = F.avg_pool2d(images.mean(1, keepdim=True), 4)
        return [F.conv2d(grey, self.taps, padding=(0, 1))]


def test_joints_come_back_in_the_photos_own_pixels():
    photo = torch.zeros(3, 400, 600, dtype=torch.uint8)
    predictor = PosePredictor(bright_spot((8, 8)), size=64, flip=False)  # just below and right of the input's centre
    joints, confidence = predictor(photo, center=[300, 200 - 15 * 0.8], scale=0.8)  # 200 px around it
    assert joints.shape == (16, 2) and confidence.tolist() == [1] * 16
    assert np.allclose(joints, [300 + 2 * 200 / 64, 200 + 2 * 200 / 64], atol=1)


def test_an_exactly_symmetric_network_gains_nothing_from_flips():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    predictor = PosePredictor(Symmetric(), size=64)
    plain, flipped = (predictor.heatmaps(images, flip)[-1] for flip in (False, True))
    assert (plain[:, 0] - plain[:, 5]).abs().max() > 0.1  # ankles: left is not right
    assert torch.allclose(flipped, plain, atol=1e-5)


def test_flips_average_the_heatmaps_of_both_pictures():
    predictor = PosePredictor(bright_spot((3, 5)), size=64)  # sees the same spot in the mirrored picture
    heatmaps = predictor.heatmaps(torch.zeros(1, 3, 64, 64), flip=True)[-1][0]
    assert torch.equal(heatmaps.nonzero()[:2, 1:], torch.tensor([[5, 3], [5, 12]])) and heatmaps.max() == 0.5


def test_the_truth_is_where_training_has_it(crops):
    _, joints, _, _ = next(
        batches(crops, no_jitter(len(crops)), np.arange(len(crops)), Recipe(batch_size=99, size=64), "cpu")
    )
    assert np.allclose(true_people(crops, 64)[0], joints.numpy(), atol=1e-3, equal_nan=True)


def test_pckh_is_the_same_in_the_photo_and_in_the_input(crops):
    truth, head_size = true_people(crops, 64)
    pred = truth + np.random.default_rng(0).normal(0, 4, truth.shape)
    in_photo = input_to_photo(pred, crops.boxes[:, None], 64)
    assert np.allclose(photo_to_input(in_photo, crops.boxes[:, None], 64), pred, equal_nan=True)
    in_photo_head = crops.people.head_size.to_numpy()
    corners = np.stack([np.zeros((len(crops), 2)), np.stack([in_photo_head, 0 * in_photo_head], -1)])
    assert np.allclose(np.diff(photo_to_input(corners, crops.boxes, 64), axis=0)[0, :, 0], head_size)
    score = pckh(in_photo, np.stack(crops.people.joints), in_photo_head)
    assert score == pckh(pred, truth, head_size) and 0.2 < score < 0.8


def test_decoded_joints_come_back_to_the_photo_without_a_shift(crops):
    truth, _ = true_people(crops, 64)
    inside = ((truth > -0.5) & (truth < 63.5)).all(-1)
    maps, _ = encode(torch.from_numpy(truth), 16)
    photo_pixels = crops.boxes[:, None, 2:] / (1.5 * 64)  # an input pixel
    for quarter, most in ((False, 2), (True, 1)):
        found = input_to_photo(decode(maps, quarter)[0].numpy(), crops.boxes[:, None], 64)
        error = ((found - np.stack(crops.people.joints)) / photo_pixels)[inside]
        at_border = ((truth < 3.5) | (truth > 59.5))[inside] if quarter else np.zeros_like(error, bool)
        assert np.abs(error[~at_border]).max() <= most + 1e-6
        assert np.abs(error.mean(0)).max() < 3 * most / np.sqrt(3 * len(error))  # 3 standard errors around 0


def test_the_people_are_predicted_alike_in_every_batch_size(checkpoint, crops):
    predictor = PosePredictor.load(checkpoint, "cpu")
    whole = predict_people(predictor, crops, flip=True, quarter=True, batch_size=99)
    assert whole[0].shape == (len(crops), 16, 2) and whole[1].shape == (len(crops), 16)
    joints, confidence = predict_people(predictor, crops, flip=True, quarter=True, batch_size=7)
    assert np.array_equal(joints, whole[0]) and np.allclose(confidence, whole[1], atol=1e-4)
    assert evaluate(predictor, crops, batch_size=3) == evaluate(predictor, crops, batch_size=20)


def test_the_people_are_predicted_as_asked(checkpoint, crops):
    predictor, three = PosePredictor.load(checkpoint, "cpu"), crops.take(slice(3))
    images = predictor.inputs(three.images(slice(None)))
    for flip, quarter in SETTINGS:
        joints, confidence = predict_people(predictor, three, flip, quarter)
        expected = decode(predictor.heatmaps(images, flip)[-1], quarter)
        assert np.array_equal(joints, expected[0]) and np.array_equal(confidence, expected[1])


def test_the_table_has_every_metric_in_every_setting_from_two_runs(crops):
    predictor = PosePredictor(Symmetric(), size=64)
    table = evaluation_table(predictor, crops, batch_size=len(crops))
    assert predictor.model.calls == 2
    assert list(table.columns) == ["metric", "flip", "quarter", "mean", "total", *JOINTS]
    metrics = ["pck", "pck_torso", "pckh", "pckh_0.1", "pckh_auc"]
    assert list(zip(table.metric, table.flip, table.quarter, strict=True)) == [
        (metric, *setting) for metric in metrics for setting in SETTINGS
    ]
    assert np.allclose(table[list(JOINTS)].mean(axis=1), table["mean"])  # of the joints that count
    for flip, quarter in SETTINGS:
        rows = table[(table.flip == flip) & (table.quarter == quarter)].set_index("metric")
        assert rows["mean"].to_dict() == evaluate(predictor, crops, flip=flip, quarter=quarter)


def test_the_tables_pck_is_the_one_that_training_logs(checkpoint, crops):
    predictor = PosePredictor.load(checkpoint)
    recipe, metric = Recipe(batch_size=6, size=64), ReportPCK()
    for images, _, targets, weights in batches(crops, no_jitter(len(crops)), np.arange(len(crops)), recipe, "cpu"):
        metric.update(predictor.heatmaps(images)[-1].cpu(), targets, weights)
    table = evaluation_table(predictor, crops)
    assert table["mean"][0] == pytest.approx(float(metric.compute())) and table.metric[0] == "pck"


class Perfect(torch.nn.Module):
    """Draws the targets themselves, batch after batch."""

    def __init__(self, targets):
        super().__init__()
        self.weight, self.targets = torch.nn.Parameter(torch.zeros(1)), iter(targets)

    def forward(self, images):
        return [next(self.targets)]


def test_a_perfect_network_has_a_perfect_score(crops):
    targets, _ = encode(torch.from_numpy(true_people(crops, 64)[0]), 16)
    scores = evaluate(PosePredictor(Perfect(targets.split(6)), size=64), crops, batch_size=6)
    assert scores["pck"] == scores["pckh"] == 1 > scores["pckh_auc"] > scores["pckh_0.1"]
    assert scores["pck_torso"] > 0.95  # the smallest torsos are not much larger than a heatmap pixel


def test_without_a_place_the_middle_of_the_picture_is_tried_at_several_sizes():
    photo = torch.zeros(3, 300, 640, dtype=torch.uint8)
    boxes = person_boxes(photo)
    assert np.allclose(boxes[:, 2], np.array(ZOOMS) * 1.5 * 640, atol=1)
    assert np.allclose(boxes[:, :2] + boxes[:, 2:] / 2, [320, 150], atol=1)
    around = person_boxes(photo, center=[100, 50])
    assert len(around) == len(ZOOMS) and np.allclose((around[:, 0] + around[:, 2] / 2), 100, atol=1)
    assert len(person_boxes(photo, scale=1.2)) == len(person_boxes(photo, [100, 50], 1.2)) == 1


@pytest.mark.parametrize("place", [{"scale": 0}, {"scale": np.nan}, {"center": [np.inf, 0], "scale": 1}])
def test_a_place_that_is_none_is_refused(place):
    with pytest.raises(HgposeError, match="no place"):
        PosePredictor(bright_spot((8, 8)), size=64)(torch.zeros(3, 40, 60, dtype=torch.uint8), **place)


class Brightness(torch.nn.Module):
    """Sees every joint where its input is brightest over a third of the side, and is as sure as it is bright."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        bright = F.avg_pool2d(F.avg_pool2d(images.mean(1, keepdim=True) + 0.5, 4), 5, 1, 2, count_include_pad=False)
        return [bright.expand(-1, 16, -1, -1)]


@pytest.mark.parametrize("corner", [(60, 60), (15, 40), (130, 100)])
def test_the_most_confident_square_is_kept(corner):
    photo = torch.zeros(3, 200, 200, dtype=torch.uint8)
    x, y = corner
    photo[:, y : y + 40, x : x + 40] = 255
    predictor = PosePredictor(Brightness(), size=64)
    boxes, joints, confidence = predictor.find([photo])
    (alone,), *_ = predictor.find([photo], scales=[min(ZOOMS) * 200 / 250])
    left, top, side = boxes[0]
    assert side < alone[2]  # nearer than the nearest of those tried first
    assert x <= left <= left + side <= x + 40 and y <= top <= top + side <= y + 40
    assert ((joints[0] >= corner) & (joints[0] < np.add(corner, 40))).all() and (confidence[0] > 0.9).all()


def test_a_person_is_looked_at_where_her_surest_joints_are():
    joints, sure = np.tile([50.0, 20.0], (16, 1)), np.full(16, 0.4)
    joints[0], joints[1], sure[1] = [90, 120], [500, 500], 0.1
    assert box_around(joints, sure).tolist() == pytest.approx([70 - 120, 70 - 120, 1.5 * 160], abs=1)


def test_a_batch_is_its_photos_one_by_one(checkpoint, dataset):
    photos = sorted((dataset / "images").glob("*"))[:3]
    predictor = PosePredictor.load(checkpoint, "cpu")
    centers, scales = [[50, 60], None, [90, 80]], [1, None, 0.5]
    joints, confidence = predictor.batch(photos, centers, scales, batch_size=4)
    for i, photo in enumerate(photos):
        alone, sure = predictor(photo, centers[i], scales[i])
        assert np.allclose(joints[i], alone) and np.allclose(confidence[i], sure, atol=1e-4)


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
