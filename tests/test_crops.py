import shutil
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.transform import AffineTransform

from hgpose_utils.annotations import read_people
from hgpose_utils.crops import crop_box, crop_to_photo, cut, make_crops, one_ahead, photo_to_crop
from hgpose_utils.files import HgposeError
from hgpose_utils.synthetic import make_dataset

coordinate = st.floats(-2000, 2000)


@given(st.tuples(coordinate, coordinate), st.tuples(coordinate, coordinate), st.floats(0.05, 20), st.integers(64, 600))
def test_to_the_crop_and_back_is_exact(point, center, scale, side):
    box = crop_box(center, scale)
    there = photo_to_crop(np.array(point), box, side)
    assert np.allclose(crop_to_photo(there, box, side), point, atol=1e-6)
    zoom = side / box[2]  # skimage's own arithmetic, in coordinates that start at the pixels' corner
    other = AffineTransform(scale=zoom, translation=-box[:2] * zoom)(np.array(point) + 0.5)[0] - 0.5
    assert np.allclose(there, other, atol=1e-6)


def test_a_dot_lands_where_its_coordinates_do():
    photo = torch.zeros(3, 200, 300, dtype=torch.uint8)
    photo[:, 90:94, 150:154] = 255  # centre (151.5, 91.5)
    box = crop_box([140, 80], 0.4)
    crop = cut(photo, box, 96)[0].double()
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    seen = [(columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum()]
    assert np.allclose(seen, photo_to_crop(np.array([151.5, 91.5]), box, 96), atol=0.1)


def test_crops_are_made_once_and_follow_their_people(dataset, crops):
    assert len(crops) == len(read_people(dataset)) and crops.side == 96
    files = list((dataset / "crops").glob("96px-*.npy"))
    before = files[0].stat().st_mtime_ns
    again = make_crops(dataset, 64, progress=False)
    assert files[0].stat().st_mtime_ns == before
    part = again.take([3, 1])
    assert torch.equal(part.images([0]), crops.images([3]))
    assert np.array_equal(part.joints[1], crops.joints[1], equal_nan=True)
    assert set(crops.split("val").people.split) == {"val"}


def test_crops_in_memory_are_the_same_as_mapped_ones(crops):
    some = crops.take([5, 2, 9, 0])
    loaded = some.loaded("cpu")
    assert isinstance(loaded.store, torch.Tensor) and len(loaded.store) == 4
    for one, other in zip(some.stream([3, 1, 0], 2, "cpu"), loaded.stream([3, 1, 0], 2, "cpu"), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(loaded.take([2]).images([0]), crops.images([9]))


def test_one_ahead_makes_the_next_while_one_is_used():
    made = []

    def make(i):
        made.append(i)
        return -i

    results = one_ahead(make, range(4))
    assert next(results) == 0
    while len(made) < 2:  # the thread has its own pace
        time.sleep(0.01)
    assert made == [0, 1] and list(results) == [-1, -2, -3]
    assert list(one_ahead(make, [])) == []


def test_an_unreadable_photo_costs_one_person(tmp_path):
    folder = make_dataset(tmp_path / "d", 10, size=96, workers=1, progress=False)
    (folder / "images/000003.jpg").write_bytes(b"")
    (folder / "images/000007.jpg").unlink()
    people = read_people(folder)
    lost = people.image.str.contains("000003|000007").sum()
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning, match=r"000003\.jpg"):
            assert len(make_crops(folder, 64, progress=False)) == len(people) - lost
    for name in ("000003", "000007"):  # a photo that turns up later is taken in
        (folder / "images/000001.jpg").with_name(f"{name}.jpg").write_bytes((folder / "images/000001.jpg").read_bytes())
    assert len(make_crops(folder, 64, progress=False)) == len(people)


def test_a_damaged_cache_is_made_anew(tmp_path):
    folder = make_dataset(tmp_path / "d", 5, size=96, workers=1, progress=False)
    first = make_crops(folder, 64, progress=False)
    for damaged in (".json", ".npy"):
        file = next((folder / "crops").glob(f"*{damaged}"))
        file.unlink() if damaged == ".npy" else file.write_text("")
        assert torch.equal(make_crops(folder, 64, progress=False).images([2]), first.images([2]))


@pytest.mark.parametrize("killed_at", [0, 1, 5, 9])
def test_crops_go_on_where_they_were_interrupted(dataset, crops, tmp_path, monkeypatch, killed_at):
    shutil.copytree(dataset, tmp_path / "d", ignore=shutil.ignore_patterns("crops"))
    monkeypatch.setattr("hgpose_utils.crops.BLOCK", 4)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    calls = []

    def cut_until_killed(*args):
        calls.append(args)
        if len(calls) == killed_at + 1:
            raise KeyboardInterrupt
        return cut(*args)

    monkeypatch.setattr("hgpose_utils.crops.cut", cut_until_killed)
    with pytest.raises(KeyboardInterrupt):
        make_crops(tmp_path / "d", 64, progress=False)
    calls.clear()
    killed_at_last, killed_at = killed_at, 10**9
    again = make_crops(tmp_path / "d", 64, progress=False)
    assert len(calls) == len(crops) - killed_at_last // 4 * 4
    assert np.array_equal(again.store, crops.store)
    assert {file.suffix for file in (tmp_path / "d/crops").iterdir()} <= {".npy", ".json", ".lock"}


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    folder = make_dataset(tmp_path / "d", 5, size=96, workers=1, progress=False)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(HgposeError, match="No space left"):
        make_crops(folder, 64, progress=False)
    assert not [file for file in (folder / "crops").iterdir() if file.suffix != ".lock"]


def test_a_box_beyond_the_photo_is_black():
    photo = torch.full((3, 50, 50), 200, dtype=torch.uint8)
    for box in [(-40, 0, 30), (0, -40, 30), (60, 0, 30), (0, 60, 30)]:
        assert cut(photo, box, 16).max() == 0


def test_no_photo_at_all_is_an_error_and_leaves_nothing_to_mislead(tmp_path):
    folder = make_dataset(tmp_path / "d", 5, size=96, workers=1, progress=False)
    photos = sorted((folder / "images").glob("*"))
    moved = [photo.rename(tmp_path / photo.name) for photo in photos]
    with pytest.warns(UserWarning), pytest.raises(HgposeError, match="none of the"):
        make_crops(folder, 64, progress=False)
    for photo, place in zip(moved, photos, strict=True):
        photo.rename(place)
    assert len(make_crops(folder, 64, progress=False)) >= 5


def test_grey_photos_are_read_as_colour(tmp_path):
    folder = make_dataset(tmp_path / "d", 5, size=96, workers=1, progress=False)
    for photo in (folder / "images").glob("*"):
        Image.open(photo).convert("L").save(photo)
    assert make_crops(folder, 64, progress=False).images([0, 1]).shape == (2, 3, 96, 96)
