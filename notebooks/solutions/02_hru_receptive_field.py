# %% [markdown]
# # Solutions to notebook 2
#
# The exercises are at the end of [The residual unit, and how far it sees](../02_hru_receptive_field.ipynb).

# %%
import torch
from torch import nn

from hgpose_utils.models import WideResidual
from hgpose_utils.receptive_field import gradient_map, measured_field, probed_field, random_inputs, theoretical_field

torch.manual_seed(0)
unit = WideResidual(8, 8)

# %% [markdown]
# ## Exercise 1: a third convolution
#
# Behind the max-pool a step is two pixels long, so a 3×3 convolution adds 2 · 2 = 4: the field is 14.

# %%
# NBVAL_CHECK_OUTPUT
longer = nn.Sequential(*unit.c[:6], nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), unit.c[6])
assert theoretical_field(longer) == 14
theoretical_field(longer), probed_field(longer, 8, 64), measured_field(longer, 8, 64)

# %% [markdown]
# ## Exercise 2: dilation instead of pooling
#
# A 3×3 convolution with `dilation=2` spans 5 pixels and looks at every second one. Two of them span 9. At full resolution nothing is lost by pooling, but nothing is saved either:
# the convolutions work on four times as many pixels.

# %%
# NBVAL_CHECK_OUTPUT
dilated = nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=2, dilation=2))
assert theoretical_field(dilated) == probed_field(dilated, 8, 32) == 9
seen = gradient_map(dilated, random_inputs(8, 32)) > 0
print(theoretical_field(dilated), "pixels wide, of which", int(seen.sum()), "of 81 count")

# %% [markdown]
# Only 25 of the 81 pixels count: those at even distances. The others cannot be seen at all, which is known as the gridding effect.
#
# ## Exercise 3: training mode
#
# In training mode batch norm divides by the mean and variance of the whole batch. One NaN makes both NaN, and so every output.

# %%
# NBVAL_CHECK_OUTPUT
x = torch.zeros(2, 8, 16, 16)
x[0, 0, 3, 3] = torch.nan
for mode in (False, True):
    share = unit.train(mode)(x).isnan().float().mean()
    print("training" if mode else "evaluation", f"mode: {share:.1%} of the output is NaN")
