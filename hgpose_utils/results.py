"""The report's numbers and ours, read from results/ and nowhere else."""

import json
from pathlib import Path

import pandas as pd

from hgpose_utils.budget import ROOT
from hgpose_utils.files import HgposeError

NAMES = {"hg": "HG", "hru": "HRU", "new": "New"}


def network_name(model: str, stacks: int) -> str:
    """ "new", 8 -> "New-s8", as the report writes it."""
    return f"{NAMES.get(model, model)}-s{stacks}"


def read_report() -> pd.DataFrame:
    """The report's validation PCK: model, stacks, epoch, pck, network; 15 epochs of nine networks."""
    table = pd.read_csv(ROOT / "results/report/accuracy.csv").rename(columns={"val_pck": "pck"})
    return _named(table)


def read_report_sizes() -> pd.DataFrame:
    """The report's checkpoint sizes: model, stacks, bytes, network."""
    return _named(pd.read_csv(ROOT / "results/report/checkpoint_bytes.csv"))


def read_runs(folder=ROOT / "results/runs") -> pd.DataFrame:
    """Every run below a folder, one row an epoch: dataset, model, stacks, seed, network, and the history's columns.

    Empty where there is none. Raises `HgposeError` for a run whose files cannot be read.
    """
    return (
        pd.concat(
            [pd.DataFrame(columns=["dataset", "model", "stacks", "seed", "epoch", "pck", "network"])]
            + [
                _read_run(config)
                for config in sorted(Path(folder).glob("**/config.json"))
                if (config.parent / "history.csv").exists()
            ]
        )
        if Path(folder).exists()
        else pd.DataFrame()
    )


def _read_run(config: Path) -> pd.DataFrame:
    try:
        recipe = json.loads(config.read_text())
        history = pd.read_csv(config.parent / "history.csv")
        keys = {"dataset": recipe["dataset"]["name"], "train_people": recipe["dataset"]["train_people"]}
        keys |= {k: recipe["recipe"][k] for k in ("model", "stacks", "seed", "size")}
        return _named(history.assign(**keys))
    except (ValueError, KeyError, OSError) as e:
        raise HgposeError(f"cannot read the run in {config.parent}: {e}; delete it or make it again") from e


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(network=[network_name(m, s) for m, s in zip(table.model, table.stacks, strict=True)])


def accuracy_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Epochs down, networks across, in the report's order of columns (New, HRU, HG); the mean over seeds."""
    order = [network_name(m, s) for m in ("new", "hru", "hg") for s in (1, 2, 8)]
    table = rows.pivot_table(index="epoch", columns="network", values="pck")
    return table[[n for n in order if n in table] + [n for n in table if n not in order]].rename_axis(columns=None)


def last_epochs(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a run: its last epoch, and the best of all its epochs beside it."""
    runs = rows.groupby(["dataset", "model", "stacks", "seed"], sort=False)
    last = rows.loc[runs.epoch.idxmax()].set_index(["dataset", "model", "stacks", "seed"])
    return last.assign(best_pck=runs.pck.max()).reset_index()
