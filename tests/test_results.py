import json
import shutil

import pytest

from hgpose_utils.budget import ROOT
from hgpose_utils.files import HgposeError
from hgpose_utils.models import NINE
from hgpose_utils.results import accuracy_table, last_epochs, read_report, read_report_sizes, read_runs, write_readme


def test_the_reports_tables_are_whole():
    table = accuracy_table(read_report())
    assert table.shape == (15, 9) and not table.isna().any(axis=None)
    assert list(table)[:3] == ["New-s1", "New-s2", "New-s8"]
    assert table.loc[14, "HG-s8"] == table.max(axis=None) == 0.762462
    assert len(read_report_sizes()) == len(NINE)


def test_the_readmes_tables_come_from_results():
    text = (ROOT / "README.md").read_text()
    assert write_readme(text) == text, "run make report"


def test_committed_runs_say_what_they_are_and_learnt():
    runs = read_runs()
    assert len(runs)
    for file in (ROOT / "results/runs").rglob("config.json"):
        config = json.loads(file.read_text())
        assert config["commit"] and not config["commit"].endswith("+") and config["versions"]["torch"]
    for _, run in runs.groupby(["dataset", "network", "seed"]):
        assert run.epoch.tolist() == list(range(1, len(run) + 1))
        assert run.pck.iloc[-1] > run.pck.iloc[0]


def test_a_new_run_shows_up_and_a_damaged_one_is_named(tmp_path):
    folder = tmp_path / "mpii/hg-s2/seed1"
    folder.mkdir(parents=True)
    source = next((ROOT / "results/runs").rglob("config.json")).parent
    config = json.loads((source / "config.json").read_text())
    config["recipe"] |= {"stacks": 2, "seed": 1}
    (folder / "config.json").write_text(json.dumps(config | {"dataset": config["dataset"] | {"name": "mpii"}}))
    (folder / "history.csv").write_text((source / "history.csv").read_text())
    other = shutil.copytree(folder, tmp_path / "mpii/hg-s2/seed2")  # a shorter run beside it
    (other / "config.json").write_text((folder / "config.json").read_text().replace('"seed": 1', '"seed": 2'))
    (other / "history.csv").write_text("\n".join((folder / "history.csv").read_text().splitlines()[:3]) + "\n")
    last = last_epochs(read_runs(tmp_path))
    assert last[["dataset", "stacks", "seed", "epoch"]].values.tolist() == [["mpii", 2, 1, 3], ["mpii", 2, 2, 2]]
    (folder / "config.json").write_text("{")
    with pytest.raises(HgposeError, match="seed1"):
        read_runs(tmp_path)
