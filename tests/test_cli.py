import subprocess
import sys

import pandas as pd
import pytest

from hgpose_utils import cli
from hgpose_utils.results import read_runs


def hgpose(monkeypatch, capsys, *words):
    """Runs the command line in this process: exit status, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["hgpose", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, *capsys.readouterr()


def test_from_drawn_people_to_a_pose(tmp_path, monkeypatch, capsys):
    def call(*words):
        status, out, err = hgpose(monkeypatch, capsys, *words)
        assert not status, err
        return out

    data, runs = tmp_path / "people", tmp_path / "runs"
    call("synth", data, "--people", 10)
    call("crop", data, "--size", 64)
    train = ["train", "--data", data, "--size", 64, "--batch-size", 4, "--runs", runs]
    call(*train, "--model", "hru", "--epochs", 1)
    assert "2 epochs" in call(*train, "--model", "hru", "--epochs", 2)
    history = read_runs(runs)
    assert history.epoch.tolist() == [1, 2] and history.dataset.unique().tolist() == ["people-64"]
    checkpoint = runs / "people-64/hru-s1/seed0/best.safetensors"
    scores = call("evaluate", "--data", data, checkpoint, "--out", tmp_path / "scores.csv")
    assert "pckh_auc" in scores and "r_ankle" in scores
    table = pd.read_csv(tmp_path / "scores.csv")
    assert len(table) == 5 * 4 and table["mean"].between(0, 1).all()
    call("predict", data / "images/000001.jpg", "--checkpoint", checkpoint, "--out", tmp_path / "poses")
    assert {f.name for f in (tmp_path / "poses").iterdir()} == {"000001-pose.jpg", "poses.json"}


@pytest.fixture
def damaged(tmp_path):
    """A run folder whose checkpoint is no checkpoint."""
    folder = tmp_path / "runs/people-64/hg-s1/seed0"
    folder.mkdir(parents=True)
    (folder / "last.pt").write_bytes(b"damaged")
    return tmp_path / "runs"


def test_bad_input_is_one_line_and_exit_2(tmp_path, dataset, damaged, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    train = ["train", "--data", dataset, "--size", 64, "--batch-size", 4]
    for words, said in [
        (["train", "--data", tmp_path / "empty"], "no annotations"),
        (["train", "--data", tmp_path / "nothing"], "no dataset"),
        (["train", "--data", dataset, "--model", "resnet"], "unknown model"),
        (["train", "--data", dataset, "--stacks", 0], "stacks is 0"),
        (["train", "--data", dataset, "--stacks", "many"], "--stacks"),
        (["train"], "--data"),
        (["train", "--data", dataset, "--seed", -1], "seed is -1"),
        (["crop", dataset, "--size", 100], "divisible by 64"),
        (["crop", dataset, "--size", 0], "divisible by 64"),
        (["bench", "--size", -64], "divisible by 64"),
        (["synth", tmp_path / "people", "--people", 2, "--seed", -1], "seed is -1"),
        (["trian"], "trian"),
        ([*train, "--runs", damaged], "last.pt"),
        ([*train, "--runs", tmp_path / "file"], "cannot write"),
        ([*train, "--runs", "/proc/runs"], "cannot write"),
        (["synth", "/proc/people", "--people", 2], "cannot write"),
        (["evaluate", "--data", dataset, tmp_path / "file"], "cannot read the checkpoint"),
        (["predict", tmp_path / "file", "--checkpoint", tmp_path / "none"], "cannot read the checkpoint"),
    ]:
        status, _, err = hgpose(monkeypatch, capsys, *words)
        assert status == 2 and err.count("\n") == 1 and said in err, (words, err)
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("history.csv"))


def test_an_unknown_budget_is_named(monkeypatch, capsys):
    monkeypatch.setenv("HGPOSE_BUDGET", "huge")
    status, _, err = hgpose(monkeypatch, capsys, "course")
    assert status == 2 and "fast, course, full" in err and err.count("\n") == 1


def test_the_module_runs_too_and_shows_no_traceback():
    command = [sys.executable, "-m", "hgpose_utils", "train", "--data", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_ctrl_c_is_one_line_too(monkeypatch, capsys, dataset):
    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("hgpose_utils.annotations.check_people", interrupt)
    status, _, err = hgpose(monkeypatch, capsys, "data", "check", dataset)
    assert status == 130 and err.strip() == "hgpose: stopped; what is done is kept"
