import io

import pandas as pd
import pytest
import torch

from hgpose_utils.files import HgposeError
from hgpose_utils.models import (
    NINE,
    VARIANTS,
    NearestUpsample,
    PaperResidual,
    TransposedConv,
    build_model,
    channels_for,
    checkpoint_bytes,
    count_parameters,
)
from hgpose_utils.results import read_report_sizes

PARAMETERS = {  # read off the sizes of the report's checkpoints
    "hg": {1: 3_586_960, 2: 6_730_912, 8: 25_594_624},
    "hru": {1: 13_001_680, 2: 24_415_712, 8: 92_899_904},
    "new": {1: 15_364_048, 2: 29_140_448, 8: 111_798_848},
}


@pytest.mark.parametrize("name, stacks", NINE)
def test_the_nine_networks_are_the_reports(name, stacks):
    with torch.device("meta"):
        model = build_model(name, stacks)
    assert count_parameters(model) == PARAMETERS[name][stacks]
    sizes: pd.Series = read_report_sizes().set_index(["model", "stacks"]).bytes
    assert checkpoint_bytes(model) == pytest.approx(sizes[name, stacks], rel=1e-3)


def test_predicted_bytes_are_those_of_a_real_file():
    model = build_model("hg")
    optimizer = torch.optim.RMSprop(model.parameters())
    sum(h.mean() for h in model(torch.randn(2, 3, 64, 64))).backward()
    optimizer.step()
    file = io.BytesIO()
    state = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, file, _use_new_zipfile_serialization=False)
    assert checkpoint_bytes(model) == pytest.approx(len(file.getvalue()), rel=2e-3)


@pytest.mark.parametrize("name, stacks", NINE)
def test_the_nine_networks_draw_one_set_of_heatmaps_a_stack(name, stacks):
    model = build_model(name, stacks).eval()
    with torch.inference_mode():
        heatmaps = model(torch.zeros(1, 3, 64, 64))
    assert [tuple(h.shape) for h in heatmaps] == [(1, 16, 16, 16)] * stacks


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_gets_a_gradient(name):
    model = build_model(name, 2, channels=16)
    heatmaps = model(torch.randn(2, 3, 128, 192))
    assert [tuple(h.shape) for h in heatmaps] == [(2, 16, 32, 48)] * 2
    sum(h.square().mean() for h in heatmaps).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_an_odd_feature_map_works_too():
    heatmaps = build_model("new", 1, channels=16)(torch.randn(2, 3, 192, 192))  # 3 px at the lowest resolution
    assert heatmaps[0].shape == (2, 16, 48, 48)


def test_what_cannot_be_built_is_named():
    with pytest.raises(HgposeError, match="unknown model 'resnet'"):
        build_model("resnet")
    with pytest.raises(HgposeError, match="0 stacks"):
        build_model("hg", 0)
    with pytest.raises(HgposeError, match="200 × 256"):
        build_model("hg", channels=16)(torch.zeros(1, 3, 200, 256))


def test_the_papers_own_branch_is_too_large_for_the_reports_files():
    with torch.device("meta"):
        paper = build_model("hru", residual=PaperResidual)
    theirs = read_report_sizes().set_index(["model", "stacks"]).bytes["hru", 1]
    assert checkpoint_bytes(paper) / theirs == pytest.approx(1.72, abs=0.01)


def test_parts_can_be_exchanged_one_at_a_time():
    hg, swapped = build_model("hg", channels=32), build_model("hg", channels=32, upsample=TransposedConv)
    assert count_parameters(swapped) - count_parameters(hg) == 4 * (32 * 32 * 9 + 32 + 2 * 32)
    assert swapped(torch.randn(2, 3, 64, 64))[0].shape == (2, 16, 16, 16)


def test_a_control_has_the_wanted_size():
    channels = channels_for(PARAMETERS["new"][1])
    with torch.device("meta"):
        assert count_parameters(build_model("hg", channels=channels)) == pytest.approx(PARAMETERS["new"][1], rel=5e-3)


def test_a_transposed_convolution_can_start_as_nearest_neighbour():
    x = torch.randn(1, 4, 5, 6)
    assert torch.equal(TransposedConv(4, start_nearest=True)[0](x), NearestUpsample(4)(x))


@pytest.mark.parametrize("name", VARIANTS)
def test_layout_and_arithmetic_change_nothing_that_matters(name):
    torch.manual_seed(0)
    model, images = build_model(name, 2, channels=32).eval(), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        plain = model(images)[-1]
        last = model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))[-1]
        with torch.autocast("cpu", torch.bfloat16):
            coarse = model(images)[-1]
    assert torch.allclose(plain, last, atol=1e-4 * plain.abs().max())
    assert (plain - coarse).norm() < 0.05 * plain.norm()


@pytest.mark.parametrize("name", VARIANTS)
def test_evaluation_agrees_with_training_once_the_statistics_have_settled(name):
    torch.manual_seed(0)
    model, images = build_model(name, channels=16), torch.randn(8, 3, 128, 128)
    for norm in model.modules():
        norm.momentum = 1.0  # batch norm then keeps the last batch's statistics alone
    with torch.no_grad():
        trained = model(images)[0]
        evaluated = model.eval()(images)[0]
    assert (trained - evaluated).norm() < 0.1 * trained.norm()
