"""The report's numbers and ours, read from results/ and nowhere else."""

import json
from pathlib import Path

import pandas as pd

from hgpose_utils.budget import ROOT
from hgpose_utils.files import HgposeError

RUN_COLUMNS = ["dataset", "train_people", "val_people", "model", "stacks", "seed", "size", "network", "epoch"]
RUN_COLUMNS += ["loss", "val_loss", "pck", "pck_torso", "peak", "learning_rate", "images_per_second", "seconds"]

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
    """Every run below a folder, one row an epoch, in the columns of `RUN_COLUMNS`; empty where there is none.

    Raises `HgposeError` for a run whose files cannot be read.
    """
    histories = sorted(Path(folder).glob("**/history.csv"))
    return pd.concat([_read_run(file.parent) for file in histories]) if histories else pd.DataFrame(columns=RUN_COLUMNS)


def _read_run(folder: Path) -> pd.DataFrame:
    try:
        config = json.loads((folder / "config.json").read_text())
        run = config["recipe"] | config["dataset"] | {"dataset": config["dataset"]["name"]}
        return _named(pd.read_csv(folder / "history.csv").assign(**run))[RUN_COLUMNS]
    except (ValueError, KeyError, OSError) as e:
        raise HgposeError(f"cannot read the run in {folder}: {e}; delete it or make it again") from e


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
