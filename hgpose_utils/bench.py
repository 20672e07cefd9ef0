"""Speed on this machine: the way the peers run the network, and ours, each step of the way added to the last."""

import multiprocessing
import re
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
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
from hgpose_utils.heatmaps import STRIDE
from hgpose_utils.models import NINE, build_model
from hgpose_utils.runs import Recipe, device_name
from hgpose_utils.synthetic import make_dataset
from hgpose_utils.train import batches, heatmap_loss, keep_freed_memory

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
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


def bench(model: str = "hg", stacks: int = 1, size: int = 256, batch_size: int = 8, repeats: int = 9) -> pd.DataFrame:
    """One row per way of running, all in images per second (medians of ``repeats``), each in a fresh process.

    data: one core (or the GPU) making batches, targets included; infer, train: the network alone; whole step: training
    with its data; memory: the process's highest (on a GPU: its tensors'), in MB; the two shares: of the bfloat16 matrix
    product that this machine reaches, a training step counted as three forward passes.
    """
    check_size(size)
    with TemporaryDirectory() as folder:
        data = make_dataset(Path(folder) / "people", PICTURES, size=PICTURE_SIZE, progress=False)
        make_crops(data, size, progress=False)
        rows = [
            {"way": way.name} | _alone(measure, way, model, stacks, size, batch_size, repeats, data)
            for way in WAYS[DEVICE]
        ]
    table = pd.DataFrame(rows)
    work = forward_gflop(build_model(model, stacks), size)
    peak = _alone(matrix_product)
    table["infer share"] = table["infer img/s"] * work / peak
    table["train share"] = table["train img/s"] * 3 * work / peak
    return table.assign(network=f"{model}-s{stacks}", size=size, batch=batch_size, **{"peak GFLOP/s": peak}, **today())


def bench_nine(size: int = 256, batch_size: int = 8, repeats: int = 3) -> pd.DataFrame:
    """Inference and training, img/s, of each of the nine networks, the fastest way that needs no compiler."""
    check_size(size)
    way = [way for way in WAYS[DEVICE] if not way.compiled][-1]
    rows = [{"model": m, "stacks": s} | _alone(network_speed, way, m, s, size, batch_size, repeats) for m, s in NINE]
    return pd.DataFrame(rows).assign(size=size, batch=batch_size, **today())


def measure(way: Way, model, stacks, size, batch_size, repeats, data) -> dict[str, float]:
    """All columns of one row."""
    recipe = Recipe(model, stacks, batch_size=batch_size, size=size)
    samples = batched(data, recipe) if way.batched else one_by_one(data, recipe)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    speed = {"data img/s": batch_size / seconds(lambda: next(samples), repeats)}
    torch.set_num_threads(threads)
    return speed | network_speed(way, model, stacks, size, batch_size, repeats, samples)


def network_speed(way: Way, model, stacks, size, batch_size, repeats, samples=None) -> dict[str, float]:
    """Images per second of one network, run one way; the whole step too, where there are ``samples`` to take."""
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

    speed = {"train img/s": batch_size / seconds(lambda: step(*fixed), repeats)}
    if samples:
        speed["whole step img/s"] = batch_size / seconds(lambda: step(*next(samples)), repeats)
    network.eval()
    return {"infer img/s": batch_size / seconds(forward, repeats)} | speed | {"memory MB": memory_mb()}


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
    a, b, product = (torch.randn(size, size, dtype=torch.bfloat16, device=DEVICE) for _ in range(3))
    return 2 * size**3 / seconds(lambda: torch.mm(a, b, out=product), 5) / 1e9


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
