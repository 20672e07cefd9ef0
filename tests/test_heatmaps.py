import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hgpose_utils.heatmaps import decode, encode, to_heatmap_pixels, to_input_pixels


@given(st.floats(6, 249), st.floats(6, 249))  # at the very border there is no neighbour to move to
def test_a_joint_survives_its_heatmap(x, y):
    joint = torch.tensor([[[x, y]]])
    maps, weights = encode(joint, 64)
    assert weights.item() == 1 and maps.max() > np.exp(-0.25) - 1e-3
    assert (decode(maps)[0] - joint).abs().max() <= 2.01
    assert (decode(maps, quarter=True)[0] - joint).abs().max() <= 1.01


def test_the_gaussian_has_the_reports_width():
    maps, _ = encode(to_input_pixels(torch.tensor([[[10.0, 20.0]]])), 64)
    assert maps[0, 0, 20, 10] == 1
    assert maps[0, 0, 20, 11] == pytest.approx(np.exp(-0.5)) and maps[0, 0, 22, 10] == pytest.approx(np.exp(-2))


@pytest.mark.parametrize("joint", [(float("nan"), 5.0), (-10.0, 5.0), (5.0, 256.5)])
def test_unknown_and_outside_joints_have_no_weight_and_no_target(joint):
    maps, weights = encode(torch.tensor([[joint]]), 64)
    assert weights.item() == 0 and maps.abs().max() == 0


def test_pixel_conventions_agree():
    assert to_heatmap_pixels(torch.tensor(1.5)) == 0  # the middle of input pixels 0 to 3
    assert to_input_pixels(torch.tensor(63.0)) == 253.5


def test_a_peak_at_the_border_is_decoded():
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 0, 7] = 2
    joints, confidence = decode(maps, quarter=True)
    assert to_heatmap_pixels(joints)[0, 0].tolist() == [7, 0] and confidence.item() == 2
