import pytest
import torch
from torch import nn

from hgpose_utils.cost import activation_mb, forward_gflop
from hgpose_utils.models import build_model

GFLOP = {"hg": {1: 11.6, 2: 18.0, 8: 56.2}, "hru": {1: 18.2, 2: 28.2, 8: 88.2}}  # of one image of 256 px


def test_arithmetic_by_hand():
    layer = nn.Conv2d(3, 5, 3, padding=1)
    assert forward_gflop(layer, size=10) == pytest.approx(2 * 3 * 9 * 5 * 100 / 1e9)


@pytest.mark.parametrize("name", GFLOP)
def test_arithmetic_of_the_reports_networks(name):
    for stacks, gflop in GFLOP[name].items():
        with torch.device("meta"):
            assert forward_gflop(build_model(name, stacks)) == pytest.approx(gflop, abs=0.05)


def test_memory_by_hand():
    layers = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU())  # keeps its input and, for the ReLU, its result
    assert activation_mb(layers, size=10) == pytest.approx(4 * (3 + 5) * 100 / 1e6)


def test_memory_grows_with_the_picture():
    with torch.device("meta"):
        model = build_model("new", channels=16)
    assert activation_mb(model, 256) == pytest.approx(4 * activation_mb(model, 128), rel=0.01)
