import time
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from hgpose_utils.models import Hourglass, Residual, TransposedConv, WideResidual, build_model
from hgpose_utils.predict import PosePredictor
from hgpose_utils.receptive_field import gradient_map, probed_field, random_inputs, seen_from
from hgpose_utils.skeleton import JOINTS
from hgpose_utils.widgets import HeatmapExplorer, ReceptiveFieldExplorer


def predictor(stacks, seed):
    torch.manual_seed(seed)
    return PosePredictor(build_model("hg", stacks, channels=32).eval(), 64, f"hg-s{stacks}")


@pytest.fixture
def heatmap_explorer(crops):
    networks = {"two stacks": predictor(2, 0), "one stack": predictor(1, 1)}
    return HeatmapExplorer(networks, crops.images(range(3)), crops.joints[:3])


@pytest.fixture
def field_explorer(crops):
    torch.manual_seed(0)
    units = {"Residual": Residual(4, 4), "Hourglass": Hourglass(1, 4), "WideResidual": WideResidual(4, 4)}
    return ReceptiveFieldExplorer(units, channels=4, picture=crops.images([0])[0])


MOVES = {
    "truth": False,
    "joint": 0,
    "stack": 1,
    "network": "one stack",
    "strength": 0.1,
    "rotate": 20,
    "scale": 1.3,
    "flip": True,
}
COVER = {"cover": 40, "cover_x": 20, "cover_y": 80, "person": 2}


@pytest.mark.parametrize(
    "name, moves",
    [("heatmap_explorer", MOVES | COVER), ("field_explorer", {"branch": "C", "x": 20, "y": 9, "unit": "Hourglass"})],
)
def test_every_control_changes_the_picture(name, moves, request):
    explorer = request.getfixturevalue(name)
    assert set(moves) == set(explorer.controls)
    for control, value in moves.items():
        before = bytes(explorer.image.value)
        explorer.controls[control].value = value
        assert bytes(explorer.image.value) != before, control
    assert Image.open(BytesIO(explorer.image.value)).width >= 320
    assert all(control.description for control in explorer.controls.values())


@pytest.mark.parametrize("name", ["heatmap_explorer", "field_explorer"])
def test_the_picture_depends_on_the_state_alone_and_comes_at_once(name, request):
    explorer = request.getfixturevalue(name)
    state = {control: widget.value for control, widget in explorer.controls.items()}
    assert explorer.render(**state) == explorer.render(**state) == bytes(explorer.image.value)
    start = time.process_time()
    for _ in range(5):
        explorer.render(**state)
    assert time.process_time() - start < 5 * 0.1


@pytest.mark.parametrize("name", ["heatmap_explorer", "field_explorer"])
def test_those_without_a_kernel_see_a_picture_and_a_text(name, request):
    explorer = request.getfixturevalue(name)
    bundle = explorer._repr_mimebundle_()
    assert bundle["image/png"] and "explorer: " in bundle["text/plain"]
    assert explorer.caption.value in bundle["text/plain"]


def test_one_joint_is_named_with_its_confidence_and_its_distance_from_the_truth(heatmap_explorer):
    for joint in range(-1, 16):
        heatmap_explorer.controls["joint"].value = joint
        assert "confidence " in heatmap_explorer.caption.value
        assert joint < 0 or JOINTS[joint] in heatmap_explorer.caption.value
    person = next(i for i, truth in enumerate(heatmap_explorer.truth) if not truth[9].isnan().any())
    heatmap_explorer.controls["person"].value, heatmap_explorer.controls["joint"].value = person, 9
    assert "away from the truth" in heatmap_explorer.caption.value


def test_the_input_is_turned_zoomed_flipped_and_covered(heatmap_explorer):
    still = {"person": 1, "rotate": 0, "scale": 1.0, "flip": False, "cover": 0, "cover_x": 50, "cover_y": 50}
    see = lambda **change: heatmap_explorer.run("one stack", **(still | change))  # noqa: E731
    image, truth, _ = see()
    covered = see(cover=50)[0]
    assert (covered[:, 16:48, 16:48] == 0).all() and torch.equal(covered[:, :16], image[:, :16])
    assert torch.allclose(see(flip=True)[0], image.flip(-1), atol=1e-5)
    known = ~truth.isnan().any(-1)
    larger = see(scale=1.5)[1][known] - 31.5
    assert torch.allclose(larger, 1.5 * (truth[known] - 31.5), atol=1e-3)
    turned = see(rotate=90)[1][known] - 31.5
    assert torch.allclose(turned.norm(dim=-1), (truth[known] - 31.5).norm(dim=-1), atol=1e-3)


UNSAID = {"type": "", "last_modified": datetime.now(UTC)}


def upload(explorer, name, content):
    explorer.upload.value = ({"name": name, "size": len(content), "content": memoryview(content)} | UNSAID,)


def test_an_uploaded_photo_is_one_more_person(heatmap_explorer, dataset):
    heatmap_explorer.controls["rotate"].value, before = 30, bytes(heatmap_explorer.image.value)
    upload(heatmap_explorer, "me.jpg", next((dataset / "images").glob("*.jpg")).read_bytes())
    assert heatmap_explorer.controls["person"].value == heatmap_explorer.controls["person"].max == 3
    assert heatmap_explorer.controls["rotate"].value == 0 and bytes(heatmap_explorer.image.value) != before
    assert "truth" not in heatmap_explorer.caption.value


@pytest.mark.parametrize("content, reason", [(b"no picture", "cannot"), (bytes(10_000_001), "10 MB are too many")])
def test_what_is_no_photo_or_too_large_is_said_and_changes_nothing(heatmap_explorer, content, reason):
    before = bytes(heatmap_explorer.image.value)
    upload(heatmap_explorer, "odd.jpg", content)
    assert reason in heatmap_explorer.caption.value and "odd.jpg" in heatmap_explorer.caption.value
    assert bytes(heatmap_explorer.image.value) == before and len(heatmap_explorer.crops) == 3


def test_another_unit_offers_its_own_branches(field_explorer):
    unit, branch = field_explorer.controls["unit"], field_explorer.controls["branch"]
    branch.value = "B"
    unit.value = "Residual"
    assert branch.options == ("all", "A", "B") and branch.value == "B"
    assert "sees 3 × 3 pixels in theory (frame), 3 × 3 measured" in field_explorer.caption.value
    unit.value = "Hourglass"
    assert branch.options == ("all",)


@pytest.mark.parametrize("position", [16, 17])
def test_the_square_that_theory_gives_is_the_one_that_is_measured(position):
    torch.manual_seed(0)
    for module in (Residual(4, 4), WideResidual(4, 4), WideResidual(4, 4).c, Hourglass(1, 4)):
        moved = gradient_map(module, random_inputs(4, 40), (position, position)).sum(0).nonzero()
        assert seen_from(module, position) == (int(moved.min()), int(moved.max()))
    deep = Hourglass(3, 4, WideResidual)
    first, last = seen_from(deep, 256)
    assert last - first + 1 == probed_field(deep, 4, 512)


def test_a_transposed_convolution_is_walked_backwards_exactly():
    model = torch.nn.Sequential(torch.nn.MaxPool2d(2), TransposedConv(4), torch.nn.Conv2d(4, 4, 3, padding=1))
    for position in (16, 17):
        moved = gradient_map(model, random_inputs(4, 40), (position, position)).sum(0).nonzero()
        assert seen_from(model, position) == (int(moved.min()), int(moved.max()))
    assert np.ptp(seen_from(TransposedConv(4), 7)) == 1
