import numpy as np
import pytest
import torch

from hgpose_utils.heatmaps import encode, to_input_pixels
from hgpose_utils.metrics import PCK, ReportPCK, TorsoPCK, pck, pckh
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
