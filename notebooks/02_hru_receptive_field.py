# %% [markdown]
# # 2 · The residual unit, and how far it sees
#
# An hourglass is built from one part, repeated dozens of times: the residual unit. The report's first idea is to let this
# part see further. Whether that can help depends on a quantity that one can compute **and** measure: the receptive field.
#
# **You will learn** what the branches A and B of the residual unit do, what branch C adds in the hourglass residual unit
# (HRU), and how to find the field of any path through a network in two ways that must agree.
#
# **Time:** some seconds, on a CPU as on a GPU.

# %%
import platform

import matplotlib.pyplot as plt
import pandas as pd
import torch

from hgpose_utils.budget import read_budget
from hgpose_utils.plots import show_source, use_style

budget = read_budget()
budget.out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
use_style()
print(f"Python {platform.python_version()}, torch {torch.__version__}, budget {budget.name}")

# %% [markdown]
# ## The residual unit: A + B
#
# Branch A hands the input on unchanged, so that the unit only has to learn a **correction**, and gradients find a free way
# through. Branch B computes that correction cheaply: a 1×1 convolution to half the channels, a 3×3 convolution there, and a
# 1×1 convolution back. Each is preceded by batch norm and ReLU ("pre-activation").

# %%
from hgpose_utils.models import Residual, WideResidual

show_source(Residual)

# %% [markdown]
# ## The hourglass residual unit: A + B + C
#
# Branch C halves the resolution first, so that its two 3×3 convolutions reach twice as far, and then doubles it again.

# %%
show_source(WideResidual)

# %% [markdown]
# Both take and give the same shapes: one can replace the other anywhere. C is not free, though; it is the largest branch.

# %%
# NBVAL_CHECK_OUTPUT
unit = WideResidual(256, 256)
x = torch.randn(1, 256, 64, 64)
print("shape", tuple(unit(x).shape))
for name in "abc":
    print(f"branch {name.upper()}: {sum(p.numel() for p in getattr(unit, name).parameters()):7,} parameters")

# %% [markdown]
# ## By arithmetic
#
# The receptive field of an output pixel is the set of input pixels that can change it. Two numbers are enough to follow it
# through a chain of layers: the `field` $r$ and the `jump` $j$, the distance in input pixels between two neighbours in the present layer.
# A layer that looks at $k$ neighbours with stride $s$ does
#
# $$ r \leftarrow r + (k - 1)\,j, \qquad j \leftarrow s\,j . $$

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.receptive_field import theoretical_field, trace_field

trace_field(unit.c)

# %% [markdown]
# Read it from the top. The max-pool sees 2 pixels, and from then on a step is two pixels long: each 3×3 convolution adds 4
# where it would have added 2. Doubling by repetition adds nothing. That is the report's 10 × 10.

# %%
# NBVAL_CHECK_OUTPUT
computed = {name: theoretical_field(getattr(unit, name)) for name in "abc"}
computed

# %% [markdown]
# ## By measurement
#
# Arithmetic can be wrong, and code can differ from the drawing. So we ask the module itself: which input pixels have a gradient
# with respect to one output pixel? A max-pool passes the gradient to one of its four pixels only, so we average over many random inputs.

# %%
from hgpose_utils.receptive_field import gradient_map, measured_field

show_source(gradient_map)

# %%
# NBVAL_CHECK_OUTPUT
small = WideResidual(16, 16)
measured = {name: measured_field(getattr(small, name), channels=16, size=32) for name in "abc"}
table = pd.DataFrame({"computed": computed, "measured": measured}).rename_axis("branch")
assert (table.computed == table.measured).all()
assert table.computed.tolist() == [1, 3, 10]
table

# %%
from matplotlib.colors import PowerNorm

figure, axes = plt.subplots(1, 4, figsize=(11, 3))
for axis, (name, path) in zip(
    axes, {"A": small.a, "B": small.b, "C": small.c, "A + B + C": small}.items(), strict=True
):
    axis.imshow(gradient_map(path, channels=16, size=32)[6:26, 6:26], norm=PowerNorm(0.3))
    axis.set_title(name)
    axis.axis("off")
figure.savefig(budget.out / "receptive_fields.png")

# %% [markdown]
# **Figure:** the 20 × 20 input pixels around one output pixel; bright pixels move it strongly, black ones not at all
# (the scale favours faint ones, which would not be seen otherwise). A is a single pixel, B a 3×3 square, C a 10×10 square that is brightest
# in the middle. In the whole unit the middle counts for most by far: C adds a wide, faint surround.
#
# The square of C is **not centred** on its output: the max-pool works on a fixed grid of 2×2 cells, so an output at an even position sees
# 4 pixels before it and 5 after it, and one at an odd position the other way round.
#
# ## Try it
#
# Choose a branch. The blue frame is what arithmetic gives, the light what was measured, the cross the output pixel.

# %%
from hgpose_utils.widgets import ReceptiveFieldExplorer

explorer = ReceptiveFieldExplorer({"A": small.a, "B": small.b, "C": small.c}, channels=16)
explorer

# %% [markdown]
# **Figure:** the explorer at branch C: a frame of 10 × 10 pixels, filled exactly by the measured field.

# %%
before = bytes(explorer.image.value)
explorer.controls["path"].value = "B"
assert bytes(explorer.image.value) != before, "the picture did not answer"

# %% [markdown]
# ## Does it matter?
#
# A wider unit sounds like a good thing. But an hourglass already halves the resolution four times, and so it sees far whatever its units do:
# at its lowest resolution, one step is 16 of its input pixels. Here is the longest way through a small hourglass, two halvings deep, with either unit's widest branch.

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.models import Hourglass


def longest_way(hourglass, branch):
    """All the way down and up again, through one branch of each unit."""
    down, inner, up = hourglass.down, hourglass.inner, hourglass.up
    middle = longest_way(inner, branch) if isinstance(inner, Hourglass) else getattr(inner, branch)
    return torch.nn.Sequential(down[0], getattr(down[1], branch), middle, getattr(up[0], branch), up[1])


for residual, branch in ((Residual, "b"), (WideResidual, "c")):
    fields = [theoretical_field(longest_way(Hourglass(depth, 8, residual), branch)) for depth in (1, 2, 3, 4)]
    print(f"{residual.__name__:12s} 1 to 4 halvings deep: {fields} px")

# %% [markdown]
# The wide unit sees about four times as far. But with four halvings even the plain unit's way reaches beyond the whole 64 × 64 map that an
# hourglass works on: there is nothing left to see. Whether the report's gain comes from seeing further, or simply from having more than three times the parameters, is
# a question that only runs of equal size can answer. We come back to it in [notebook 5](05_results.ipynb).
#
# ## Summary
#
# - A residual unit hands its input on (A) and adds a correction (B); the HRU adds a second, wider one (C).
# - Their fields are 1, 3 and 10 pixels, by the recurrence and by measurement.
# - Most of the weight stays in the middle: a field's size says what *can* be seen, not what *is* looked at.
#
# **Next:** [the networks](03_model_definitions.ipynb).
#
# ## References
#
# - He, Zhang, Ren, Sun: *Identity Mappings in Deep Residual Networks*, 2016, [arXiv:1603.05027](https://arxiv.org/abs/1603.05027).
# - Chu et al.: *Multi-Context Attention for Human Pose Estimation*, 2017, [arXiv:1702.07432](https://arxiv.org/abs/1702.07432) (the HRU).
# - Dumoulin, Visin: *A Guide to Convolution Arithmetic for Deep Learning*, 2016, [arXiv:1603.07285](https://arxiv.org/abs/1603.07285).
# - Araujo, Norris, Sim: *Computing Receptive Fields of Convolutional Neural Networks*, Distill, 2019.
# - Luo, Li, Urtasun, Zemel: *Understanding the Effective Receptive Field*, 2016, [arXiv:1701.04128](https://arxiv.org/abs/1701.04128).
