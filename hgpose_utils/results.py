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
    return (
        pd.concat(map(_read_run, [f.parent for f in histories]), ignore_index=True)
        if histories
        else pd.DataFrame(columns=RUN_COLUMNS)
    )


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
    """One row per run: its last epoch, with the best PCK of all epochs and the mean of their seconds beside it."""
    runs = rows.groupby(["dataset", "model", "stacks", "seed"], sort=False)
    last = rows.loc[runs.epoch.idxmax()].set_index(["dataset", "model", "stacks", "seed"])
    return last.assign(best_pck=runs.pck.max(), seconds=runs.seconds.mean()).reset_index()


def readme_tables() -> dict[str, str]:
    """The tables of the README, by name, as Markdown: everything in them comes from results/."""
    runs = last_epochs(read_runs())
    runs = runs.assign(**{"minutes per epoch": runs.seconds / 60})
    runs = runs.rename(columns={"pck": "PCK", "pck_torso": "PCK@0.2 of the torso", "train_people": "people"})
    columns = ["dataset", "network", "people", "epoch", "seed", "PCK", "PCK@0.2 of the torso", "minutes per epoch"]
    report = read_report()
    last = report[report.epoch == report.epoch.max()].set_index("network").pck
    best = report.loc[report.groupby("network").pck.idxmax()].set_index("network")
    sizes = read_report_sizes().set_index("network").bytes / 1e6
    theirs = pd.DataFrame(
        {"checkpoint, MB": sizes, "PCK at epoch 15": last, "best PCK": best.pck, "at epoch": best.epoch}
    )
    return {"runs": _markdown(runs[columns]), "report": _markdown(theirs.loc[last.index].reset_index())}


def _markdown(table: pd.DataFrame) -> str:
    def cell(value):
        return (f"{value:.1f}" if value >= 1 else f"{value:.3f}") if isinstance(value, float) else str(value)

    rows = [
        list(table.columns),
        ["---"] * table.shape[1],
        *([cell(v) for v in row] for row in table.itertuples(index=False)),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_readme(text: str) -> str:
    """The README's text with its tables, between ``<!-- table: NAME -->`` and ``<!-- end -->``, made anew."""
    for name, table in readme_tables().items():
        start = f"<!-- table: {name} -->"
        before, rest = text.split(start)
        text = f"{before}{start}\n{table}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text
