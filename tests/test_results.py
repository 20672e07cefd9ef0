import json
import shutil

import numpy as np
import pandas as pd
import pytest

from hgpose_utils.budget import ROOT
from hgpose_utils.cli import app
from hgpose_utils.files import HgposeError
from hgpose_utils.models import NINE
from hgpose_utils.results import (
    PAGES,
    accuracy_table,
    bootstrap,
    differences,
    last_epochs,
    pck_of_errors,
    read_errors,
    read_report,
    read_report_sizes,
    read_runs,
    verdict,
    write_tables,
)


def test_the_reports_tables_are_whole():
    table = accuracy_table(read_report())
    assert table.shape == (15, 9) and not table.isna().any(axis=None)
    assert list(table)[:3] == ["New-s1", "New-s2", "New-s8"]
    assert table.loc[14, "HG-s8"] == table.max(axis=None) == 0.762462
    assert len(read_report_sizes()) == len(NINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_pages_tables_come_from_results(page):
    text = page.read_text()
    assert "<!-- table: " in text and write_tables(text) == text, "run make report"


def test_committed_runs_say_what_they_are_and_learnt():
    runs = read_runs()
    assert len(runs)
    for file in (ROOT / "results/runs").rglob("config.json"):
        config = json.loads(file.read_text())
        assert config["commit"] and not config["commit"].endswith("+") and config["versions"]["torch"]
    for _, run in runs.groupby(["dataset", "network", "seed"]):
        assert run.epoch.tolist() == list(range(1, len(run) + 1))
        assert run.pck.iloc[-1] > run.pck.iloc[0] or run.learning_rate.iloc[0] > 0.1  # which cannot learn


def test_a_new_run_shows_up_and_a_damaged_one_is_named(tmp_path):
    folder = tmp_path / "mpii/hg-s2/seed1"
    folder.mkdir(parents=True)
    source = ROOT / "results/runs/photos-128/hg-s1/seed0"
    config = json.loads((source / "config.json").read_text())
    config["recipe"] |= {"stacks": 2, "seed": 1}
    (folder / "config.json").write_text(json.dumps(config | {"dataset": config["dataset"] | {"name": "mpii"}}))
    (folder / "history.csv").write_text((source / "history.csv").read_text())
    other = shutil.copytree(folder, tmp_path / "mpii/hg-s2/seed2")  # a shorter run beside it
    (other / "config.json").write_text((folder / "config.json").read_text().replace('"seed": 1', '"seed": 2'))
    (other / "history.csv").write_text("\n".join((folder / "history.csv").read_text().splitlines()[:3]) + "\n")
    last = last_epochs(read_runs(tmp_path))
    assert last[["dataset", "stacks", "seed", "epoch"]].values.tolist() == [["mpii", 2, 1, 15], ["mpii", 2, 2, 2]]
    (folder / "config.json").write_text("{")
    with pytest.raises(HgposeError, match="seed1"):
        read_runs(tmp_path)


def errors(*found):
    """The errors of people of whom all joints are found, or none."""
    return pd.DataFrame(np.where(np.array(found)[:, None], 0.1, 3.0) * np.ones(16))


def test_pck_of_errors_by_hand():
    table = errors(1, 1, 0, 0)
    table.iloc[0, 0] = np.nan  # a right ankle: 1 of 3 found instead of 2 of 4
    assert pck_of_errors(table) == pytest.approx((9 * 2 / 4 + 1 / 3) / 10)
    assert pck_of_errors(table, np.array([[1, 1, 0, 0], [0, 0, 5, 0]])).tolist() == [1, 0]


def test_the_bootstrap_is_paired_and_as_wide_as_it_should_be():
    rng = np.random.default_rng(0)
    one = rng.random(1000) < 0.4
    better = one | (rng.random(1000) < 0.1)  # finds all that the other finds, and a tenth of the rest
    runs = {("A-s1", 0): errors(*one), ("B-s1", 0): errors(*better), ("C-s1", 0): errors(*one)}
    table = differences(runs, [("B-s1", "A-s1"), ("C-s1", "A-s1"), ("D-s1", "A-s1")])
    assert list(table.index) == ["B-s1 before A-s1", "C-s1 before A-s1"]
    gain = better.mean() - one.mean()
    width = 2 * 1.96 * (gain * (1 - gain) / 1000) ** 0.5
    assert table.iloc[0]["ahead by"] == pytest.approx(100 * gain)
    assert table.iloc[0]["to"] - table.iloc[0]["from"] == pytest.approx(100 * width, rel=0.05)
    assert table.iloc[1].tolist()[:4] == [0, 0, 0, 1]


def test_seeds_are_averaged_and_have_an_interval_of_their_own():
    runs = {("A-s1", 0): errors(1, 1), ("A-s1", 1): errors(1, 0), ("B-s1", 0): errors(0, 0), ("B-s1", 1): errors(0, 0)}
    row = differences(runs, [("A-s1", "B-s1")]).iloc[0]
    assert row[["ahead by", "from", "to", "seeds"]].tolist() == [75, 50, 100, 2]
    half = 12.706 * 25  # Student's t with one degree of freedom; the two differences are 100 and 50
    assert row[["seeds from", "seeds to"]].tolist() == pytest.approx([75 - half, 75 + half], rel=1e-3)
    alone = differences(runs | {("C-s1", 1): errors(0, 1)}, [("C-s1", "B-s1"), ("A-s1", "C-s1")])
    assert alone["ahead by"].tolist() == [50, 0] and alone["seeds from"].isna().all()  # only the seeds that both have


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            [2, 1, 3, 1, np.nan, np.nan],
            "not decided, leaning to yes: +2.0 points, 95 % over people +1.0 to +3.0, 1 seed",
        ),
        ([-2, -3, -1, 2, -9, 5], "not decided, leaning to no: "),
        ([2, -1, 5, 3, 1, 3], "not decided: "),
        ([2, 1, 3, 3, 1, 3], "supported: "),
        ([-2, -3, -1, 3, -3, -1], "not supported: "),
    ],
)
def test_a_verdict_needs_both_intervals_on_one_side_of_zero(row, words):
    columns = ["ahead by", "from", "to", "seeds", "seeds from", "seeds to"]
    table = pd.DataFrame([row], index=["A-s1 before B-s1"], columns=columns)
    assert verdict(table, "A-s1", "B-s1").startswith(words)
    assert verdict(table, "B-s1", "A-s1") == "not decided: no such runs yet"


def test_different_people_are_not_compared():
    with pytest.raises(HgposeError, match="different numbers of people"):
        bootstrap({("A-s1", 0): errors(1, 1), ("B-s1", 0): errors(1)})


def test_the_errors_of_the_last_epoch_give_its_pck(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["hgpose"])
    for people in (8, 12):
        options = ["--size", "64", "--epochs", "1", "--batch-size", "4", "--channels", "32", "--people", str(people)]
        runs = tmp_path / str(people)
        app(["train", "--data", str(dataset), "--runs", str(runs), *options], standalone_mode=False)
        history = next(runs.rglob("history.csv"))
        (run,) = read_errors("people-64", runs).items()
        assert run[0] == ("HG32-s1", 0) and len(run[1]) == read_runs(runs).val_people[0]
        assert pck_of_errors(run[1]) == pytest.approx(pd.read_csv(history).pck[0], abs=0.03)  # bfloat16 there
