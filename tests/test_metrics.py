import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hgpose_utils.heatmaps import decode, encode, to_input_pixels
from hgpose_utils.metrics import PCK, PCKhAUC, ReportPCK, TorsoPCK, pck, pckh, score_people, swapped
from hgpose_utils.skeleton import INDEX, PCKH_JOINTS, REPORT_JOINTS


def people(count=4, seed=0):
    return np.random.default_rng(seed).uniform(0, 200, (count, 16, 2))


def test_the_joints_of_each_metric():
    assert REPORT_JOINTS.tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 14, 15]
    assert len(PCKH_JOINTS) == 14 and not {6, 7} & set(PCKH_JOINTS)


def test_pckh_by_hand():
    truth = people(2)
    pred = truth.copy()
    pred[0, 0, 0] += 5.1  # head size 10: just outside half of it
    pred[1, 0, 0] += 4.9  # just inside
    pred[:, 6] += 1000  # pelvis: does not count
    assert pckh(pred, truth, np.array([10.0, 10.0]), np.ones((2, 16), bool)) == pytest.approx((13 + 0.5) / 14)


def test_unannotated_joints_and_unknown_heads_do_not_count():
    truth = people(3)
    truth[0, 3] = np.nan
    annotated = np.ones((3, 16), bool)
    annotated[1, 4] = False
    pred = truth.copy()
    pred[1, 4] += 99
    pred[2] += 99
    assert pckh(pred, truth, np.array([10.0, 10.0, np.nan]), annotated) == 1


def test_counts_are_added_up_before_they_are_divided():
    truth, pred = people(5), people(5)
    pred[2:] += 50
    annotated = np.random.default_rng(1).random((5, 16)) < 0.5
    whole = pck(pred, truth, 20.0, annotated)
    parts = PCK(REPORT_JOINTS)
    for rows in ([0], [1, 2, 3], [4]):
        parts.update(pred[rows], truth[rows], 20.0, annotated[rows])
    assert float(parts.compute()) == pytest.approx(whole)


def test_the_reports_pck_is_half_a_tenth_of_the_heatmap():
    truth = torch.full((1, 16, 2), 32.0)
    targets, weights = encode(to_input_pixels(truth), 64)
    for distance, expected in ((3, 1.0), (4, 0.9)):  # the threshold is 3.2 pixels, one joint of ten is moved
        moved = truth.clone()
        moved[0, 0, 0] += distance
        metric = ReportPCK()
        metric.update(encode(to_input_pixels(moved), 64)[0], targets, weights)
        assert float(metric.compute()) == pytest.approx(expected)


def test_torso_pck_is_a_fifth_of_the_torso():
    truth = people(1)
    truth[0, INDEX["l_shoulder"]], truth[0, INDEX["r_hip"]] = (0, 0), (30, 40)  # 50 px: 10 px are allowed
    pred = truth.copy()
    pred[0, 5, 0] += 10.1
    pred[0, 4, 0] += 9.9
    metric = TorsoPCK()
    metric.update(torch.from_numpy(pred), torch.from_numpy(truth))
    assert float(metric.compute()) == pytest.approx(15 / 16)


@pytest.fixture
def three_people():
    """Predicted and true joints, head sizes: annotated on the heatmap's grid, so that the report's PCK is as simple.

    Of 256 px, the report's allows 12.8. The torso allows 20 px to the first and 8 to the second; their heads allow 20
    and 10 (PCKh@0.5), 4 and 2 (PCKh@0.1). The third has neither.
    """
    truth = np.full((3, 16, 2), 101.5)
    truth[0, INDEX["l_shoulder"]] += (60, 80)  # 100 px from the right hip
    truth[1, INDEX["l_shoulder"]] += (32, -24)  # 40 px
    truth[2, INDEX["l_shoulder"]] = np.nan
    truth[:, INDEX["l_wrist"]] = np.nan
    truth[1, INDEX["r_knee"]] = np.nan
    pred = np.nan_to_num(truth)
    pred[:, INDEX["r_ankle"], 0] += (16, 4, -12.5)
    pred[2, INDEX["r_knee"], 1] -= 13
    pred[0, INDEX["r_elbow"], 1] += 24
    pred[0, INDEX["pelvis"], 1] += 100
    return pred, truth, np.array([40, 20, np.nan])


@pytest.mark.parametrize(
    ("name", "mean", "total", "joints"),
    [
        ("pck", (2 / 3 + 1 / 2 + 2 / 3 + 6) / 9, 23 / 26, {"r_ankle": 2 / 3, "r_knee": 1 / 2, "r_elbow": 2 / 3}),
        ("pck_torso", (0.5 + 0.5 + 13) / 15, 27 / 29, {"r_elbow": 0.5, "pelvis": 0.5}),
        ("pckh", (0.5 + 12) / 13, 24 / 25, {"r_elbow": 0.5}),
        ("pckh_0.1", (0 + 0.5 + 11) / 13, 22 / 25, {"r_ankle": 0, "r_elbow": 0.5}),
        # 16 px of a head of 40 are found from 0.4 on, 4 of 20 from 0.2; half a step before, for the lines between
        ("pckh_auc", (0.41 + 0.5 + 11) / 13, (22 + 0.61 + 0.21) / 25, {"r_ankle": (0.61 + 0.21) / 2, "r_elbow": 0.5}),
    ],
)
def test_every_metric_by_hand(three_people, name, mean, total, joints):
    metric = score_people(*three_people, size=256)[name]
    assert float(metric.compute()) == pytest.approx(mean)
    assert float(metric.total()) == pytest.approx(total)
    expected = np.ones(16)
    expected[INDEX["l_wrist"]] = np.nan  # annotated for nobody
    for joint, share in joints.items():
        expected[INDEX[joint]] = share
    assert metric.per_joint()[metric.joints].tolist() == pytest.approx(expected[metric.joints].tolist(), nan_ok=True)


def test_without_head_sizes_there_is_no_pckh(three_people):
    pred, truth, _ = three_people
    assert list(score_people(pred, truth, np.full(3, np.nan), 256)) == ["pck", "pck_torso"]


def test_the_report_counts_only_joints_inside_the_heatmap(three_people):
    pred, truth, head_size = three_people
    truth[:, 0] = [[-0.6, 9], [9, 255.6], [255.4, 9]]  # the input spans -0.5 … 255.5
    assert score_people(pred, truth, head_size, 256)["pck"].annotated[0] == 1


def test_the_reports_pck_is_the_same_from_heatmaps_and_from_joints():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(20, 16, 2, generator=generator) * 140 - 6
    heatmaps = encode(truth + 6 * torch.randn(20, 16, 2, generator=generator), 32)[0]
    metric = ReportPCK()
    metric.update(heatmaps, *encode(truth, 32))
    pred, nowhere = decode(heatmaps)[0], torch.full((20,), torch.nan)
    assert 0.3 < float(metric.compute()) < 0.7
    assert torch.equal(
        score_people(pred, truth, nowhere, 128)["pck"].per_joint()[REPORT_JOINTS], metric.per_joint()[REPORT_JOINTS]
    )


def noisy_people(seed, count=6):
    """Predicted and true joints and head sizes, a fifth of them unknown."""
    random = np.random.default_rng(seed)
    truth, head_size = random.uniform(0, 256, (count, 16, 2)), random.uniform(10, 60, count)
    pred = truth + random.normal(0, 15, truth.shape)
    truth[random.random((count, 16)) < 0.2] = np.nan
    head_size[random.random(count) < 0.2] = np.nan
    return pred, truth, head_size


def counts(people):
    return {name: (m.found.tolist(), m.annotated.tolist()) for name, m in score_people(*people, size=256).items()}


SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.permutations(range(6)))
def test_the_order_of_people_does_not_matter(seed, order):
    people = noisy_people(seed)
    assert counts([values[order] for values in people]) == counts(people)


@given(SEEDS, st.integers(1, 6), st.sampled_from([PCK, PCKhAUC]))
def test_the_batch_size_does_not_matter(seed, batch_size, kind):
    people, whole, parts = noisy_people(seed), kind(), kind()
    whole.update(*people)
    for start in range(0, 6, batch_size):
        parts.update(*(values[start : start + batch_size] for values in people))
    for score in ("compute", "total", "per_joint"):
        assert torch.equal(getattr(parts, score)().nan_to_num(-1), getattr(whole, score)().nan_to_num(-1))


@given(SEEDS, st.integers(1, 5), st.sampled_from([PCK, PCKhAUC]))
def test_two_halves_pooled_are_the_whole(seed, cut, kind):
    people, whole, first, second = noisy_people(seed), kind(), kind(), kind()
    whole.update(*people)
    first.update(*(values[:cut] for values in people))
    second.update(*(values[cut:] for values in people))
    first.merge_state(second)
    assert torch.equal(first.compute().nan_to_num(-1), whole.compute().nan_to_num(-1))


@given(SEEDS, st.floats(0, 1), st.floats(0, 1))
def test_pck_grows_with_the_fraction(seed, one, other):
    people = noisy_people(seed)
    people[2][0] = 30  # at least one head is known
    assert pckh(*people, fraction=min(one, other)) <= pckh(*people, fraction=max(one, other))


@given(SEEDS)
def test_the_auc_lies_between_0_and_pckh_and_is_1_without_errors(seed):
    pred, truth, head_size = noisy_people(seed)
    head_size[0] = 30
    scores = score_people(pred, truth, head_size, 256)
    assert 0 <= scores["pckh_auc"].compute() <= scores["pckh"].compute() <= 1
    perfect = score_people(np.nan_to_num(truth), truth, head_size, 256)["pckh_auc"]
    assert perfect.compute() == pytest.approx(1) and perfect.total() == pytest.approx(1)


@given(SEEDS, st.floats(0.01, 100), st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)))
def test_pckh_is_the_same_in_every_unit_of_length(seed, scale, shift):
    pred, truth, head_size = noisy_people(seed)
    moved = pckh(pred * scale + shift, truth * scale + shift, head_size * scale)
    assert moved == pytest.approx(pckh(pred, truth, head_size), nan_ok=True)


def test_swapped_by_hand():
    truth = np.full((2, 16, 2), np.nan)
    truth[:, INDEX["r_knee"]], truth[:, INDEX["l_knee"]], truth[:, INDEX["thorax"]] = (0, 0), (10, 0), (5, 5)
    pred = np.zeros((2, 16, 2))
    pred[0, INDEX["l_knee"]] = 0, 1  # at the right knee
    pred[1, INDEX["r_knee"]], pred[1, INDEX["l_knee"]] = (5, 0), (10, 0)  # far from both; found
    found = swapped(pred, truth, np.array([4, 4]))
    assert np.argwhere(found).tolist() == [[0, INDEX["l_knee"]]]
