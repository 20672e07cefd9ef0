"""Speed on this machine: the way the peers run the network, and ours, each step of the way added to the last."""

import multiprocessing
import re
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from PIL import Image

from hgpose_utils.annotations import read_people
from hgpose_utils.augment import draw_jitter
from hgpose_utils.cost import forward_gflop
from hgpose_utils.crops import check_size, crop_box, make_crops
from hgpose_utils.files import replacing
from hgpose_utils.heatmaps import STRIDE
from hgpose_utils.models import build_model
from hgpose_utils.runs import Recipe, device_name
from hgpose_utils.synthetic import make_dataset
from hgpose_utils.train import batches, heatmap_loss, keep_freed_memory

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KEY = ["network", "size", "batch", "way"]  # what tells a file's rows apart
PICTURES, PICTURE_SIZE = 32, 960  # as many pixels as MPII's 1280 × 720


@dataclass(frozen=True)
class Way:
    """How the network is run."""

    name: str
    batched: bool = True  # crops made once and augmented a batch at a time, or each sample from its photo
    channels_last: bool = False
    tf32: bool = False
    bf16: bool = False
    keeps_memory: bool = False  # see `train.keep_freed_memory`
    compiled: str | None = None  # torch.compile's mode


PEERS = Way("float32, NCHW, one sample at a time (the peers' way)", batched=False)
CROPS = Way("+ crops made once, batches made on the device")
LAST = Way("+ channels-last", channels_last=True)
BF16 = Way("+ bfloat16", channels_last=True, bf16=True)
KEEP = Way("+ freed memory kept", channels_last=True, bf16=True, keeps_memory=True)
WAYS = {
    "cpu": (PEERS, CROPS, LAST, BF16, KEEP),
    "cuda": (
        *(PEERS, CROPS, LAST),
        Way("+ TF32", channels_last=True, tf32=True),
        Way("+ bfloat16", channels_last=True, tf32=True, bf16=True),
        Way("+ torch.compile", channels_last=True, tf32=True, bf16=True, compiled="default"),
        Way("+ CUDA graphs", channels_last=True, tf32=True, bf16=True, compiled="reduce-overhead"),
    ),
}
OURS = {device: [way for way in ways if not way.compiled][-1] for device, ways in WAYS.items()}


def bench(networks=(("hg", 1),), size=256, batch_sizes=(8,), ways=None, repeats=9, done=()) -> Iterator[dict]:
    """Measures networks, (model, stacks) each, in all ``ways`` of this device and gives a row as soon as it is known.

    Each way runs in a fresh process; speeds are medians of ``repeats``, in images per second. data: one core (or the
    GPU) making batches, targets included; infer, train: the network alone; whole step: training with its data; memory:
    the process's highest (on a GPU: its tensors'), in MB; the two shares: of the bfloat16 matrix product that this
    machine reaches, a training step counted as three forward passes. What is in ``done``, as `KEY` has it, is left out.
    """
    check_size(size)
    with TemporaryDirectory() as folder:
        data = make_dataset(Path(folder) / "people", max(PICTURES, *batch_sizes), size=PICTURE_SIZE, progress=False)
        make_crops(data, size, progress=False)
        peak = _alone(matrix_product)
        for batch_size, (model, stacks), way in product(batch_sizes, networks, ways or WAYS[DEVICE]):
            about = {"network": f"{model}-s{stacks}", "size": size, "batch": batch_size, "way": way.name}
            if tuple(about.values()) in done:
                continue
            row = about | _alone(measure, way, model, stacks, size, batch_size, repeats, data)
            share = forward_gflop(build_model(model, stacks), size) / peak
            row |= {"infer share": row["infer img/s"] * share, "train share": row["train img/s"] * 3 * share}
            yield row | {"peak GFLOP/s": peak} | today()


def measured(file: Path) -> pd.DataFrame:
    """What was measured on a machine so far."""
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=KEY)


def keep(file: Path, row: dict) -> None:
    """Writes a row to a machine's file, in the place of an older one of the same network, size, batch and way."""
    table = measured(file)
    older = (table[KEY] == [row[name] for name in KEY]).all(axis=1)
    with replacing(file) as temporary:
        pd.concat([table[~older], pd.DataFrame([row])]).to_csv(temporary, index=False, float_format="%.4g")


def measure(way: Way, model, stacks, size, batch_size, repeats, data) -> dict[str, float]:
    """The speeds and the memory of one network, run one way."""
    recipe = Recipe(model, stacks, batch_size=batch_size, size=size)
    samples = batched(data, recipe) if way.batched else one_by_one(data, recipe)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    speed = {"data img/s": batch_size / seconds(lambda: next(samples), repeats)}
    torch.set_num_threads(threads)
    if way.keeps_memory:
        keep_freed_memory()
    memory_format = torch.channels_last if way.channels_last else torch.contiguous_format
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high" if way.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = way.tf32
    network = build_model(model, stacks).to(DEVICE, memory_format=memory_format)
    if way.compiled:
        network.compile(mode=way.compiled)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=2.5e-4)
    images = torch.randn(batch_size, 3, size, size, device=DEVICE).contiguous(memory_format=memory_format)
    targets = torch.rand(batch_size, 16, size // STRIDE, size // STRIDE, device=DEVICE)
    fixed = images, targets, torch.ones(batch_size, 16, device=DEVICE)

    def forward():
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16, enabled=way.bf16):
            network(images)

    def step(images, targets, weights):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=way.bf16):
            heatmaps = network(images.contiguous(memory_format=memory_format))
        optimizer.zero_grad()
        heatmap_loss(heatmaps, targets, weights).backward()
        optimizer.step()

    speed["train img/s"] = batch_size / seconds(lambda: step(*fixed), repeats)
    speed["whole step img/s"] = batch_size / seconds(lambda: step(*next(samples)), repeats)
    network.eval()
    speed["infer img/s"] = batch_size / seconds(forward, repeats)
    return speed | {"memory MB": memory_mb()}


def batched(data, recipe: Recipe):
    """Our way: batches without end of images, targets and weights, from crops made once."""
    crops = make_crops(data, recipe.size, progress=False).to(DEVICE)
    for epoch in range(10**9):
        order = np.random.default_rng(epoch).permutation(len(crops))[
            : len(crops) // recipe.batch_size * recipe.batch_size
        ]
        for images, _, *heatmaps in batches(crops, draw_jitter(len(crops), 0, epoch), order, recipe, DEVICE):
            yield images, *heatmaps


def one_by_one(data, recipe: Recipe):
    """The peers' way: each sample from its photo, one after the other, one heatmap after the other."""
    people, random = read_people(data), np.random.default_rng(0)
    boxes = crop_box(np.stack(people.center), people.scale)
    while True:
        samples = [
            sample(people.iloc[i], boxes[i], recipe.size, random)
            for i in random.integers(len(people), size=recipe.batch_size)
        ]
        yield tuple(torch.stack([torch.from_numpy(a) for a in part]).to(DEVICE) for part in zip(*samples, strict=True))


def sample(person, box, size: int, random) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One sample as PyTorch-Pose makes it: flip and colour the whole photo, crop, scale, rotate, draw 16 Gaussians."""
    left, top, side = box
    photo = np.asarray(Image.open(person.image).convert("RGB"), np.float32).transpose(2, 0, 1) / 255
    photo = np.clip(photo[:, :, :: random.choice([-1, 1])] * random.uniform(0.8, 1.2, (3, 1, 1)), 0, 1)
    picture = Image.fromarray((255 * photo.transpose(1, 2, 0)).astype(np.uint8)).crop(
        (left, top, left + side, top + side)
    )
    picture = picture.resize((size, size), Image.Resampling.BILINEAR).rotate(random.uniform(-30, 30))
    x, y = np.meshgrid(np.arange(size // STRIDE), np.arange(size // STRIDE))
    at = np.nan_to_num((person.joints - box[:2]) * (size / side / STRIDE))  # not the true places: the time is the same
    targets = np.stack([np.exp(-((x - u) ** 2 + (y - v) ** 2) / 2) for u, v in at]).astype(np.float32)
    return np.asarray(picture, np.float32).transpose(2, 0, 1) / 255 - 0.5, targets, np.ones(len(at), np.float32)


def matrix_product(size: int = 4096) -> float:
    """GFLOP/s of this machine's own bfloat16 matrix product."""
    a, b, out = (torch.randn(size, size, dtype=torch.bfloat16, device=DEVICE) for _ in range(3))
    return 2 * size**3 / seconds(lambda: torch.mm(a, b, out=out), 5) / 1e9


def seconds(run, repeats: int) -> float:
    """The median time of a call, after three seconds or more of calls that do not count."""
    times, warm = [], 0.0
    while len(times) < repeats:
        start = time.perf_counter()
        run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - start
        times += [took] if warm > 3 else []
        warm += took
    return median(times)


def memory_mb() -> float:
    """The most memory that this process has used; on a GPU, that its tensors have."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _alone(function, *arguments):
    """The result of a call in a process of its own, so that memory is its own too."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def today() -> dict[str, str]:
    """What a table of speeds must say of itself."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": device_name(torch.device(DEVICE)),
        "torch": torch.__version__,
    }


def machine() -> str:
    """The machine as a file name."""
    return re.sub("[^a-z0-9]+", "-", device_name(torch.device(DEVICE)).lower()).strip("-")
