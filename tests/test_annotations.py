import gzip
import json
import zipfile

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hgpose_utils.annotations import COLUMNS, check_people, read_people
from hgpose_utils.crops import crop_box, make_crops, read_photo
from hgpose_utils.files import HgposeError
from hgpose_utils.skeleton import FLIP, INDEX, JOINTS, LSP_TO_MPII
from hgpose_utils.statistics import joint_statistics


def write_mpii(path, annolist, img_train):
    """MPII's .mat from dicts; scipy writes a list of dicts as a cell, so the struct arrays are spelled out."""

    def struct(value):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            array = np.empty((1, len(value)), [(k, object) for k in value[0]])
            for i, row in enumerate(value):
                array[0, i] = tuple(struct(v) for v in row.values())
            return array
        return struct([value]) if isinstance(value, dict) else value

    scipy.io.savemat(path, {"RELEASE": struct({"annolist": annolist, "img_train": np.array([img_train], np.uint8)})})


def rect(**changes):
    point = [{"x": 11.0, "y": 21.0, "id": 0, "is_visible": 1}, {"x": 31.0, "y": 41.0, "id": 9, "is_visible": []}]
    head = {"x1": 1.0, "y1": 1.0, "x2": 4.0, "y2": 5.0}
    return head | {"annopoints": {"point": point}, "objpos": {"x": 101.0, "y": 201.0}, "scale": 2.0} | changes


def test_mpii_mat_is_read_in_pixels_counted_from_zero(tmp_path):
    write_mpii(tmp_path / "a.mat", [{"image": {"name": "x.jpg"}, "annorect": rect()}] * 2, [1, 0])
    people = read_people(tmp_path)
    assert list(people.columns) == COLUMNS
    assert people.split.tolist() == ["train", "val"]
    person = people.iloc[0]
    assert person.image.endswith("images/x.jpg")
    assert person.center.tolist() == [100, 200] and person.scale == 2
    assert person.joints[0].tolist() == [10, 20] and person.joints[9].tolist() == [30, 40]
    assert np.isnan(person.joints[[1, 5, 8, 15]]).all()
    assert person.visible.nonzero()[0].tolist() == [0, 9]  # an empty flag means seen
    assert person.head_size == pytest.approx(0.6 * 5)


@pytest.mark.parametrize("flag, seen", [(0, False), ("0", False), (1, True), ("1", True), ([], True)])
def test_every_way_of_writing_visibility_is_understood(tmp_path, flag, seen):
    point = {"x": 1.0, "y": 1.0, "id": 3, "is_visible": flag}
    images = [{"image": {"name": "x.jpg"}, "annorect": rect(annopoints={"point": point})}]
    write_mpii(tmp_path / "a.mat", images, [1])
    assert read_people(tmp_path / "a.mat").visible[0][3] == seen


@pytest.mark.parametrize("missing", [{"annopoints": []}, {"objpos": []}, {"scale": []}])
def test_a_person_without_joints_place_or_scale_is_left_out(tmp_path, missing):
    rows = [rect(), rect(**missing)]
    images = [{"image": {"name": "x.jpg"}, "annorect": rows}, {"image": {"name": "y.jpg"}, "annorect": []}]
    write_mpii(tmp_path / "a.mat", images, [1, 1])
    assert len(read_people(tmp_path)) == 1


def test_pytorch_pose_json_is_read(tmp_path):
    joints = [[0.0, 0.0, 0.0]] * 15 + [[5.0, 7.0, 1.0]]
    row = {"joint_self": joints, "objpos": [3.0, 4.0], "scale_provided": 1.5, "img_paths": "x.jpg", "isValidation": 1.0}
    with gzip.open(tmp_path / "a.json.gz", "wt") as f:
        json.dump([row, row | {"isValidation": 0.0}], f)
    people = read_people(tmp_path)
    assert people.split.tolist() == ["val", "train"]
    assert people.joints[0][15].tolist() == [4, 6] and people.center[0].tolist() == [2, 3]
    assert np.isnan(people.joints[0][:15]).all() and people.visible[0].tolist() == [False] * 15 + [True]


@pytest.mark.parametrize("extended", [True, False])
def test_lsp_joints_get_their_mpii_places(tmp_path, extended):
    points = np.ones((14, 3, 20))
    points[:, 0], points[:, 1] = np.arange(14)[:, None] * 10, np.arange(14)[:, None]
    points[13, 2] = 0  # LSP Extended: head_top is not annotated; LSP: it is the one that is seen
    points[:, :, 4] = np.nan  # no such photo
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": points if extended else points.transpose(1, 0, 2)})
    people = read_people(tmp_path)
    assert len(people) == 19
    person = people.iloc[0]
    assert person.joints[INDEX["l_wrist"]].tolist() == [110, 11]
    assert np.isnan(person.joints[INDEX["head_top"]]).all() == extended
    assert np.isnan(person.joints[[INDEX["pelvis"], INDEX["thorax"]]]).all()
    assert person.visible[INDEX["head_top"]] == (not extended) and person.visible[INDEX["l_wrist"]] == extended
    assert (people.split == "val").sum() == (2 if extended else 10)


def test_a_file_without_a_split_is_split_by_image(tmp_path):
    images = [{"image": {"name": f"{i // 2}.jpg"}, "annorect": rect()} for i in range(200)]
    write_mpii(tmp_path / "a.mat", images, [1] * 200)
    people = read_people(tmp_path)
    assert people.groupby("image").split.nunique().max() == 1
    assert abs((people.split == "val").sum() - 200 * 2958 / 25204) < 2  # an image has two


DAMAGED_FILES = [b"", b"nonsense", b"MATLAB 5.0 MAT-file" + b"\0" * 200, b"[{}]", b"{}", b"[\xff]", b"\x1f\x8b\x08"]


@pytest.mark.parametrize("name", ["a.mat", "a.json", "a.json.gz", "a.zip"])
@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"MATLAB 5.0 MAT-file" + b"\0" * 200, b"[{}]", b"{}", b"[\xff]", b"\x1f\x8b\x08"]
)
def test_a_damaged_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HgposeError, match=name):
        read_people(tmp_path / name)


def test_a_mat_of_another_kind_is_named(tmp_path):
    for content in ({"RELEASE": {"img_train": 1}}, {"joints": np.zeros((3, 5))}, {"other": 1}):
        scipy.io.savemat(tmp_path / "a.mat", content)
        with pytest.raises(HgposeError, match=r"a\.mat"):
            read_people(tmp_path)


def test_head_sizes_come_from_mpiis_mat_beside_the_json(tmp_path):
    images = [{"image": {"name": "x.jpg"}, "annorect": [rect(), rect(x2=7.0, y2=9.0)]}]
    write_mpii(tmp_path / "mpii.mat", images, [1])
    row = {"joint_self": [[5.0, 7.0, 1.0]] * 16, "objpos": [3.0, 4.0], "scale_provided": 1.5, "img_paths": "x.jpg"}
    row |= {"isValidation": 0.0, "annolist_index": 1.0}
    rows = [row | {"people_index": 2.0, "isValidation": 1.0}, row | {"people_index": 1.0}, row | {"people_index": 3.0}]
    (tmp_path / "mpii.json").write_text(json.dumps(rows))
    people = read_people(tmp_path)
    assert people.head_size.tolist()[:2] == pytest.approx([6, 3]) and np.isnan(people.head_size[2])
    assert people.split.tolist() == ["val", "train", "train"]


def test_lsp_is_read_from_its_zip_file(tmp_path):
    points = np.full((14, 3, 10), 50.0)
    points[:, 0] += np.arange(14)[:, None]
    points[:, 2] = 1
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": points})
    picture = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    with zipfile.ZipFile(tmp_path / "lsp.zip", "w") as archive:
        archive.write(tmp_path / "joints.mat", "lsp/joints.mat")
        archive.write(tmp_path / "photo.png", "lsp/images/im00002.jpg")
        archive.writestr("../outside.txt", "never written anywhere")
    people = read_people(tmp_path / "lsp.zip")
    assert len(people) == 10 and np.array_equal(read_photo(people.image[1]).movedim(0, -1), picture)
    report = "\n".join(check_people(tmp_path / "lsp.zip"))
    assert "10, of which 9 are missing" in report and "im00001.jpg" in report
    with pytest.warns(UserWarning, match=r"im00001\.jpg"):
        assert len(make_crops(tmp_path / "lsp.zip", 64, progress=False)) == 1
    assert {f.name for f in tmp_path.parent.glob("outside*")} == set()


@pytest.mark.parametrize(
    "change", [{"scale": np.nan}, {"scale": -1.0}, {"scale": 1e9}, {"objpos": {"x": np.inf, "y": 1.0}}]
)
def test_people_that_cannot_be_are_left_out_and_counted(tmp_path, change):
    write_mpii(tmp_path / "a.mat", [{"image": {"name": "x.jpg"}, "annorect": [rect(), rect(**change)]}], [1])
    people = read_people(tmp_path)
    assert len(people) == 1 and people.attrs["left_out"] == 1
    assert any("1 people left out" in line for line in check_people(tmp_path))


number = st.floats(-3000, 3000) | st.sampled_from([0.0, np.nan, np.inf, 1e30, -1e30])


@given(
    st.lists(st.tuples(number, number, st.sampled_from([0.0, 1.0])), min_size=16, max_size=16), number, number, number
)
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_numbers_a_person_is_read_or_left_out(tmp_path, joints, x, y, scale):
    row = {"joint_self": joints, "objpos": [x, y], "scale_provided": scale, "img_paths": "x.jpg", "isValidation": 0.0}
    good = row | {"joint_self": [[1.0, 2.0, 1.0]] * 16, "objpos": [5.0, 5.0], "scale_provided": 1.0}
    (tmp_path / "a.json").write_text(json.dumps([good, row]))
    people = read_people(tmp_path / "a.json")
    assert len(people) + people.attrs["left_out"] == 2
    boxes = crop_box(np.stack(people.center), people.scale.to_numpy())
    assert (boxes[:, 2] > 0).all() and (np.abs(boxes) < 1e6).all()
    assert not (np.stack(people.visible) & np.isnan(np.stack(people.joints)).any(-1)).any()


def test_statistics_by_hand(tmp_path):
    points = [{"x": 1.0, "y": 1.0, "id": 0, "is_visible": 0}, {"x": 1.0, "y": 101.0, "id": 1, "is_visible": 1}]
    images = [{"image": {"name": "x.jpg"}, "annorect": rect(annopoints={"point": points}, scale=1.0)}] * 2
    write_mpii(tmp_path / "a.mat", images, [1, 0])
    table = joint_statistics(read_people(tmp_path))
    assert table.loc["r_ankle", ["annotated", "hidden", "x", "limb"]].tolist() == [1, 1, 0, 0.5]
    assert table.loc["r_knee", "hidden"] == 0 and table.loc["l_knee", "annotated"] == 0


def test_a_folder_without_annotations_is_named(tmp_path):
    with pytest.raises(HgposeError, match="no annotations"):
        read_people(tmp_path)
    with pytest.raises(HgposeError, match="no dataset"):
        read_people(tmp_path / "nothing")


def test_the_skeleton_agrees_with_itself():
    swap = {"r": "l", "l": "r"}
    for joint, name in enumerate(JOINTS):
        mirrored = swap[name[0]] + name[1:] if name[1] == "_" else name
        assert JOINTS[FLIP[joint]] == mirrored
    assert len(set(LSP_TO_MPII)) == 14
