from io import BytesIO

import pytest
import torch
from PIL import Image

from hgpose_utils.models import Residual
from hgpose_utils.widgets import HeatmapExplorer, ReceptiveFieldExplorer


def heatmap_explorer():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 64, 64, generator=generator) - 0.5
    heatmaps = [torch.rand(3, 16, 16, 16, generator=generator) for _ in range(2)]
    return HeatmapExplorer(images, heatmaps, torch.rand(3, 16, 2, generator=generator) * 64)


def field_explorer():
    unit = Residual(4, 4)
    return ReceptiveFieldExplorer({"A": unit.a, "B": unit.b}, channels=4)


@pytest.mark.parametrize(
    "make, moves",
    [
        (heatmap_explorer, {"person": 2, "joint": 0, "stack": 1, "strength": 0.1}),
        (field_explorer, {"path": "A"}),
    ],
)
def test_every_control_changes_the_picture(make, moves):
    explorer = make()
    assert set(moves) == set(explorer.controls)
    for name, value in moves.items():
        before = bytes(explorer.image.value)
        explorer.controls[name].value = value
        assert bytes(explorer.image.value) != before, name
    assert Image.open(BytesIO(explorer.image.value)).width > 200


def test_those_without_a_kernel_see_a_picture_and_a_text():
    bundle = field_explorer()._repr_mimebundle_()
    assert bundle["image/png"] and "field" in bundle["text/plain"]
