import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hgpose_utils.heatmaps import (
    average_flipped,
    decode,
    encode,
    mirror,
    nearest_pixel,
    to_heatmap_pixels,
    to_input_pixels,
)
from hgpose_utils.skeleton import FLIP


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


def places_in_a_pixel(steps=100):
    """Joints [1, steps², 2] evenly over heatmap pixel (9, 5), in input pixels: x from 36 - 0.5, y from 20 - 0.5."""
    inside = 4 * (torch.arange(steps) + 0.5) / steps - 0.5
    return torch.cartesian_prod(36 + inside, 20 + inside)[None]


def test_what_the_grid_costs():
    joints = places_in_a_pixel()
    maps, _ = encode(joints, 16)
    plain, quarter = (decode(maps, quarter)[0] - joints for quarter in (False, True))
    assert torch.equal(plain + joints, torch.tensor([37.5, 21.5]).expand_as(joints))  # the pixel's centre
    assert torch.allclose(quarter, plain - torch.sign(plain))  # an input pixel nearer
    # No half pixel is lost: the errors cancel out. Their mean length is that over a square of 4 (2) pixels.
    half = (2**0.5 + np.arcsinh(1)) / 3
    for error, expected in ((plain, 2 * half), (quarter, half)):
        assert error.mean((0, 1)).abs().max() < 1e-4
        assert torch.linalg.vector_norm(error, dim=-1).mean() == pytest.approx(expected, rel=2e-3)
    assert 2 * half == pytest.approx(1.5304, abs=1e-4)


@given(st.lists(st.floats(-5, 70, width=16), min_size=2, max_size=2))
def test_the_nearest_pixel_is_the_targets_highest(joint):
    joints = torch.tensor([[joint]])
    maps, weights = encode(joints, 16)
    found = nearest_pixel(joints, 64)
    assert torch.isnan(found).all() == torch.isnan(found).any() == (weights == 0).all()
    if weights.item():
        centre = to_heatmap_pixels(joints)
        at_an_edge = (centre - 0.5) % 1 == 0  # as near to the next pixel: either will do
        assert torch.equal(found[~at_an_edge], decode(maps)[0][~at_an_edge])
        assert (found - joints).abs().max() <= 2


def test_mirrored_heatmaps_are_those_of_the_mirrored_joints():
    width = 64
    joints = torch.rand(2, 16, 2, generator=torch.Generator().manual_seed(0)) * 60
    mirrored = joints[:, FLIP] * torch.tensor([-1, 1]) + torch.tensor([width - 1, 0])
    of_mirrored = encode(mirrored, 16)[0]
    assert torch.allclose(mirror(of_mirrored), encode(joints, 16)[0], atol=1e-5)
    assert torch.allclose(average_flipped(encode(joints, 16)[0], of_mirrored), encode(joints, 16)[0], atol=1e-5)
