# %% [markdown]
# # Solutions to notebook 1
#
# The exercises are at the end of [Data: people and their joints](../01_data_exploration.ipynb).

# %%
import numpy as np
import pandas as pd
import torch

from hgpose_utils.annotations import read_people
from hgpose_utils.augment import draw_jitter, no_jitter, warp
from hgpose_utils.budget import ROOT, read_budget
from hgpose_utils.crops import make_crops
from hgpose_utils.heatmaps import encode
from hgpose_utils.skeleton import JOINTS
from hgpose_utils.synthetic import make_dataset

budget = read_budget()
dataset = make_dataset(budget.data, budget.people)
people = read_people(dataset)

# %% [markdown]
# ## Exercise 1: without the hidden joints
#
# The share that is lost is the share that is hidden. In MPII the pelvis and the thorax lose most, 44 and 43 % of their examples; among the joints that the report scores, the hips (27 %) and the ankles (26 %).
# A network trained that way is still scored on them. And the lost ones are no random sample: the harder ones go.

# %%
# NBVAL_CHECK_OUTPUT
mpii = pd.read_csv(ROOT / "results/statistics/mpii-joints.csv", index_col="joint")
mpii.hidden.nlargest(6).round(2)

# %%
annotated = ~np.isnan(np.stack(people.joints)).any(-1)
hidden = annotated & ~np.stack(people.visible)
pd.Series(hidden.sum(0) / annotated.sum(0), index=JOINTS, name="our people").nlargest(6).round(2)

# %% [markdown]
# ## Exercise 2: pushed out of the input
#
# `encode` gives weight 0 to a joint outside the heatmap. Zoom is to blame: a scale of 0.75 makes the box smaller and the person larger, and pushes hands and feet over the edge.
# Rotation is not: those who stretch beyond their box do so straight up, down or sideways, and turning brings their hands back towards a corner, where there is room. All in all about one joint in a hundred is lost,
# and a few even without any augmentation.

# %%
crops = make_crops(dataset, size=256, progress=False)
annotated = ~np.isnan(crops.joints).any(-1)
plain, both = no_jitter(len(crops)), draw_jitter(len(crops), seed=0, epoch=1)
cases = {
    "none": plain,
    "rotation": plain._replace(angle=both.angle),
    "zoom": plain._replace(scale=both.scale),
    "both": both,
}
pixels = torch.zeros(len(crops), 3, 8, 8)  # the pictures do not matter here, so small ones will do
joints = (torch.from_numpy(crops.joints).float() + 0.5) * (8 / crops.side) - 0.5

# %%
lost = {}
for name, case in cases.items():
    _, moved = warp(pixels, joints, case, 64)
    lost[name] = 1 - float(encode(moved, 16)[1].sum()) / annotated.sum()
assert lost["rotation"] < lost["zoom"] < 0.05 and lost["none"] > 0
pd.Series(lost, name="share of the annotated joints without a target").round(4)

# %% [markdown]
# ## Exercise 3: other grids
#
# A joint lies anywhere within a square of `stride` pixels, evenly, and is read off at the square's middle. The mean distance to the middle of a square of side $s$
# is $\frac{s}{6}\left(\sqrt 2 + \ln(1 + \sqrt 2)\right) \approx 0.383\,s$: twice the stride, twice the error. That predicts 0.77, 1.53 and 3.06 pixels.


# %%
def read_off(points, stride):
    """Where the highest pixel of a perfect heatmap of this stride would put each point."""
    return (((points + 0.5) / stride - 0.5).round() + 0.5) * stride - 0.5


# %%
# NBVAL_CHECK_OUTPUT
points = torch.rand(100_000, 2, generator=torch.Generator().manual_seed(0)) * 256 - 0.5
for stride in (2, 4, 8):
    error = torch.linalg.vector_norm(read_off(points, stride) - points, dim=-1).mean()
    predicted = stride / 6 * (2**0.5 + np.log(1 + 2**0.5))
    print(f"stride {stride}: predicted {predicted:.3f} px, measured {error:.3f} px")
