"""A run that is killed, at whatever instant, and started again gives the numbers of one that was left alone."""

import multiprocessing
import os
import random
import shutil
import signal
from functools import partial

import pytest
import safetensors.torch
import torch

from hgpose_utils.crops import make_crops
from hgpose_utils.runs import Recipe
from hgpose_utils.train import train

RECIPE = Recipe(epochs=5, batch_size=4, size=64, channels=64)
KILLS = 20
SERVER = multiprocessing.get_context("forkserver")  # its children start at once: they find everything imported


def life(dataset, folder):
    """Trains, or goes on, to the end or until it is killed."""
    torch.set_num_threads(1)
    train(RECIPE, make_crops(dataset, 64, progress=False), folder, "people-64", log=lambda line: None, progress=False)


def suicide(dataset, folder, call):
    """Trains, and kills itself at the ``call``-th time that a file would take its place."""
    replace, calls = os.replace, iter(range(1, 1000))

    def replace_or_die(source, target):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = replace_or_die
    life(dataset, folder)


def run_for(seconds, function, *args) -> bool:
    """Runs a function in a process of its own, kills it after that time, and says whether it ended by itself."""
    process = SERVER.Process(target=function, args=args)
    process.start()
    process.join(seconds)
    ended = process.exitcode is not None
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return ended


def outcome(folder):
    """All that a run leaves, but for its times."""
    saved = torch.load(folder / "last.pt", weights_only=True)
    numbers = [{k: v for k, v in row.items() if "second" not in k} for row in saved["history"]]
    averages = [state["square_avg"] for state in saved["optimizer"]["state"].values()]
    best = safetensors.torch.load_file(folder / "best.safetensors")
    return numbers, [*saved["model"].values(), *averages, *best.values()]


def same(one, other) -> bool:
    return one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory):
    SERVER.set_forkserver_preload(["hgpose_utils.train"])
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run_for(None, life, dataset, folder)
    return outcome(folder)


def test_killed_at_twenty_random_instants(dataset, undisturbed, tmp_path):
    instants, kills, finished = random.Random(0), 0, 0
    while kills < KILLS or (tmp_path / "run").exists():
        if run_for(instants.uniform(0.05, 1.2) if kills < KILLS else None, life, dataset, tmp_path / "run"):
            assert same(outcome(tmp_path / "run"), undisturbed)
            shutil.rmtree(tmp_path / "run")
            finished += 1
        else:
            kills += 1
    assert finished


@pytest.mark.parametrize("call, epochs", [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 1), (7, 2), (8, 2)])
def test_killed_while_a_file_is_written(dataset, undisturbed, tmp_path, call, epochs):
    """Of the first two epochs: config, checkpoint, weights, history; the checkpoint before, it, weights, history."""
    run_for(None, partial(suicide, call=call), dataset, tmp_path / "run")
    assert len(epochs_so_far(tmp_path / "run")) == epochs
    assert run_for(None, life, dataset, tmp_path / "run")
    assert same(outcome(tmp_path / "run"), undisturbed)


def epochs_so_far(folder):
    files = [file for file in (folder / "last.pt", folder / "previous.pt") if file.exists()]
    return torch.load(files[0], weights_only=True)["history"] if files else []
