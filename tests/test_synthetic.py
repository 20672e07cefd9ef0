"""People made here: what is drawn, what is said of it, and how it is stored."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat

from hgpose_utils import body, drawing, scene, synthetic
from hgpose_utils.annotations import read_people
from hgpose_utils.files import HgposeError
from hgpose_utils.skeleton import FLIP, INDEX, JOINTS
from hgpose_utils.statistics import joint_statistics

MPII_STATISTICS = Path(__file__).parent.parent / "results/statistics/mpii-joints.csv"
PEOPLE = 22  # more than one chunk, so that two workers share them


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return synthetic.make_dataset(tmp_path_factory.mktemp("data") / "made", PEOPLE, seed=3, workers=1, progress=False)


@pytest.fixture(scope="module")
def release(dataset):
    return loadmat(dataset / "annotations.mat", squeeze_me=True, struct_as_record=False)["RELEASE"]


@pytest.fixture(scope="module")
def rendered():
    return [scene.render_person(seed) for seed in range(60)]


def standing_person(azimuth, activity="standing", seed=0):
    """Someone 200 px tall in the middle of a picture, turned by `azimuth` degrees, alone before a grey wall."""
    rng = np.random.default_rng(seed)
    build = {name: float(np.mean(limits)) for name, limits in body.BUILD.items()}
    points, *frames = body.body_points(*body.sample_angles(rng, activity), build)
    camera = body.Camera(body.turn("y", azimuth), 4.0, 200.0, np.array([160.0, 160.0]))
    clothes = drawing.sample_clothes(rng)
    parts = drawing.body_parts(points, *frames, build, clothes, camera.rotation[2])
    return scene.Person(points, parts, camera, True), clothes


def painted(person, *front):
    canvas = drawing.Canvas(Image.new("RGB", (320, 320), (128, 128, 128)))
    light = np.array([0.0, -0.6])
    person.paint(canvas, 0, light)
    for pieces in front:
        canvas.paint(None, "front", pieces, light)
    return canvas


def annotated(person, *front):
    return person.annotation(painted(person, *front), 0, 0)


def test_the_same_seed_gives_the_same_picture_and_people():
    (first, people), (second, again) = scene.render_person(11), scene.render_person(11)
    assert np.array_equal(first, second)
    for one, two in zip(people, again, strict=True):
        np.testing.assert_equal(one, two)
    assert not np.array_equal(first, scene.render_person(12)[0])


def test_what_is_said_of_people_has_its_shapes_and_visible_joints_lie_inside(rendered):
    for picture, people in rendered:
        assert picture.size == (320, 320) and picture.mode == "RGB" and people
        for person in people:
            joints, visible = person["joints"], person["visible"]
            assert joints.shape == (16, 2) and joints.dtype == np.float64
            assert visible.shape == (16,) and visible.dtype == bool and person["center"].shape == (2,)
            assert np.all((joints[visible] >= 0) & (joints[visible] <= 319))
            assert not visible[np.isnan(joints[:, 0])].any()
            x1, y1, x2, y2 = person["head_box"]
            assert x1 < x2 and y1 < y2


def test_people_differ_in_size_and_number(rendered):
    assert 1.2 < np.mean([len(people) for _, people in rendered]) < 1.6  # MPII: 1.45
    heights = np.array([people[0]["scale"] for _, people in rendered]) * 200 / 320
    assert heights.min() < 0.45 and heights.max() > 1


def test_every_person_has_a_joint_in_the_picture(rendered):
    assert all(np.isfinite(person["center"]).all() for _, people in rendered for person in people)


def test_people_are_posed_hidden_and_cut_off_as_often_as_real_ones(tmp_path):
    out = synthetic.make_dataset(tmp_path / "made", 300, size=128, workers=1, progress=False)
    drawn = joint_statistics(read_people(out))
    mpii = pd.read_csv(MPII_STATISTICS, index_col="joint")
    assert (drawn.annotated - mpii.annotated).abs().max() < 0.06
    assert (drawn.hidden - mpii.hidden).abs().max() < 0.08  # 0.06 of many people; the rest is chance
    assert (drawn.limb / mpii.limb - 1).abs().max() < 0.08
    assert (drawn[["x", "y"]] / mpii[["x", "y"]] - 1).abs().max(axis=None) < 0.2  # 0.15 of many


def test_pelvis_and_thorax_are_known_and_seen_where_both_their_ends_are(rendered):
    for _, people in rendered:
        for person in people:
            known = ~np.isnan(person["joints"][:, 0])
            for middle, ends in (("pelvis", ("r_hip", "l_hip")), ("thorax", ("r_shoulder", "l_shoulder"))):
                ends = [INDEX[end] for end in ends]
                assert known[INDEX[middle]] == known[ends].all()
                assert person["visible"][INDEX[middle]] == person["visible"][ends].all()


def test_limbs_are_as_long_as_limbs_and_alike_on_both_sides():
    for seed in range(40):
        points = scene.Person.sample(np.random.default_rng(seed), np.random.default_rng(seed), 200).points
        joints = np.stack([points[name] for name in JOINTS])

        def length(a, b, joints=joints):
            return np.linalg.norm(joints[INDEX[a]] - joints[INDEX[b]])

        for a, b, low, high in (
            ("r_hip", "r_knee", 0.215, 0.25),
            ("r_knee", "r_ankle", 0.205, 0.24),
            ("r_shoulder", "r_elbow", 0.15, 0.19),
            ("r_elbow", "r_wrist", 0.12, 0.17),
            ("r_shoulder", "l_shoulder", 0.16, 0.22),
            ("upper_neck", "head_top", 0.13, 0.19),
            ("pelvis", "thorax", 0.25, 0.31),
        ):
            assert low < length(a, b) < high
            if a.startswith("r_") and b.startswith("r_"):
                assert length(a, b) == pytest.approx(length(*(JOINTS[FLIP[INDEX[name]]] for name in (a, b))))
        for middle, end in (("pelvis", "hip"), ("thorax", "shoulder")):
            ends = joints[[INDEX[f"r_{end}"], INDEX[f"l_{end}"]]]
            np.testing.assert_allclose(joints[INDEX[middle]], ends.mean(0), atol=1e-12)


def test_scale_is_six_heads_over_200_and_the_center_lies_amid_the_joints():
    said = annotated(standing_person(0)[0])
    head = np.linalg.norm(said["joints"][INDEX["head_top"]] - said["joints"][INDEX["upper_neck"]])
    assert said["scale"] == pytest.approx(6 * head / 200)
    assert 0.9 < said["scale"] < 1.1  # the person is drawn 200 px tall
    np.testing.assert_allclose(said["center"], said["joints"].mean(0))


def test_a_head_that_points_at_the_camera_still_has_a_size():
    person, _ = standing_person(0)
    upright = person.head_length()
    person.camera.rotation = body.turn("x", 90)  # seen from above
    assert 0.5 * upright < person.head_length() < 0.9 * upright


def test_heads_turn_no_further_than_necks_allow():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        angles = body.sample_angles(rng, ("bending", "crawling", "standing")[seed % 3])
        _, _, chest, head = body.body_points(*angles, {name: limits[0] for name, limits in body.BUILD.items()})
        assert chest[:, 1] @ head[:, 1] > np.cos(np.radians(60))


@pytest.mark.parametrize(("azimuth", "order"), [(0, 1), (25, 1), (180, -1), (205, -1)])
def test_right_and_left_are_the_persons_own(azimuth, order):
    joints = annotated(standing_person(azimuth)[0])["joints"]
    for name in ("shoulder", "hip"):
        assert order * (joints[INDEX[f"l_{name}"], 0] - joints[INDEX[f"r_{name}"], 0]) > 5


def test_those_who_face_the_camera_have_a_face_and_others_only_hair():
    for azimuth, faces in ((0, True), (180, False)):
        person, clothes = standing_person(azimuth, seed=2)
        canvas = painted(person)
        eyes = person.points["upper_neck"] + [0, 0.06, 0.05 if faces else -0.05]
        x, y = (person.camera.project(eyes[None])[0][0] * 2).round().astype(int)
        colour = np.array(canvas.picture.getpixel((int(x), int(y))))
        skin, hair = (np.abs(colour - clothes[name]).max() for name in ("skin", "hair"))
        assert (skin < hair) == faces


def test_knees_bend_backwards_and_elbows_forwards():
    for seed in range(30):
        points = standing_person(0, "running", seed)[0].points
        for side in "rl":
            thigh, shin = (
                points[f"{side}_{b}"] - points[f"{side}_{a}"] for a, b in (("hip", "knee"), ("knee", "ankle"))
            )
            assert (
                np.cross(thigh, shin)[0] > -1e-6
            )  # about the axis to the left: down and forwards to down and backwards
            upper, lower = (
                points[f"{side}_{b}"] - points[f"{side}_{a}"] for a, b in (("shoulder", "elbow"), ("elbow", "wrist"))
            )
            assert np.cross(upper, lower)[0] < 0


def test_the_body_hides_its_far_side():
    for azimuth, near, far in ((90, "r", "l"), (-90, "l", "r")):
        visible = annotated(standing_person(azimuth)[0])["visible"]
        assert visible[[INDEX[f"{near}_{joint}"] for joint in ("shoulder", "elbow", "knee")]].all()
        assert not visible[[INDEX[f"{far}_{joint}"] for joint in ("shoulder", "hip")]].any()


def test_an_object_in_front_hides_what_it_covers_and_nothing_else():
    person, _ = standing_person(0)
    free = annotated(person)
    assert free["visible"].sum() >= 14
    knee = free["joints"][INDEX["r_knee"]]
    covered = annotated(person, [(knee[None], np.array([6.0]), np.full(3, 200.0))])
    assert free["visible"][INDEX["r_knee"]] and not covered["visible"][INDEX["r_knee"]]
    assert (free["visible"] != covered["visible"]).sum() == 1
    wall = [(np.array([[160.0, 160.0]]), np.array([900.0]), np.full(3, 200.0))]
    assert not annotated(person, wall)["visible"].any()


def test_joints_lie_on_the_body_that_is_drawn():
    person, _ = standing_person(0, "star")
    canvas, joints = painted(person), annotated(person)["joints"]
    assert all(
        canvas.part_at(joint) is not None for name, joint in zip(JOINTS, joints, strict=True) if name != "head_top"
    )
    assert canvas.part_at(joints[INDEX["r_knee"]])[1] in ("r_thigh", "r_shin")
    x1, y1, x2, _ = annotated(person)["head_box"]
    assert x1 < joints[INDEX["head_top"], 0] < x2 and y1 - 2 < joints[INDEX["head_top"], 1] < y1 + 8


def test_the_mat_is_laid_out_as_mpii_lays_out_its_own(dataset, release):
    assert len(release.annolist) == len(release.img_train) == len(release.single_person) == PEOPLE
    assert release.img_train.tolist() == [int(i % 5 != 4) for i in range(PEOPLE)]
    for i, annotation in enumerate(release.annolist):
        assert annotation.image.name == f"{i:06d}.jpg"
        assert Image.open(dataset / "images" / annotation.image.name).size == (320, 320)
        assert release.single_person[i] == 1
    raw = loadmat(dataset / "annotations.mat")["RELEASE"]
    assert raw.shape == (1, 1) and raw["annolist"][0, 0].shape == (1, PEOPLE)
    assert raw["single_person"][0, 0].shape == (PEOPLE, 1) and raw["single_person"][0, 0][0, 0].shape == (1, 1)


def test_the_mat_says_what_render_person_says_counting_pixels_from_one(release):
    for i, annotation in enumerate(release.annolist):
        people = scene.render_person(int(np.random.default_rng([3, i]).integers(2**53)))[1]
        rects = np.atleast_1d(annotation.annorect)
        assert len(rects) == len(people)
        for rect, person in zip(rects, people, strict=True):
            assert (rect.objpos.x, rect.objpos.y) == pytest.approx(tuple(person["center"] + 1))
            assert (rect.x1, rect.y1, rect.x2, rect.y2) == pytest.approx(np.array(person["head_box"]) + 1)
            assert rect.scale == person["scale"]
            points = {point.id: point for point in rect.annopoints.point}
            assert set(points) == set(np.flatnonzero(~np.isnan(person["joints"][:, 0])))
            for k, point in points.items():
                assert (point.x, point.y) == pytest.approx(tuple(person["joints"][k] + 1))
                if k in (8, 9):
                    assert np.size(point.is_visible) == 0
                else:
                    assert point.is_visible == person["visible"][k]


def test_workers_change_nothing(dataset, tmp_path):
    other = synthetic.make_dataset(tmp_path / "other", PEOPLE, seed=3, workers=2, progress=False)
    one, two = ((folder / "annotations.mat").read_bytes() for folder in (dataset, other))
    assert one[128:] == two[128:]  # the header holds the time
    for path in sorted((dataset / "images").iterdir()):
        assert path.read_bytes() == (other / "images" / path.name).read_bytes()


def test_a_dataset_that_is_there_is_returned_and_another_is_refused(dataset):
    before = (dataset / "annotations.mat").stat().st_mtime_ns
    assert synthetic.make_dataset(dataset, PEOPLE, seed=3, progress=False) == dataset
    assert (dataset / "annotations.mat").stat().st_mtime_ns == before
    for people, seed, size in ((PEOPLE, 4, 320), (PEOPLE + 1, 3, 320), (PEOPLE, 3, 256)):
        with pytest.raises(HgposeError, match="made exists"):
            synthetic.make_dataset(dataset, people, seed, size, progress=False)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_text("mine")
    with pytest.raises(HgposeError, match="delete it or choose another"):
        synthetic.make_dataset(tmp_path / "mine", 2, progress=False)
    assert (tmp_path / "mine" / "photo.jpg").read_text() == "mine"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_stays_behind_when_making_fails(tmp_path, monkeypatch, error):
    def fails_late(seed, size, done=[]):  # noqa: B006
        done.append(seed)
        if len(done) == 3:
            raise error
        return render(seed, size)

    render = synthetic.render_person
    monkeypatch.setattr(synthetic, "render_person", fails_late)
    with pytest.raises(error):
        synthetic.make_dataset(tmp_path / "out", 5, workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_the_loser_of_a_race_keeps_the_winners_dataset(tmp_path, monkeypatch):
    def slow(folder, *rest):
        monkeypatch.undo()
        synthetic.make_dataset(tmp_path / "out", 2, progress=False, workers=1)  # someone else is faster
        (tmp_path / "out" / "winner").touch()
        return synthetic.make_all(folder, *rest)

    monkeypatch.setattr(synthetic, "make_all", slow)
    assert synthetic.make_dataset(tmp_path / "out", 2, progress=False, workers=1) == tmp_path / "out"
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and (tmp_path / "out" / "winner").exists()


def test_what_cannot_be_made_is_one_readable_line(tmp_path):
    (tmp_path / "file").touch()
    for out, people, message in ((tmp_path / "a", 0, "at least 1"), (tmp_path / "file" / "a", 1, "cannot write")):
        with pytest.raises(HgposeError, match=message) as caught:
            synthetic.make_dataset(out, people, progress=False)
        assert "\n" not in str(caught.value) and str(out) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_recipe_is_kept(dataset):
    recipe = json.loads((dataset / "synthetic.json").read_text())
    assert recipe == {"people": PEOPLE, "seed": 3, "size": 320, "version": synthetic.VERSION}


def test_workers_start_fast_because_nothing_heavy_is_imported():
    code = "import sys, hgpose_utils.synthetic; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded and not {"torch", "matplotlib", "skimage", "scipy"} & set(loaded)
