"""A run and its folder: the recipe, the history, the checkpoints.

run folder: results/runs/<dataset>/<network>/seed<n>/, the network say hg-s1; hg-s1-lr0.25 if that is not as usual
    config.json          the recipe, the data, the machine
    history.csv          one row an epoch
    errors.csv.gz        the last epoch's error of each validation person's joints, in heatmap pixels
    best.safetensors     the weights of the best epoch (not in git)
    last.pt              all that is needed to go on, and previous.pt, the same an epoch earlier (not in git)
"""

import io
import json
import math
import os
import platform
import subprocess
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import safetensors.torch
import torch
from lightning.fabric.utilities import rank_zero_only

from hgpose_utils.crops import Crops, check_size
from hgpose_utils.files import HgposeError, replacing
from hgpose_utils.models import VARIANTS


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a network is trained. The defaults are the report's, but for the learning rate.

    The report says 0.25, at which RMSProp cannot train this network; PyTorch-Pose, its code base, has 2.5e-4.
    """

    model: str = "hg"
    stacks: int = 1
    epochs: int = 15
    batch_size: int = 8
    learning_rate: float = 2.5e-4
    size: int = 256
    seed: int = 0
    intermediate: bool = True  # whether every stack is supervised, or only the last
    channels: int = 256  # more of them make a network wider
    people: int | None = None  # how many of the training people are used, evenly spread; None: all
    occluded: bool = True  # whether hidden joints are trained on too; PyTorch-Pose does not (both score them)
    decay: bool = False  # whether the learning rate falls along a cosine, to nothing after the last epoch

    def __post_init__(self):
        if self.model not in VARIANTS:
            raise HgposeError(f"unknown model {self.model!r}: choose one of {', '.join(VARIANTS)}")
        for name in ("stacks", "epochs", "batch_size", "size", "people"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise HgposeError(f"{name} is {getattr(self, name)}: it must be 1 or more")
        if self.stacks > 16:
            raise HgposeError(f"{self.stacks} stacks: choose at most 16 (the report has 1, 2 and 8)")
        check_size(self.size)
        if self.channels < 16 or self.channels % 2:
            raise HgposeError(f"{self.channels} channels: choose an even number from 16 (the report has 256)")
        if self.size == 64 and self.batch_size == 1:
            raise HgposeError("one image of 64 px is too little for batch norm: raise --batch-size or --size")
        if not 0 <= self.seed < 2**63:
            raise HgposeError(f"seed is {self.seed}: it must be a whole number from 0")
        if not 0 < self.learning_rate < math.inf:
            raise HgposeError(f"learning_rate is {self.learning_rate}: it must be above 0 (say 2.5e-4)")

    @property
    def network(self) -> str:
        """The network's name: "hg-s1", or "hg532-s1" with 532 channels instead of 256."""
        return f"{self.model}{self.channels if self.channels != 256 else ''}-s{self.stacks}"

    @property
    def name(self) -> str:
        """What the run is filed under: the network's name, and what else differs from the usual recipe."""
        odd = [f"lr{self.learning_rate:g}"] if self.learning_rate != 2.5e-4 else []
        odd += [] if self.occluded else ["visible"]
        odd += [] if self.intermediate else ["last"]
        odd += ["decay"] if self.decay else []
        return "-".join([self.network, *odd])

    def learning_rate_in(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1."""
        share = (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2 if self.decay else 1
        return self.learning_rate * share


def run_folder(runs, dataset: str, recipe: Recipe) -> Path:
    """Where a run's files lie."""
    return Path(runs) / dataset / recipe.name / f"seed{recipe.seed}"


def dataset_name(datasets, size: int) -> str:
    """What runs are filed under: the datasets' folders, "photos+synthetic", and the input's size if it is not 256."""
    paths = [Path(dataset).resolve() for dataset in datasets]
    name = "+".join(path.name if path.is_dir() else path.parent.name for path in paths)
    return name if size == 256 else f"{name}-{size}"


def resume(folder: Path, recipe: Recipe, crops: Crops, fabric, model, optimizer) -> list[dict]:
    """Loads the last checkpoint that can be read, if there is one, and returns the epochs that it has behind it.

    A damaged checkpoint is named in a warning, and the one before it used. A finished run without its checkpoints, as
    git keeps it, counts as done. Raises `HgposeError` for the checkpoint of another run, or if none can be read.
    """
    written, damaged = folder / "history.csv", None
    for file in (folder / "last.pt", folder / "previous.pt"):
        if not file.exists():
            continue
        try:
            saved = torch.load(file, map_location=fabric.device, weights_only=True)
            there, people, history = saved["recipe"], saved["people"], saved["history"]
        except Exception:  # reading a damaged file can raise anything
            damaged = file
            continue
        _check_same_run(folder, there, people, recipe, crops)
        if damaged:
            warnings.warn(f"{damaged} is damaged: going on from {file.name}, after epoch {len(history)}", stacklevel=2)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"].cpu())
        if not written.exists() or len(pd.read_csv(written)) < len(history):  # killed before it could be written
            publish(folder, recipe, history, saved["model"])
        return history
    if damaged:
        raise HgposeError(f"cannot read the checkpoint {damaged}: delete it to train from the start")
    history = pd.read_csv(written).to_dict("records") if written.exists() else []
    if 0 < len(history) < recipe.epochs:
        raise HgposeError(f"{folder} has {len(history)} epochs but no last.pt to go on from: choose another --runs")
    return history


def _check_same_run(folder: Path, there: dict, people: str, recipe: Recipe, crops: Crops) -> None:
    """Raises `HgposeError` where a checkpoint was made by another recipe or on other people.

    More epochs are allowed, unless the learning rate depends on their number.
    """
    fixed = {name: value for name, value in there.items() if name != "epochs" or recipe.decay}
    other = {name: value for name, value in fixed.items() if value != getattr(recipe, name, None)}
    if other:
        asked = ", ".join(f"{name} {getattr(recipe, name, None)} (there: {value})" for name, value in other.items())
        raise HgposeError(f"{folder} holds another run: {asked}; delete the folder or choose another with --runs")
    if people != crops.digest:
        raise HgposeError(f"{folder} was trained on other people: delete the folder or choose another with --runs")


def save(folder: Path, recipe: Recipe, crops: Crops, fabric, model, optimizer, history: list[dict]) -> None:
    """Writes the checkpoint, then what can be made from it; each file wholly or not at all.

    All that is random in training depends on (seed, epoch, person) alone; the generator's state is kept for networks
    with dropout.
    """
    state = {"recipe": asdict(recipe), "people": crops.digest, "history": history, "random": torch.get_rng_state()}
    state |= {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    if fabric.is_global_zero:
        checkpoint = io.BytesIO()
        torch.save(state, checkpoint)
        with replacing(folder / "last.pt") as file:
            file.write_bytes(checkpoint.getbuffer())
            if (folder / "last.pt").exists():
                os.replace(folder / "last.pt", folder / "previous.pt")
    publish(folder, recipe, history, state["model"])


@rank_zero_only
def publish(folder: Path, recipe: Recipe, history: list[dict], weights: dict) -> None:
    """Writes the history and, where the last epoch is the best, its weights."""
    if history[-1]["pck"] >= max(row["pck"] for row in history):
        best = {name: w.detach().cpu().contiguous() for name, w in weights.items()}
        about = {k: str(v) for k, v in asdict(recipe).items()} | {"pck": f"{history[-1]['pck']:.4f}"}
        with replacing(folder / "best.safetensors") as file:
            file.write_bytes(safetensors.torch.save(best, about))
    with replacing(folder / "history.csv") as file:
        pd.DataFrame(history).to_csv(file, index=False, float_format="%.6g")


@rank_zero_only
def write_config(folder, recipe, dataset, training, validation, parameters, fabric) -> None:
    """Writes config.json: what was run, on what, with which versions. No path of the machine."""
    config = {
        "recipe": asdict(recipe),
        "dataset": {"name": dataset, "train_people": len(training), "val_people": len(validation)},
        "parameters": parameters,
        "device": device_name(fabric.device),
        "processes": fabric.world_size,
        "precision": fabric._precision.precision,
        "commit": commit(),
        "versions": {name: version(name) for name in ("torch", "torchvision", "lightning", "torchmetrics", "numpy")}
        | {"python": platform.python_version()},
    }
    with replacing(folder / "config.json") as file:
        file.write_text(json.dumps(config, indent=2) + "\n")


def device_name(device: torch.device) -> str:
    """The processor or the GPU, as its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    used, cores = torch.get_num_threads(), os.cpu_count()
    return f"{name}, {cores if used >= cores else f'{used} of {cores}'} cores"


def commit() -> str | None:
    """The commit of the code, with a + where files were changed since; None outside a git checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
