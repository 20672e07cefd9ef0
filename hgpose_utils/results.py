"""The report's numbers and ours, read from results/ and nowhere else."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from hgpose_utils.budget import ROOT
from hgpose_utils.cost import forward_gflop
from hgpose_utils.files import HgposeError
from hgpose_utils.heatmaps import STRIDE
from hgpose_utils.models import build_model, count_parameters
from hgpose_utils.runs import Recipe
from hgpose_utils.skeleton import REPORT_JOINTS

#: The pages with tables that are made from results/.
PAGES = (ROOT / "README.md", ROOT / "benchmarks/README.md")

RUN_COLUMNS = ["dataset", "train_people", "val_people", "network", "model", "stacks", "channels", "seed", "size"]
RUN_COLUMNS += [
    "epoch",
    "loss",
    "val_loss",
    "pck",
    "pck_torso",
    "peak",
    "learning_rate",
    "images_per_second",
    "seconds",
]

NAMES = {"hg": "HG", "hru": "HRU", "new": "New"}


#: What the report concludes and what we ask besides, by the two networks that would show it, the better one first.
#: HG532 is what the report leaves out: HG with as many parameters as New.
CLAIMS = {
    ("HRU-s1", "HG-s1"): "1 stack: HRU beats HG",
    ("New-s1", "HG-s1"): "1 stack: New beats HG",
    ("New-s1", "HRU-s1"): "our question, 1 stack: do transposed convolutions add to it (New beats HRU)?",
    ("New-s1", "HG532-s1"): "our question, 1 stack: is it more than size (New beats an HG as large)?",
    ("HRU-s2", "HG-s2"): "our question, 2 stacks: does HRU beat HG?",
    ("New-s2", "HG-s2"): "2 stacks: New beats HG (there by about 2 points)",
    ("New-s2", "HRU-s2"): "2 stacks: New beats HRU (there by about 2 points)",
    ("HRU-s8", "HG-s8"): "8 stacks: HRU beats HG (there by 1.5 points)",
    ("New-s8", "HG-s8"): "8 stacks: New beats HG (there by 1.5 points)",
    ("New-s8", "HRU-s8"): "8 stacks: New beats HRU (there by 0.5 points)",
}


def network_name(model: str, stacks: int, channels: int = 256) -> str:
    """ "new", 8 -> "New-s8", as the report writes it; with 532 channels "New532-s8"."""
    return f"{NAMES.get(model, model)}{channels if channels != 256 else ''}-s{stacks}"


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


def in_dataset(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Of some runs, those on one dataset by the usual recipe ("HG-s1", not "HG-s1-lr0.25")."""
    return rows[(rows.dataset == name) & rows.network.str.fullmatch(r"[A-Za-z]+\d*-s\d+")]


def _read_run(folder: Path) -> pd.DataFrame:
    try:
        config = json.loads((folder / "config.json").read_text())
        recipe = Recipe(**config["recipe"])
        network = recipe.name.replace(recipe.network, network_name(recipe.model, recipe.stacks, recipe.channels))
        run = asdict(recipe) | config["dataset"] | {"dataset": config["dataset"]["name"], "network": network}
        return pd.read_csv(folder / "history.csv").assign(**run)[RUN_COLUMNS]
    except (ValueError, KeyError, TypeError, OSError) as e:
        raise HgposeError(f"cannot read the run in {folder}: {e}; delete it or make it again") from e


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(network=[network_name(m, s) for m, s in zip(table.model, table.stacks, strict=True)])


def read_errors(dataset: str, folder=ROOT / "results/runs") -> dict[tuple[str, int], pd.DataFrame]:
    """The last epoch's errors of a dataset's runs: (network, seed) -> people × joints, in tenths of the heatmap's side.

    At most 0.5 is found, for the report's PCK. Runs that are not finished have none.
    """
    errors = {}
    for file in sorted((Path(folder) / dataset).glob("*/seed*/errors.csv.gz")):
        run = _read_run(file.parent).iloc[0]
        errors[run.network, run.seed] = pd.read_csv(file) / (run["size"] / STRIDE / 10)
    return errors


def pck_of_errors(errors: pd.DataFrame, counts=None) -> np.ndarray:
    """The report's PCK from errors in tenths of the heatmap's side; person i counts ``counts`` [..., i] times."""
    joints = errors.to_numpy()[:, REPORT_JOINTS]
    counts = np.ones(len(joints)) if counts is None else counts
    return ((counts @ (joints <= 0.5)) / (counts @ ~np.isnan(joints))).mean(-1)


def bootstrap(errors: dict[tuple[str, int], pd.DataFrame], draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """PCK on validation people drawn anew: one row a draw, one column a run, (network, seed).

    Paired: in each draw all runs meet the same people (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
    It tells how much the choice of people matters, not how much another seed would.
    """
    people = {len(table) for table in errors.values()}
    if len(people) != 1:
        raise HgposeError(f"the runs were validated on different numbers of people ({people}): compare like with like")
    n = people.pop()
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws).astype(np.float32)
    return pd.DataFrame({run: pck_of_errors(table, counts) for run, table in errors.items()})


def differences(errors: dict[tuple[str, int], pd.DataFrame], pairs) -> pd.DataFrame:
    """How many points of PCK the first network of each pair is ahead of the second, over the seeds that both have.

    from, to: the 95 % interval over the validation people (see `bootstrap`). seeds from, seeds to: that over the seeds,
    by Student's t from their paired differences (the same seed shows both networks the same pictures in the same
    order); very wide with two seeds, NaN with one. Bootstrapping two or three seeds would make it far too narrow.
    """
    drawn, rows = 100 * bootstrap(errors), {}
    seen = {run: 100 * pck_of_errors(table) for run, table in errors.items()}
    for one, other in pairs:
        seeds = [s for network, s in errors if network == one and (other, s) in errors]
        if seeds:
            low, high = (drawn[one][seeds] - drawn[other][seeds]).mean(axis=1).quantile([0.025, 0.975])
            each = [seen[one, s] - seen[other, s] for s in seeds]
            half = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each) if len(each) > 1 else np.nan
            row = {"ahead by": np.mean(each), "from": low, "to": high, "seeds": len(seeds)}
            rows[f"{one} before {other}"] = row | {"seeds from": np.mean(each) - half, "seeds to": np.mean(each) + half}
    return pd.DataFrame(rows, index=["ahead by", "from", "to", "seeds", "seeds from", "seeds to"]).T


def pck_per_joint(errors: dict[tuple[str, int], pd.DataFrame]) -> pd.DataFrame:
    """The share of joints found, left and right together, best first; one column a network, the mean over seeds."""
    found = {run: (table <= 0.5).sum() / table.notna().sum() for run, table in errors.items()}
    joints = pd.DataFrame(found).T.groupby(level=0, sort=False).mean().T
    joints = joints.groupby(lambda joint: joint.removeprefix("r_").removeprefix("l_"), sort=False).mean()
    return joints.loc[joints.mean(axis=1).sort_values(ascending=False).index].dropna()


def costs(rows: pd.DataFrame) -> pd.DataFrame:
    """What each network of some runs reaches (the mean of its last three epochs), and what it takes.

    Images per second are those of the epoch that was disturbed least.
    """
    table = {}
    for network, run in rows.groupby("network", sort=False):
        one = run.iloc[0]
        with torch.device("meta"):
            model = build_model(one.model, int(one.stacks), channels=int(one.channels))
        table[network] = {
            "PCK": summaries(run).loc[network, "mean of the last three"],
            "million parameters": count_parameters(model) / 1e6,
            "GFLOP forward": forward_gflop(model, int(one["size"])),
            "images per second": run.images_per_second.max(),
        }
    return pd.DataFrame(table).T


def verdict(table: pd.DataFrame, one: str, other: str) -> str:
    """One row of `differences` in words: decided where both intervals, people and seeds, lie on one side of zero."""
    if f"{one} before {other}" not in table.index:
        return "not decided: no such runs yet"
    ahead, low, high, seeds, seeds_low, seeds_high = table.loc[f"{one} before {other}"]
    numbers = f"{ahead:+.1f} points, 95 % over people {low:+.1f} to {high:+.1f}, "
    numbers += f"over {seeds:.0f} seeds {seeds_low:+.1f} to {seeds_high:+.1f}" if seeds > 1 else "1 seed"
    if low <= 0 <= high:
        return f"not decided: {numbers}"
    if not seeds_low * seeds_high > 0:  # or not a number
        return f"not decided, leaning to {'yes' if low > 0 else 'no'}: {numbers}"
    return f"{'supported' if low > 0 else 'not supported'}: {numbers}"


def verdicts(errors: dict[tuple[str, int], pd.DataFrame], rows: pd.DataFrame) -> pd.DataFrame:
    """What a dataset's runs say of each of `CLAIMS`: after the last epoch, and in the last three's mean (each seed)."""
    ahead, late = differences(errors, CLAIMS), 100 * summaries(rows, each_seed=True)["mean of the last three"]
    table = []
    for (one, other), claim in CLAIMS.items():
        leads = (late[one] - late[other]).dropna() if {one, other} <= set(rows.network) else pd.Series(dtype=float)
        each = f" ({', '.join(f'{lead:+.1f}' for lead in leads)})" if len(leads) > 1 else ""
        table.append((claim, verdict(ahead, one, other), f"{leads.mean():+.1f}{each}" if len(leads) else "–"))
    return pd.DataFrame(table, columns=["claim, or our question", "after the last epoch", "mean of the last three"])


def summaries(rows: pd.DataFrame, each_seed: bool = False) -> pd.DataFrame:
    """Each network's PCK after its last epoch, after its best, and the mean of its last three; the mean over seeds.

    ``each_seed``: a row for every seed instead.
    """
    runs = rows.sort_values("epoch").groupby(["network", "seed"], sort=False).pck
    table = pd.DataFrame(
        {
            "last epoch": runs.last(),
            "best epoch": runs.max(),
            "mean of the last three": runs.apply(lambda pck: pck.tail(3).mean()),
        }
    )
    return table.sort_index() if each_seed else table.groupby(level="network", sort=False).mean()


def accuracy_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Epochs down, networks across, in the report's order of columns (New, HRU, HG); the mean over seeds."""
    order = [network_name(m, s) for m in ("new", "hru", "hg") for s in (1, 2, 8)]
    table = rows.pivot_table(index="epoch", columns="network", values="pck")
    return table[[n for n in order if n in table] + [n for n in table if n not in order]].rename_axis(columns=None)


def last_epochs(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run: its last epoch, with the best PCK of all epochs and the seconds of the quickest beside it."""
    run = ["dataset", "network", "seed"]
    runs = rows.groupby(run, sort=False)
    last = rows.loc[runs.epoch.idxmax()].set_index(run)
    return last.assign(best_pck=runs.pck.max(), seconds=runs.seconds.min()).reset_index()


def tables() -> dict[str, str]:
    """The tables of the pages, by name, as Markdown: everything in them comes from results/."""
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
    tables = {"runs": markdown(runs[columns]), "report": markdown(theirs.loc[last.index].reset_index())}
    ours = verdicts(read_errors("photos-128"), in_dataset(read_runs(), "photos-128"))
    tables |= {"verdicts": markdown(ours), "checkpoints": markdown(checkpoints())}
    return tables | {kind: speeds(kind) for kind in ("ways", "nine")}


def checkpoints() -> pd.DataFrame:
    """What the networks that come with the course reach, from the .json files that `release.release` left."""
    names = {"pck": "PCK", "pck_torso": "PCK@0.2 of the torso", "pckh": "PCKh@0.5", "pckh_auc": "PCKh, area under"}
    rows = []
    for file in sorted((ROOT / "results/checkpoints").glob("*.json")):
        about = json.loads(file.read_text())
        epochs = {"network": file.stem, "MB": about["bytes"] / 1e6, "epochs": about["recipe"]["epochs"]}
        for people, scores in about["validation"].items():
            rows.append(epochs | {"on": people} | {name: scores.get(key, "–") for key, name in names.items()})
    return pd.DataFrame(rows)


def speeds(kind: str) -> str:
    """The tables of what `hgpose bench` measured, one for each machine, input and batch size.

    "ways": every way of running a network, for each network; "nine": all nine networks, in the last way that all have.
    """
    parts = []
    for file in sorted((ROOT / "results/bench").glob("*.csv")):
        for (size, batch), table in pd.read_csv(file).groupby(["size", "batch"]):
            if kind == "ways":
                groups = [(f"{name}, ", part) for name, part in table.groupby("network", sort=False) if len(part) > 1]
            else:
                groups = [(f"“{way}”, ", part) for way, part in table.groupby("way", sort=False) if len(part) >= 9][-1:]
            for what, part in groups:
                about, dates = part.iloc[-1], " and ".join(sorted(part.date.unique()))
                parts.append(f"{about.device}, {what}{size} px, batch {batch}, torch {about.torch}, {dates}:")
                same = [
                    "size",
                    "batch",
                    "peak GFLOP/s",
                    "date",
                    "device",
                    "torch",
                    "network" if kind == "ways" else "way",
                ]
                parts.append(markdown(part.drop(columns=same).dropna(axis=1)))
    return "\n\n".join(parts)


def markdown(table: pd.DataFrame) -> str:
    """A table for a page; numbers below 1 with three places, others with one."""

    def cell(value):
        return (f"{value:.1f}" if value >= 1 else f"{value:.3f}") if isinstance(value, float) else str(value)

    rows = [
        list(table.columns),
        ["---"] * table.shape[1],
        *([cell(v) for v in row] for row in table.itertuples(index=False)),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_tables(text: str) -> str:
    """A page's text with its tables, between ``<!-- table: NAME -->`` and ``<!-- end -->``, made anew."""
    for name, table in tables().items():
        start = f"<!-- table: {name} -->"
        if start in text:
            before, rest = text.split(start)
            text = f"{before}{start}\n{table}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text
