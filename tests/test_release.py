import hashlib
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from hgpose_utils import release as module
from hgpose_utils.crops import make_crops
from hgpose_utils.files import HgposeError
from hgpose_utils.predict import SHIPPED, PosePredictor, evaluation_table
from hgpose_utils.release import LARGEST, release
from hgpose_utils.synthetic import make_dataset
from hgpose_utils.train import train


@pytest.fixture
def run(recipe, crops, tmp_path):
    train(replace(recipe, channels=32), crops, tmp_path / "run", "people-64", log=lambda line: None, progress=False)
    return tmp_path / "run"


def test_a_run_is_released_in_half_precision_with_its_scores(run, dataset, tmp_path):
    about = release(run, [dataset], tmp_path / "out/hg.safetensors")
    content = (tmp_path / "out/hg.safetensors").read_bytes()
    assert json.loads((tmp_path / "out/hg.json").read_text()) == about
    assert about["bytes"] == len(content) and about["sha256"] == hashlib.sha256(content).hexdigest()
    assert about["recipe"]["channels"] == 32 and about["dataset"]["name"] == "people-64"
    weights = load_file(tmp_path / "out/hg.safetensors")
    last = torch.load(run / "last.pt", weights_only=True)["model"]
    assert weights["heads.0.weight"].dtype == torch.float16 and weights.keys() == last.keys()
    assert torch.allclose(weights["heads.0.weight"].float(), last["heads.0.weight"], rtol=1e-3, atol=1e-6)
    (scores,) = about["validation"].values()
    assert set(scores) == {"pck", "pck_torso", "pckh", "pckh_0.1", "pckh_auc"}
    assert str(tmp_path) not in json.dumps(about)


def test_what_cannot_be_released_is_said_and_leaves_nothing(run, dataset, tmp_path, monkeypatch):
    out = tmp_path / "out/hg.safetensors"
    monkeypatch.setattr(module, "LARGEST", 1000)
    with pytest.raises(HgposeError, match="more than 1000"):
        release(run, [dataset], out)
    saved = torch.load(run / "last.pt", weights_only=True)
    saved["recipe"]["epochs"] = 9
    torch.save(saved, run / "last.pt")
    with pytest.raises(HgposeError, match="1 of 9 epochs"):
        release(run, [dataset], out)
    with pytest.raises(HgposeError, match="cannot read the run"):
        release(tmp_path, [dataset], out)
    assert not out.parent.exists()


def test_the_courses_own_network_is_what_its_page_says(tmp_path):
    about, content = json.loads(SHIPPED.with_suffix(".json").read_text()), SHIPPED.read_bytes()
    assert len(content) == about["bytes"] <= LARGEST
    assert hashlib.sha256(content).hexdigest() == about["sha256"]
    assert {"photos-128", "synthetic-128"} <= set(about["validation"]) and not about["commit"].endswith("+")
    predictor = PosePredictor.load()
    strangers = make_dataset(tmp_path / "strangers", 24, seed=7, workers=1, progress=False)  # never trained on
    table = evaluation_table(predictor, make_crops(strangers, predictor.size, progress=False))
    scores = table[table.flip & table.quarter].set_index("metric")["mean"]
    assert scores["pck"] == pytest.approx(about["validation"]["synthetic-128"]["pck"], abs=0.1)
