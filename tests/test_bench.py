import numpy as np
import pandas as pd
import pytest
import torch

from hgpose_utils import bench
from hgpose_utils.runs import Recipe


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(bench, "_alone", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(bench, "seconds", lambda run, repeats: [run(), 0.5][1])
    monkeypatch.setattr(bench, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(bench, "PICTURES", 8)
    monkeypatch.setattr(bench, "PICTURE_SIZE", 128)


def test_a_row_for_every_way_and_the_shares_by_hand():
    table = pd.DataFrame(bench.bench(size=64, batch_sizes=[4]))
    assert list(table.way) == [way.name for way in bench.WAYS[bench.DEVICE]]
    assert (table[["data img/s", "infer img/s", "train img/s", "whole step img/s"]] == 8).all(axis=None)
    assert np.allclose(table["train share"], 3 * table["infer share"])
    assert np.allclose(
        table["infer share"], 8 * 11.6 / 16 / (2 * 4096**3 / 0.5 / 1e9), rtol=0.01
    )  # 11.6 GFLOP at 256 px
    assert (table["memory MB"] > 50).all()


def test_rows_are_kept_as_they_come_and_what_is_there_is_left_out(tmp_path):
    def fill(**options):
        for row in bench.bench([("hg", 1), ("new", 1)], 64, (2, 4), [bench.OURS[bench.DEVICE]], **options):
            bench.keep(tmp_path / "machine.csv", row)
            yield row["network"], row["batch"]

    everything = [("hg-s1", 2), ("new-s1", 2), ("hg-s1", 4), ("new-s1", 4)]
    assert next(fill()) == everything[0]  # cut off there
    there = bench.measured(tmp_path / "machine.csv")
    assert list(fill(done=set(there[bench.KEY].itertuples(index=False, name=None)))) == everything[1:]
    assert list(fill()) == everything  # measured anew, each takes its older row's place
    there = bench.measured(tmp_path / "machine.csv")
    assert list(zip(there.network, there.batch, strict=True)) == everything


def test_both_ways_make_batches_that_training_takes(dataset):
    recipe = Recipe(batch_size=4, size=64)
    for samples in (bench.batched(dataset, recipe), bench.one_by_one(dataset, recipe)):
        for _ in range(7):  # more than there are people
            images, targets, weights = next(samples)
            assert images.shape == (4, 3, 64, 64) and targets.shape == (4, 16, 16, 16) and weights.shape == (4, 16)
            assert images.dtype == targets.dtype == weights.dtype == torch.float32
            assert -0.5 <= images.min() < images.max() <= 0.5
    assert images.is_contiguous()  # NCHW, as the peers collate: else the network would run channels-last


def test_the_file_names_the_machine():
    assert bench.machine() and not set(bench.machine()) - set("abcdefghijklmnopqrstuvwxyz0123456789-")
