"""The training loop: recipe in, one row of history an epoch out.

run folder: results/runs/<dataset>/<model>-s<stacks>/seed<n>/
    config.json          the recipe, the data, the machine
    history.csv          one row an epoch
    best.safetensors     the weights of the best epoch (not in git)
    last.pt              all that is needed to go on (not in git)
"""

import io
import json
import logging
import math
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import safetensors.torch
import torch
from lightning.fabric.utilities import rank_zero_only
from tqdm import tqdm

from hgpose_utils.augment import draw_jitter, no_jitter, warp
from hgpose_utils.crops import Crops, check_size
from hgpose_utils.files import HgposeError, replacing
from hgpose_utils.heatmaps import STRIDE, decode, encode
from hgpose_utils.metrics import ReportPCK, TorsoPCK
from hgpose_utils.models import VARIANTS, build_model, count_parameters


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
        """What the network is filed under: "hg-s1", or "hg532-s1" with 532 channels instead of 256."""
        return f"{self.model}{self.channels if self.channels != 256 else ''}-s{self.stacks}"


def run_folder(runs, dataset: str, recipe: Recipe) -> Path:
    """Where a run's files lie."""
    return Path(runs) / dataset / recipe.network / f"seed{recipe.seed}"


def dataset_name(data, size: int) -> str:
    """What a dataset's runs are filed under: its folder's name, and the input's size where it is not the report's."""
    path = Path(data).resolve()
    name = path.name if path.is_dir() else path.parent.name
    return name if size == 256 else f"{name}-{size}"


def make_fabric() -> lightning.Fabric:
    """Devices and arithmetic: bfloat16 where the hardware computes in it, else float32.

    One process, unless torchrun started several; then as many as it started, with DDP.
    """
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if torch.cuda.is_available():
        accelerator, fast = "cuda", torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        accelerator = "cpu"
        fast = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return lightning.Fabric(
        accelerator=accelerator,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", 1)),
        strategy="ddp" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else "auto",
        precision="bf16-mixed" if fast else "32-true",
    )


def heatmap_loss(heatmaps: list[torch.Tensor], targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the pixels of the annotated joints' heatmaps, summed over the stacks.

    ``heatmaps``: as many [B, 16, h, w] as there are stacks; ``targets`` [B, 16, h, w] and ``weights`` [B, 16] as from
    `heatmaps.encode`. Every stack is held against the same targets: intermediate supervision (Newell et al., 3.2).
    """
    w = weights[..., None, None]
    pixels = weights.sum().clamp(min=1) * targets.shape[-2] * targets.shape[-1]
    return sum(((h.float() - targets) ** 2 * w).sum() for h in heatmaps) / pixels


def batches(crops: Crops, jitter, order, recipe: Recipe, device):
    """Yields images [B, 3, size, size], joints [B, 16, 2], targets [B, 16, size/4, size/4] and weights [B, 16]."""
    joints = torch.from_numpy(crops.joints).float()
    for start in range(0, len(order), recipe.batch_size):
        rows = order[start : start + recipe.batch_size]
        images, moved = warp(crops.images(rows).to(device), joints[rows].to(device), jitter[rows], recipe.size)
        yield images.contiguous(memory_format=torch.channels_last), moved, *encode(moved, recipe.size // STRIDE)


def train_epoch(fabric, model, optimizer, crops: Crops, recipe: Recipe, epoch: int, progress: bool = True) -> dict:
    """Shows every person once, in random order, and returns the mean loss and the seconds that making batches took."""
    model.train()
    order = np.random.default_rng([recipe.seed, epoch, 1]).permutation(len(crops))
    steps = len(order) // (recipe.batch_size * fabric.world_size)  # whole batches: one of one would upset batch norm
    if not steps:
        raise HgposeError(f"{len(order)} training people are fewer than one batch: lower --batch-size")
    order = order[fabric.global_rank :: fabric.world_size][: steps * recipe.batch_size]
    total, waited, start = torch.zeros((), device=fabric.device), 0.0, time.perf_counter()
    data = batches(crops, draw_jitter(len(crops), recipe.seed, epoch), order, recipe, fabric.device)
    for images, _, targets, weights in tqdm(data, f"epoch {epoch}", steps, disable=None if progress else True):
        waited += time.perf_counter() - start
        heatmaps = model(images)
        loss = heatmap_loss(heatmaps if recipe.intermediate else heatmaps[-1:], targets, weights)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        total += loss.detach()
        start = time.perf_counter()
    return {"loss": float(fabric.all_reduce(total, reduce_op="mean")) / steps, "data_seconds": waited}


@torch.inference_mode()
def validate(fabric, model, crops: Crops, recipe: Recipe) -> dict:
    """Loss, PCK and the heatmaps' mean peak of the last stack, on people as they are; every person counts once."""
    model.eval()
    pck, torso = ReportPCK().to(fabric.device), TorsoPCK().to(fabric.device)
    sums = torch.zeros(3, device=fabric.device, dtype=torch.float64)
    order = np.arange(len(crops))[fabric.global_rank :: fabric.world_size]
    for images, joints, targets, weights in batches(crops, no_jitter(len(crops)), order, recipe, fabric.device):
        heatmaps = [h.float() for h in model(images)]
        pred, confidence = decode(heatmaps[-1])
        pck.update(heatmaps[-1], targets, weights)
        torso.update(pred, joints)
        joints_seen = weights.sum()
        loss = heatmap_loss(heatmaps, targets, weights) * joints_seen
        sums += torch.stack([loss, (confidence * weights).sum(), joints_seen])
    loss, peak, count = fabric.all_reduce(sums, reduce_op="sum").tolist()
    return {
        "val_loss": loss / count,
        "pck": float(pck.compute()),
        "pck_torso": float(torso.compute()),
        "peak": peak / count,
    }


def train(
    recipe: Recipe, crops: Crops, folder, dataset: str, fabric=None, log=print, progress: bool = True
) -> pd.DataFrame:
    """Trains one network, or goes on where it stopped, and returns its history (one row an epoch).

    ``folder`` is the run's (see `run_folder`), ``log`` gets one line an epoch. The progress bar shows in a
    terminal, unless ``progress`` is False.
    Raises `HgposeError` where the folder holds another recipe's run, cannot be written, or the loss is not finite.
    """
    folder, fabric = Path(folder), fabric or make_fabric()
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model, recipe.stacks, channels=recipe.channels).to(memory_format=torch.channels_last)
    parameters = count_parameters(model)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=recipe.learning_rate)
    model, optimizer = fabric.setup(model, optimizer)
    history = resume(folder, recipe, crops, fabric, model, optimizer)
    for row in history:
        log(describe(row, recipe) + "  (done before)")
    if len(history) >= recipe.epochs:
        return pd.DataFrame(history)

    training, validation = crops.split("train"), crops.split("val")
    if recipe.people and recipe.people < len(training):
        training = training.take(np.linspace(0, len(training) - 1, recipe.people).round().astype(int))
    write_config(folder, recipe, dataset, training, validation, parameters, fabric)
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        start = time.perf_counter()
        row = {"epoch": epoch, "learning_rate": recipe.learning_rate}
        row |= train_epoch(fabric, model, optimizer, training, recipe, epoch, progress)
        row["images_per_second"] = len(training) / (time.perf_counter() - start)
        if not math.isfinite(row["loss"]):
            raise HgposeError(f"the loss of epoch {epoch} is {row['loss']}: lower the learning rate and start again")
        row |= validate(fabric, model, validation, recipe)
        history.append(row | {"seconds": time.perf_counter() - start})
        save(folder, recipe, crops, fabric, model, optimizer, history)
        log(describe(history[-1], recipe))
    return pd.DataFrame(history)


def describe(row: dict, recipe: Recipe) -> str:
    """An epoch in one line."""
    return (
        f"{recipe.network} epoch {row['epoch']:2d}/{recipe.epochs}  loss {row['loss']:.5f}  "
        f"PCK {row['pck']:.3f}  peak {row['peak']:.2f}  {row['images_per_second']:.0f} img/s  {row['seconds']:.0f} s"
    )


def resume(folder: Path, recipe: Recipe, crops: Crops, fabric, model, optimizer) -> list[dict]:
    """Loads the last checkpoint, if there is one, and returns the epochs that it has behind it.

    A finished run without its checkpoint, as git keeps it, counts as done.
    """
    file, written = folder / "last.pt", folder / "history.csv"
    if not file.exists():
        history = pd.read_csv(written).to_dict("records") if written.exists() else []
        if 0 < len(history) < recipe.epochs:
            raise HgposeError(f"{folder} has {len(history)} epochs but no last.pt to go on from: choose another --runs")
        return history
    try:
        saved = torch.load(file, map_location=fabric.device, weights_only=True)
        other = {k: v for k, v in saved["recipe"].items() if k != "epochs" and v != getattr(recipe, k)}
        same_people = saved["people"] == crops.digest
    except Exception as e:  # unpickling a damaged file can raise anything
        raise HgposeError(f"cannot read the checkpoint {file}: delete it to train from the start") from e
    if other:
        asked = ", ".join(f"{k} {getattr(recipe, k)} (there: {v})" for k, v in other.items())
        raise HgposeError(f"{folder} holds another run: {asked}; delete the folder or choose another with --runs")
    if not same_people:
        raise HgposeError(f"{folder} was trained on other people: delete the folder or choose another with --runs")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return saved["history"]


def save(folder: Path, recipe: Recipe, crops: Crops, fabric, model, optimizer, history: list[dict]) -> None:
    """Writes the history, after the best epoch the weights, and last the checkpoint; each wholly or not at all.

    Killed in between, a run goes on from the checkpoint before, and writes the same files again.
    """
    state = {"recipe": asdict(recipe), "people": crops.digest, "history": history}
    state |= {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    if fabric.is_global_zero:
        with replacing(folder / "history.csv") as file:
            pd.DataFrame(history).to_csv(file, index=False, float_format="%.6g")
        if history[-1]["pck"] >= max(row["pck"] for row in history):
            weights = {name: w.detach().cpu().contiguous() for name, w in state["model"].items()}
            about = {k: str(v) for k, v in asdict(recipe).items()} | {"pck": f"{history[-1]['pck']:.4f}"}
            with replacing(folder / "best.safetensors") as file:
                file.write_bytes(safetensors.torch.save(weights, about))
        checkpoint = io.BytesIO()
        torch.save(state, checkpoint)
        with replacing(folder / "last.pt") as file:
            file.write_bytes(checkpoint.getbuffer())


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
