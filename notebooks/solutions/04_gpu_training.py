# %% [markdown]
# # Solutions to notebook 4
#
# The exercises are at the end of [Training](../04_gpu_training.ipynb).

# %%
import math

import numpy as np
import torch

from hgpose_utils.augment import no_jitter
from hgpose_utils.budget import read_budget
from hgpose_utils.crops import make_crops
from hgpose_utils.heatmaps import encode, to_input_pixels
from hgpose_utils.metrics import ReportPCK
from hgpose_utils.runs import Recipe
from hgpose_utils.synthetic import make_dataset
from hgpose_utils.train import batches, heatmap_loss

# %% [markdown]
# ## Exercise 1: drawing nothing
#
# A Gaussian of height 1 and standard deviation 1, squared, is a Gaussian of standard deviation $1/\sqrt 2$: it sums to $2 \pi \cdot 1/2 = \pi$. Spread over the 64 × 64 pixels of a heatmap that is
# $\pi / 4096 \approx 0.00077$ for each stack: a loss must be far below that before anything is learnt, and it is that small from the start.

# %%
# NBVAL_CHECK_OUTPUT
targets, weights = encode(to_input_pixels(torch.full((1, 16, 2), 32.0)), size=64)
print(f"{math.pi / 4096:.6f} {heatmap_loss([torch.zeros_like(targets)], targets, weights):.6f}")

# %% [markdown]
# ## Exercise 2: averaging averages
#
# Two people found and twenty missed: each batch has its own percentage, and the small one counts as much as the large one.

# %%
right, wrong = targets, targets.roll(20, -1)
whole, parts = ReportPCK(), []

# %%
# NBVAL_CHECK_OUTPUT
for people, heatmaps in ((2, right), (20, wrong)):
    batch = heatmaps.expand(people, -1, -1, -1), targets.expand(people, -1, -1, -1), weights.expand(people, -1)
    alone = ReportPCK()
    alone.update(*batch)
    whole.update(*batch)
    parts.append(float(alone.compute()))
print(f"mean of the batches' scores {np.mean(parts):.2f}, the true PCK {whole.compute():.2f}")

# %% [markdown]
# ## Exercise 3: the mean heatmap
#
# Its highest pixel is where a joint is most often. That is a guess without looking, like the mean pose of [notebook 1](../01_data_exploration.ipynb), and about as good: what a network must beat.

# %%
budget = read_budget()
crops = make_crops(make_dataset(budget.data, budget.people), 128, progress=False)
recipe = Recipe(size=128, batch_size=64)


# %%
def targets_of(part):
    """Target heatmaps and weights of all people of a split, without augmentation."""
    people = crops.split(part)
    parts = [batch[2:] for batch in batches(people, no_jitter(len(people)), np.arange(len(people)), recipe, "cpu")]
    return (torch.cat(tensors) for tensors in zip(*parts, strict=True))


# %%
mean = next(targets_of("train")).mean(0)
targets, weights = targets_of("val")
metric = ReportPCK()
metric.update(mean.expand_as(targets), targets, weights)
score = float(metric.compute())
assert score < 0.35
print(f"PCK of the mean heatmap: {score:.3f}")
