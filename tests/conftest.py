import pytest
import torch

from hgpose_utils.crops import make_crops
from hgpose_utils.runs import Recipe
from hgpose_utils.synthetic import make_dataset

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Twenty drawn people, in MPII's layout."""
    return make_dataset(tmp_path_factory.mktemp("data") / "people", 20, size=128, workers=1, progress=False)


@pytest.fixture(scope="session")
def crops(dataset):
    """Their crops for inputs of 64 px."""
    return make_crops(dataset, 64, progress=False)


@pytest.fixture
def recipe():
    return Recipe("hg", stacks=1, epochs=1, batch_size=4, size=64)
