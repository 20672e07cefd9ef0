"""The training loop: recipe in, one row of history an epoch out."""

import ctypes
import logging
import math
import os
import time
from contextlib import suppress
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from hgpose_utils.augment import draw_jitter, no_jitter, warp
from hgpose_utils.crops import Crops
from hgpose_utils.files import HgposeError
from hgpose_utils.heatmaps import STRIDE, decode, encode
from hgpose_utils.metrics import ReportPCK, TorsoPCK
from hgpose_utils.models import build_model, count_parameters
from hgpose_utils.runs import Recipe, resume, save, write_config

LOOK = 25  # steps between two looks at the loss: each makes a GPU's host wait
FLAT = 0.005  # heatmaps whose highest pixels are below this on average show nothing


class TimeUp(Exception):  # noqa: N818
    """The time that the caller gave is over."""


def make_fabric(precision: str | None = None) -> lightning.Fabric:
    """Devices and arithmetic: ``precision`` as Fabric has it; without, bfloat16 where the hardware computes in it.

    One process, unless torchrun started several; then as many as it started, with DDP.
    """
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    else:
        keep_freed_memory()
    return lightning.Fabric(
        accelerator=accelerator,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", 1)),
        strategy="ddp" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else "auto",
        precision=precision or ("bf16-mixed" if computes_in_bfloat16(accelerator) else "32-true"),
    )


def computes_in_bfloat16(device: str) -> bool:
    """Whether the hardware behind "cuda" or "cpu" has instructions for bfloat16."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    processor = torch.cpu.get_capabilities()
    return any(processor.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed: handing it back and fetching it anew, zeroed, takes time in each step."""
    with suppress(OSError, AttributeError):  # other systems have other allocators
        change = ctypes.CDLL("libc.so.6").mallopt
        change(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, the highest that it takes
        change(-1, -1)  # M_TRIM_THRESHOLD: never
        change(-2, 256 * 2**20)  # M_TOP_PAD


def heatmap_loss(heatmaps: list[torch.Tensor], targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the pixels of the annotated joints' heatmaps, summed over the stacks.

    ``heatmaps``: as many [B, 16, h, w] as there are stacks; ``targets`` [B, 16, h, w] and ``weights`` [B, 16] as from
    `heatmaps.encode`. Every stack is held against the same targets: intermediate supervision (Newell et al., 3.3).
    """
    w = weights[..., None, None]
    pixels = weights.sum().clamp(min=1) * targets.shape[-2] * targets.shape[-1]
    return sum(((h.float() - targets) ** 2 * w).sum() for h in heatmaps) / pixels


def batches(crops: Crops, jitter, order, recipe: Recipe, device):
    """Yields images [B, 3, size, size], joints [B, 16, 2], targets [B, 16, size/4, size/4] and weights [B, 16].

    All of it is made on ``device``; only the pixels of crops that are not there yet are copied, ahead of their use.
    """
    joints, jitter = torch.from_numpy(crops.joints).float().to(device), jitter.to(device)
    rows = torch.as_tensor(order).to(device).split(recipe.batch_size)
    for some, pixels in zip(rows, crops.stream(order, recipe.batch_size, device), strict=True):
        images, moved = warp(pixels, joints[some], jitter[some], recipe.size)
        yield images.contiguous(memory_format=torch.channels_last), moved, *encode(moved, recipe.size // STRIDE)


def train_epoch(fabric, model, optimizer, crops: Crops, recipe: Recipe, epoch: int, watch=None) -> dict:
    """Shows every person once, in random order, and returns the mean loss and the seconds that making batches took.

    ``watch(step, steps, losses)`` is called now and then.
    """
    model.train()
    order = np.random.default_rng([recipe.seed, epoch, 1]).permutation(len(crops))
    steps = len(order) // (recipe.batch_size * fabric.world_size)  # whole batches: one of one would upset batch norm
    if not steps:
        raise HgposeError(f"{len(order)} training people are fewer than one batch: lower --batch-size")
    order = order[fabric.global_rank :: fabric.world_size][: steps * recipe.batch_size]
    losses, waited, start = torch.zeros(steps, device=fabric.device), 0.0, time.perf_counter()
    data = batches(crops, draw_jitter(len(crops), recipe.seed, epoch), order, recipe, fabric.device)
    for step, (images, _, targets, weights) in enumerate(data, 1):
        waited += time.perf_counter() - start
        heatmaps = model(images)
        loss = heatmap_loss(heatmaps if recipe.intermediate else heatmaps[-1:], targets, weights)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        losses[step - 1] = loss.detach()
        if watch and (step % LOOK == 0 or step == steps):
            watch(step, steps, losses[:step])
        start = time.perf_counter()
    return {"loss": float(fabric.all_reduce(losses.mean(), reduce_op="mean")), "data_seconds": waited}


class Watch:
    """Looks at an epoch while it runs: shows how far it has come, and stops it where going on is of no use.

    Raises `HgposeError` for a loss that is not finite, `TimeUp` after ``deadline``.
    """

    def __init__(self, fabric, recipe: Recipe, epoch: int, pck: float, deadline: float, progress: bool):
        self.fabric, self.recipe, self.epoch, self.deadline = fabric, recipe, epoch, deadline
        self.pck = f"{pck:.3f}"  # of the epoch before
        title = f"{recipe.network} epoch {epoch}/{recipe.epochs}"
        quiet = not progress or not fabric.is_global_zero or bool(os.environ.get("TQDM_DISABLE"))
        # None: the bar shows in terminals and in notebooks, not in files.
        self.bar = tqdm(None, title, unit=" images", unit_scale=True, leave=False, disable=quiet or None)

    def __call__(self, step: int, steps: int, losses: torch.Tensor) -> None:
        finite = losses.isfinite()
        if not finite.all():
            where = f"epoch {self.epoch}, step {int(finite.int().argmin()) + 1} of {steps}"
            raise HgposeError(
                f"the loss is {float(losses[~finite][0])} in {where}: learning rate {self.recipe.learning_rate:g} is "
                "probably too high; lower it and choose another --runs (the last good checkpoint stays)"
            )
        images = self.recipe.batch_size * self.fabric.world_size
        self.bar.total = steps * images
        self.bar.set_postfix(loss=f"{float(losses[-LOOK:].mean()):.5f}", PCK=self.pck, refresh=False)
        self.bar.update(step * images - self.bar.n)
        if step < steps and is_late(self.fabric, self.deadline):
            raise TimeUp


def is_late(fabric, deadline: float) -> bool:
    """Whether ``deadline``, a value of ``time.monotonic``, has passed, by the first process's clock."""
    return deadline < math.inf and fabric.broadcast(time.monotonic() > deadline)


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
    recipe: Recipe,
    crops: Crops,
    folder,
    dataset: str,
    fabric=None,
    log=print,
    progress: bool = True,
    deadline: float = math.inf,
    compiled: bool = False,
) -> pd.DataFrame:
    """Trains one network, or goes on where it stopped, and returns its history (one row an epoch).

    ``folder`` is the run's (see `runs.run_folder`), ``log`` gets one line an epoch. The progress bar shows in a
    terminal or a notebook, unless ``progress`` is False. At ``deadline``, a value of ``time.monotonic``, training
    stops; an epoch that would not be over by then is not begun. ``compiled``: by ``torch.compile``.
    Raises `HgposeError` where the folder holds another recipe's run, cannot be written, or the loss is not finite.
    """
    folder, fabric = Path(folder), fabric or make_fabric()
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model, recipe.stacks, channels=recipe.channels).to(memory_format=torch.channels_last)
    parameters = count_parameters(model)
    if compiled:
        model.compile()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=recipe.learning_rate)
    model, optimizer = fabric.setup(model, optimizer)
    history = resume(folder, recipe, crops, fabric, model, optimizer)
    for row in history:
        log(describe(row, recipe) + "  (done before)")
    if len(history) >= recipe.epochs:
        return pd.DataFrame(history)

    training, validation = (people.to(fabric.device) for people in people_of(recipe, crops))
    write_config(folder, recipe, dataset, training, validation, parameters, fabric)
    seconds = 0.0  # that an epoch takes
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        start = time.perf_counter()
        watch = Watch(fabric, recipe, epoch, history[-1]["pck"] if history else math.nan, deadline, progress)
        try:
            if is_late(fabric, deadline - seconds):
                raise TimeUp
            row = {"epoch": epoch, "learning_rate": recipe.learning_rate_in(epoch)}
            for group in optimizer.param_groups:
                group["lr"] = row["learning_rate"]
            row |= train_epoch(fabric, model, optimizer, training, recipe, epoch, watch)
        except TimeUp:
            log(f"{recipe.network}: time is up after {len(history)} of {recipe.epochs} epochs; run it again to go on")
            break
        finally:
            watch.bar.close()
        row["images_per_second"] = len(training) / (time.perf_counter() - start)
        row |= validate(fabric, model, validation, recipe)
        seconds = time.perf_counter() - start
        history.append(row | {"seconds": seconds})
        save(folder, recipe, crops, fabric, model, optimizer, history)
        fabric.log_dict({name: value for name, value in row.items() if name != "epoch"}, epoch)
        log(describe(history[-1], recipe))
        if row["peak"] < FLAT:
            log(f"the heatmaps are flat, mean peak {row['peak']:.4f}: is the learning rate too high?")
    return pd.DataFrame(history)


def people_of(recipe: Recipe, crops: Crops) -> tuple[Crops, Crops]:
    """The people that a recipe trains on, and those that it is validated on."""
    training, validation = crops.split("train"), crops.split("val")
    if recipe.people and recipe.people < len(training):
        training = training.take(np.linspace(0, len(training) - 1, recipe.people).round().astype(int))
    return training if recipe.occluded else training.without_hidden(), validation


def describe(row: dict, recipe: Recipe) -> str:
    """An epoch in one line."""
    return (
        f"{recipe.network} epoch {row['epoch']:2d}/{recipe.epochs}  loss {row['loss']:.5f}  "
        f"PCK {row['pck']:.3f}  peak {row['peak']:.2f}  {row['images_per_second']:.0f} img/s  {row['seconds']:.0f} s"
    )
