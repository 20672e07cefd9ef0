import pytest
import torch
from torch import nn

from hgpose_utils.models import Hourglass, Residual, TransposedConv, WideResidual, build_model
from hgpose_utils.receptive_field import (
    effective_field,
    gradient_map,
    influence,
    measured_field,
    probed_field,
    random_inputs,
    theoretical_field,
)


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


def test_dilation_widens_the_field():
    layer = nn.Conv2d(1, 1, 3, padding=2, dilation=2)
    assert theoretical_field(layer) == measured_field(layer, 1, 32) == 5


def test_a_transposed_convolution_sees_two_pixels_at_most():
    assert theoretical_field(TransposedConv(4)) == 2


def test_an_unknown_layer_is_named():
    with pytest.raises(TypeError, match="Tanh"):
        theoretical_field(nn.Tanh())


def test_what_lies_outside_the_field_has_no_gradient():
    moved = gradient_map(nn.Conv2d(1, 1, 3, padding=1), random_inputs(1, 9))
    assert moved.count_nonzero() == 9 and torch.all(moved[3:6, 3:6] > 0)


@pytest.mark.parametrize("residual", [Residual, WideResidual])
def test_the_three_ways_agree_on_a_unit(residual):
    unit = residual(8, 8)
    assert theoretical_field(unit) == probed_field(unit, 8, 32) == measured_field(unit, 8, 32)


@pytest.mark.parametrize("residual, exact", [(Residual, 36), (WideResidual, 136)])
def test_the_recurrence_is_an_upper_bound_of_an_hourglass(residual, exact):
    hourglass = Hourglass(2, 4, residual)  # behind an upsampling two neighbours may come from one pixel
    assert probed_field(hourglass, 4, 256) == exact <= theoretical_field(hourglass)


def test_the_longest_path_of_a_whole_network_goes_through_every_stack():
    fields = [theoretical_field(build_model("hg", stacks, channels=8)) for stacks in (1, 2, 3)]
    assert fields[2] - fields[1] == fields[1] - fields[0] > 600
    assert theoretical_field(build_model("hru", channels=8)) > 4 * fields[0]


def test_the_effective_field_holds_most_of_the_gradient():
    gradient = torch.zeros(11, 11)
    gradient[5, 5], gradient[5, 7] = 3, 1
    assert influence(gradient)[[1, 3, 5]].tolist() == [0.75, 0.75, 1]
    assert (effective_field(gradient, 0.7), effective_field(gradient)) == (1, 5)
