"""Speed on this machine: the way the peers run the network, and ours, in one table."""

import re
import time
from statistics import median

import pandas as pd
import torch

from hgpose_utils.crops import check_size
from hgpose_utils.heatmaps import STRIDE
from hgpose_utils.models import NINE, build_model
from hgpose_utils.runs import device_name
from hgpose_utils.train import heatmap_loss

WAYS = {
    "float32, NCHW (the peers' way)": (torch.contiguous_format, torch.float32),
    "float32, channels-last": (torch.channels_last, torch.float32),
    "bfloat16, channels-last": (torch.channels_last, torch.bfloat16),
}


def bench(model: str = "hg", stacks: int = 1, size: int = 256, batch_size: int = 8, repeats: int = 5) -> pd.DataFrame:
    """Images per second, forward and in a training step, one row per way of running; medians of ``repeats``."""
    rows = [{"way": way} | speed(model, stacks, size, batch_size, repeats, *how) for way, how in WAYS.items()]
    return pd.DataFrame(rows)


def bench_nine(size: int = 256, batch_size: int = 8, repeats: int = 3) -> pd.DataFrame:
    """The same for each of the nine networks, in bfloat16 and channels-last."""
    how = torch.channels_last, torch.bfloat16
    rows = [{"model": m, "stacks": s} | speed(m, s, size, batch_size, repeats, *how) for m, s in NINE]
    return pd.DataFrame(rows)


def speed(model, stacks, size, batch_size, repeats, memory_format, dtype) -> dict[str, float]:
    """Images per second of one network, run one way."""
    check_size(size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = build_model(model, stacks).to(device, memory_format=memory_format)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=2.5e-4)
    images = torch.randn(batch_size, 3, size, size, device=device).contiguous(memory_format=memory_format)
    targets = torch.rand(batch_size, 16, size // STRIDE, size // STRIDE, device=device)
    weights = torch.ones(batch_size, 16, device=device)
    autocast = torch.autocast(device, torch.bfloat16, enabled=dtype is torch.bfloat16)

    def forward():
        with torch.inference_mode(), autocast:
            network(images)

    def step():
        with autocast:
            heatmaps = network(images)
        optimizer.zero_grad()
        heatmap_loss(heatmaps, targets, weights).backward()
        optimizer.step()

    step()  # so that the allocator's memory is there before anything is timed
    network.eval()
    infer = batch_size / seconds(forward, repeats)
    network.train()
    return {"infer img/s": infer, "train img/s": batch_size / seconds(step, repeats)}


def seconds(run, repeats: int) -> float:
    """The median time of a call, after a second or more of calls that do not count."""
    times, warm = [], 0.0
    while len(times) < repeats:
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took = time.perf_counter() - start
        times += [took] if warm > 1 else []
        warm += took
    return median(times)


def machine() -> str:
    """The machine as a file name."""
    name = device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
