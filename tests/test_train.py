import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from hgpose_utils.augment import no_jitter
from hgpose_utils.files import HgposeError
from hgpose_utils.models import build_model
from hgpose_utils.predict import PosePredictor, evaluate
from hgpose_utils.train import Recipe, batches, heatmap_loss, make_fabric, train, validate


def run(recipe, crops, folder, log=lambda line: None):
    return train(recipe, crops, folder, "people-64", log=log, progress=False)


def test_a_run_leaves_its_history_recipe_and_weights(recipe, crops, tmp_path):
    lines = []
    history = run(recipe, crops, tmp_path / "run", lines.append)
    assert {"epoch", "loss", "pck", "learning_rate", "images_per_second", "seconds"} <= set(history.columns)
    written = pd.read_csv(tmp_path / "run/history.csv")
    assert np.allclose(written, history, rtol=1e-4) and len(lines) == 1
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["recipe"]["model"] == "hg" and config["dataset"]["val_people"] == len(crops.split("val"))
    assert not list(tmp_path.rglob("*.tmp")) and str(tmp_path) not in json.dumps(config)


def test_two_runs_and_a_resumed_one_are_the_same_to_the_last_digit(recipe, crops, tmp_path):
    three = replace(recipe, epochs=3)
    whole = run(three, crops, tmp_path / "a")
    run(replace(recipe, epochs=2), crops, tmp_path / "b")
    resumed = run(three, crops, tmp_path / "b")
    numbers = ["loss", "val_loss", "pck", "pck_torso", "peak"]
    assert whole[numbers].equals(resumed[numbers])
    assert len(run(three, crops, tmp_path / "b")) == 3  # nothing left to do


def test_a_network_learns_one_batch_by_heart(crops, tmp_path):
    people = crops.take(np.arange(4))
    people.people = people.people.assign(split="train")
    recipe = Recipe("new", 1, batch_size=4, size=64, learning_rate=1e-3)
    torch.manual_seed(0)
    model = build_model("new", 1, channels=64)
    optimizer = torch.optim.RMSprop(model.parameters(), recipe.learning_rate)
    images, _, targets, weights = next(batches(people, no_jitter(4), np.arange(4), recipe, "cpu"))
    losses = []
    for _ in range(150):
        loss = heatmap_loss(model(images), targets, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * heatmap_loss([torch.zeros_like(targets)], targets, weights)


def test_the_loss_by_hand():
    targets, weights = torch.zeros(2, 16, 4, 4), torch.zeros(2, 16)
    weights[0, :3] = 1
    wrong = torch.full_like(targets, 2.0)
    assert heatmap_loss([wrong], targets, weights) == 4  # joints without weight count neither above nor below
    assert heatmap_loss([wrong, targets + 1], targets, weights) == 5
    assert heatmap_loss([wrong], targets, 0 * weights) == 0


def test_validation_does_not_depend_on_the_batch_size(crops):
    fabric = make_fabric()
    model = fabric.setup(build_model("hg", channels=16))
    scores = [validate(fabric, model, crops, Recipe(batch_size=size, size=64)) for size in (1, 7)]
    assert scores[0]["pck"] == scores[1]["pck"]
    assert scores[0]["val_loss"] == pytest.approx(scores[1]["val_loss"], rel=1e-2)


def test_the_weights_that_are_kept_give_the_score_that_was_logged(recipe, crops, tmp_path):
    history = run(recipe, crops, tmp_path)
    scores = evaluate(PosePredictor.load(tmp_path / "best.safetensors"), crops.split("val"))
    assert scores["pck"] == pytest.approx(history.pck.max(), abs=0.05)  # bfloat16 there, float32 here


def test_a_folder_of_another_run_is_refused(recipe, crops, tmp_path):
    run(recipe, crops, tmp_path)
    with pytest.raises(HgposeError, match="batch_size 5 "):
        run(replace(recipe, batch_size=5), crops, tmp_path)
    (tmp_path / "last.pt").write_bytes(b"PK damaged")
    with pytest.raises(HgposeError, match=r"last\.pt"):
        run(recipe, crops, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(recipe, crops, tmp_path, monkeypatch):
    monkeypatch.setattr("hgpose_utils.train.heatmap_loss", lambda h, t, w: h[0].sum() * float("nan"))
    with pytest.raises(HgposeError, match="epoch 1 is nan"):
        run(recipe, crops, tmp_path)
    assert not (tmp_path / "history.csv").exists()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": "resnet"}, "unknown model"),
        ({"stacks": 0}, "stacks is 0"),
        ({"stacks": 99}, "99 stacks"),
        ({"size": 100}, "divisible by 64"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"batch_size": 1000}, "fewer than one batch"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(recipe, crops, tmp_path, change, words):
    with pytest.raises(HgposeError, match=words):
        run(replace(recipe, **change), crops, tmp_path)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_a_full_or_locked_disk_is_named_and_nothing_half_written_stays(recipe, crops, tmp_path, monkeypatch, error):
    def fail(state, file):
        file.write_bytes(b"half")
        raise error

    monkeypatch.setattr("hgpose_utils.train.torch.save", fail)
    with pytest.raises(HgposeError, match=error.strerror):
        run(recipe, crops, tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["config.json"]
