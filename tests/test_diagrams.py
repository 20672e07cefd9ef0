import pytest
import torch
from matplotlib.figure import Figure

from hgpose_utils.diagrams import boxes, draw_network, draw_unit
from hgpose_utils.models import VARIANTS, NearestUpsample, Residual, TransposedConv, WideResidual, build_model


@pytest.mark.parametrize("name, unit, up", [("hg", Residual, NearestUpsample), ("new", WideResidual, TransposedConv)])
def test_the_boxes_are_what_runs(name, unit, up):
    with torch.device("meta"):
        order = boxes(build_model(name, 1))
    kinds = [kind for _, kind, _ in order]
    assert kinds.count(unit) == 3 + 13 + 1 and kinds.count(up) == 4
    assert [side for _, kind, side in order if kind is up] == [8, 16, 32, 64]
    assert order[0][0] == "stem.0" and order[-1][0] == "heads.0"


@pytest.mark.parametrize("name", VARIANTS)
def test_every_network_can_be_drawn(name):
    axis = Figure().subplots()
    with torch.device("meta"):
        draw_network(axis, build_model(name, 2))
    assert len(axis.patches) == len(boxes(build_model(name, 2, channels=8), 64))


def test_a_units_layers_are_written_out():
    axis = Figure().subplots()
    draw_unit(axis, WideResidual(64, 128))
    words = [text.get_text() for text in axis.texts]
    assert {"A", "B", "C", "conv 1×1, 64 → 128", "conv 3×3, 64 → 64", "max-pool 2"} <= set(words)
