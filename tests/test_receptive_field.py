import pytest
import torch
from torch import nn

from hgpose_utils.models import TransposedConv, WideResidual
from hgpose_utils.receptive_field import gradient_map, measured_field, theoretical_field


@pytest.mark.parametrize("branch, field", [("a", 1), ("b", 3), ("c", 10)])
@pytest.mark.parametrize("size", [32, 34])  # the output pixel at an even and at an odd place of the pooling grid
def test_the_branches_see_one_three_and_ten_pixels(branch, field, size):
    path = getattr(WideResidual(8, 8), branch)
    assert theoretical_field(path) == field
    assert measured_field(path, 8, size) == field


def test_arithmetic_and_measurement_agree_on_other_chains():
    chain = nn.Sequential(nn.Conv2d(2, 2, 7, 2, 3), nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(2, 2, 1))
    assert theoretical_field(chain) == 13
    assert measured_field(chain, 2, 64) == 13


def test_a_transposed_convolution_sees_two_pixels_at_most():
    assert theoretical_field(TransposedConv(4)) == 2


def test_an_unknown_layer_is_named():
    with pytest.raises(TypeError, match="Tanh"):
        theoretical_field(nn.Tanh())


def test_what_lies_outside_the_field_has_no_gradient():
    moved = gradient_map(nn.Conv2d(1, 1, 3, padding=1), 1, 9)
    assert moved.count_nonzero() == 9 and torch.all(moved[3:6, 3:6] > 0)
