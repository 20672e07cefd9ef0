import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from hgpose_utils.augment import no_jitter
from hgpose_utils.crops import make_crops
from hgpose_utils.files import HgposeError
from hgpose_utils.metrics import ReportPCK
from hgpose_utils.models import VARIANTS, build_model
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


@pytest.mark.parametrize("name", VARIANTS)
def test_a_network_learns_one_batch_by_heart(dataset, name):
    torch.manual_seed(0)
    model = build_model(name, channels=48)
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3)
    crops = make_crops(dataset, 128, progress=False)
    images, _, targets, weights = next(batches(crops, no_jitter(2), np.arange(2), Recipe(size=128), "cpu"))
    for _ in range(300):
        optimizer.zero_grad()
        heatmaps = model(images)
        heatmap_loss(heatmaps, targets, weights).backward()
        optimizer.step()
        metric = ReportPCK()
        metric.update(heatmaps[-1].detach(), targets, weights)
        if metric.compute() == 1:
            return
    raise AssertionError(f"PCK {metric.compute():.2f} after 300 steps on the same two people")


def test_the_loss_by_hand():
    targets, weights = torch.zeros(2, 16, 4, 4), torch.zeros(2, 16)
    weights[0, :3] = 1
    wrong = torch.full_like(targets, 2.0)
    assert heatmap_loss([wrong], targets, weights) == 4  # joints without weight count neither above nor below
    assert heatmap_loss([wrong, targets + 1], targets, weights) == 5
    assert heatmap_loss([wrong], targets, 0 * weights) == 0


class Truth(torch.nn.Module):
    """A network that is right about every second person, and does not look at the picture."""

    def __init__(self, targets):
        super().__init__()
        self.targets, self.at = torch.nn.Parameter(targets), 0

    def forward(self, images):
        rows = slice(self.at, self.at + len(images))
        self.at += len(images)
        return [self.targets[rows]]


def test_validation_does_not_depend_on_the_batch_size(crops):
    recipe = Recipe(size=64)
    _, _, targets, _ = next(
        batches(crops, no_jitter(len(crops)), np.arange(len(crops)), replace(recipe, batch_size=99), "cpu")
    )
    targets[::2] = targets[::2].roll((5, 5), (-2, -1))
    fabric = make_fabric()
    scores = [validate(fabric, fabric.setup(Truth(targets)), crops, replace(recipe, batch_size=n)) for n in (2, 7, 99)]
    assert 0.3 < scores[0]["pck"] < 0.7
    for score in scores[1:]:
        assert score == pytest.approx(scores[0], rel=1e-5)


def test_the_weights_that_are_kept_draw_what_was_logged(recipe, crops, tmp_path):
    history = run(replace(recipe, epochs=3), crops, tmp_path)
    best = history.loc[history.pck[::-1].idxmax()]  # the last of equals
    predictor = PosePredictor.load(tmp_path / "best.safetensors")
    validation = crops.split("val")
    images, _, targets, weights = next(
        batches(validation, no_jitter(99), np.arange(len(validation)), replace(recipe, batch_size=99), "cpu")
    )
    loss = heatmap_loss(predictor.heatmaps(images), targets, weights)
    assert float(loss) == pytest.approx(best.val_loss, rel=0.05)  # bfloat16 there, float32 here
    assert evaluate(predictor, validation)["pck"] == pytest.approx(best.pck, abs=0.05)


def test_a_finished_run_is_left_as_it_is(recipe, crops, tmp_path):
    history = run(recipe, crops, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert run(recipe, crops, tmp_path).equals(history)
    (tmp_path / "last.pt").unlink()  # as in a fresh clone
    assert len(run(recipe, crops, tmp_path)) == 1
    assert all(file.read_bytes() == content for file, content in before.items() if file.name != "last.pt")
    with pytest.raises(HgposeError, match=r"no last\.pt"):
        run(replace(recipe, epochs=2), crops, tmp_path)


def test_other_people_are_refused(recipe, crops, tmp_path):
    run(recipe, crops, tmp_path)
    with pytest.raises(HgposeError, match="other people"):
        run(replace(recipe, epochs=2), crops.take(np.arange(len(crops) - 1)), tmp_path)


def test_two_processes_count_every_person_once(recipe, crops, dataset, tmp_path):
    command = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "hgpose_utils", "train"]
    options = f"--data {dataset} --size 64 --batch-size 2 --epochs 1 --runs {tmp_path}".split()
    subprocess.run([sys.executable, *command, *options], check=True, capture_output=True, timeout=120)
    folder = next(tmp_path.rglob("config.json")).parent
    assert json.loads((folder / "config.json").read_text())["processes"] == 2
    logged = pd.read_csv(folder / "history.csv").iloc[0]
    fabric = make_fabric()
    predictor = PosePredictor.load(folder / "best.safetensors")
    alone = validate(fabric, fabric.setup(predictor.model), crops.split("val"), recipe)
    assert alone["val_loss"] == pytest.approx(logged.val_loss, rel=1e-2)
    assert alone["pck"] == pytest.approx(logged.pck, abs=0.02)


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
        ({"batch_size": 1}, "batch norm"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(recipe, crops, tmp_path, change, words):
    with pytest.raises(HgposeError, match=words):
        run(replace(recipe, **change), crops, tmp_path)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_a_full_or_locked_disk_is_named_and_nothing_half_written_stays(recipe, crops, tmp_path, monkeypatch, error):
    def fail(path, content):
        with open(path, "wb") as file:
            file.write(b"half")
        raise error

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(HgposeError, match=error.strerror):
        run(recipe, crops, tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"config.json", "history.csv"}
