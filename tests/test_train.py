import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.fabric.loggers import CSVLogger

from hgpose_utils.augment import no_jitter
from hgpose_utils.crops import join, make_crops
from hgpose_utils.files import HgposeError
from hgpose_utils.metrics import ReportPCK
from hgpose_utils.models import VARIANTS, build_model
from hgpose_utils.predict import PosePredictor, evaluate
from hgpose_utils.runs import Recipe
from hgpose_utils.train import batches, heatmap_loss, make_fabric, people_of, train, validate


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
    subprocess.run([sys.executable, *command, *options], check=True, capture_output=True, timeout=300)
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
    with pytest.raises(HgposeError, match=r"cannot read the checkpoint .*last\.pt"):
        run(recipe, crops, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(
    recipe, crops, tmp_path, monkeypatch
):
    run(recipe, crops, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.suffix in (".csv", ".pt")}
    calls = []

    def loss(heatmaps, targets, weights):
        calls.append(1)
        return heatmap_loss(heatmaps, targets, weights) * (float("nan") if len(calls) == 3 else 1)

    monkeypatch.setattr("hgpose_utils.train.heatmap_loss", loss)
    with pytest.raises(HgposeError, match=r"loss is nan in epoch 2, step 3 of 5: learning rate 0\.00025"):
        run(replace(recipe, epochs=2), crops, tmp_path)
    assert all(file.read_bytes() == content for file, content in before.items())


def test_flat_heatmaps_are_noticed(recipe, crops, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr("hgpose_utils.train.decode", lambda maps: (maps[..., :2, 0] * 0, maps[..., 0, 0] * 0))
    run(recipe, crops, tmp_path, lines.append)
    assert "flat" in lines[-1]


def test_time_is_kept(recipe, crops, tmp_path):
    lines, ten = [], replace(recipe, epochs=10)
    quietly = {"log": lines.append, "progress": False}
    assert train(ten, crops, tmp_path, "people-64", deadline=time.monotonic(), **quietly).empty
    assert "time is up after 0 of 10" in lines[-1] and not (tmp_path / "last.pt").exists()
    seconds = run(recipe, crops, tmp_path).seconds[0]
    start = time.monotonic()
    history = train(ten, crops, tmp_path, "people-64", deadline=start + 3.5 * seconds, **quietly)
    assert 1 < len(history) < 10 and time.monotonic() - start < 3.5 * seconds + 5


def test_an_epoch_that_is_cut_off_leaves_nothing(recipe, crops, tmp_path, monkeypatch):
    answers = iter([False, False, True])  # before the epoch, after its first step, after its second
    monkeypatch.setattr("hgpose_utils.train.is_late", lambda fabric, deadline: next(answers))
    monkeypatch.setattr("hgpose_utils.train.LOOK", 1)
    assert run(recipe, crops, tmp_path).empty and next(answers, "all asked") == "all asked"
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: b"x"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(recipe, crops, tmp_path, damage):
    whole = run(replace(recipe, epochs=2), crops, tmp_path)
    last = tmp_path / "last.pt"
    last.write_bytes(damage(last.read_bytes()))
    with pytest.warns(UserWarning, match=r"last\.pt is damaged: going on from previous\.pt, after epoch 1"):
        again = run(replace(recipe, epochs=2), crops, tmp_path)
    assert again[["loss", "val_loss", "pck"]].equals(whole[["loss", "val_loss", "pck"]])


def test_hidden_joints_can_be_left_out_of_the_loss_but_not_of_the_score(recipe, crops):
    training, validation = people_of(replace(recipe, occluded=False), crops)
    everything, _ = people_of(recipe, crops)
    lost = np.isnan(training.joints).any(-1) & ~np.isnan(everything.joints).any(-1)
    hidden = ~np.stack(everything.people.visible) & ~np.isnan(everything.joints).any(-1)
    assert lost.any() and np.array_equal(lost, hidden)
    assert np.array_equal(validation.joints, crops.split("val").joints, equal_nan=True)
    _, _, targets, weights = next(batches(training, no_jitter(len(training)), np.arange(4), recipe, "cpu"))
    assert not weights[torch.from_numpy(lost[:4])].any() and not targets[torch.from_numpy(lost[:4])].any()


def test_a_part_of_the_people_is_spread_over_all(recipe, crops):
    some, everybody = (people_of(replace(recipe, people=n), crops)[0].people.image for n in (5, None))
    assert len(some) == 5 and some.iloc[0] == everybody.iloc[0] and some.iloc[-1] == everybody.iloc[-1]


def test_the_history_goes_to_a_logger(recipe, crops, tmp_path):
    fabric = make_fabric()
    fabric.loggers.append(CSVLogger(tmp_path, "log", "one", flush_logs_every_n_steps=1))
    history = train(recipe, crops, tmp_path / "run", "people-64", fabric, log=lambda line: None, progress=False)
    assert pd.read_csv(tmp_path / "log/one/metrics.csv").pck[0] == pytest.approx(history.pck[0])


def test_the_precision_can_be_chosen():
    assert make_fabric("32-true")._precision.precision == "32-true"
    fast = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    assert torch.cuda.is_available() or make_fabric()._precision.precision == ("bf16-mixed" if fast else "32-true")


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
    assert {f.name for f in tmp_path.iterdir()} == {"config.json"}


def stop(_line):
    raise KeyboardInterrupt


def test_a_falling_learning_rate_is_the_same_when_a_run_goes_on(recipe, crops, tmp_path):
    three = replace(recipe, epochs=3, decay=True)
    whole = run(three, crops, tmp_path / "a")
    assert whole.learning_rate.tolist() == pytest.approx([2.5e-4, 1.875e-4, 0.625e-4])
    with pytest.raises(KeyboardInterrupt):
        run(three, crops, tmp_path / "b", log=stop)
    assert run(three, crops, tmp_path / "b").loss.equals(whole.loss)
    with pytest.raises(HgposeError, match="epochs 4"):
        run(replace(three, epochs=4), crops, tmp_path / "b")


def test_datasets_are_joined(crops):
    twice = join([crops, crops])
    assert len(twice) == 2 * len(crops) and np.allclose(twice.joints[len(crops) :], crops.joints, equal_nan=True)
    assert torch.equal(twice.images([len(crops) + 3]), crops.images([3]))
    assert len(twice.split("val")) == 2 * len(crops.split("val"))
