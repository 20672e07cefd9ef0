# %% [markdown]
# # 3 · The networks: HG, HRU and New
#
# All nine networks of the report are one class with two interchangeable parts. We take it apart from the outside in, follow
# the shapes of one picture through it, and then check it against the only trace the report's networks left: the sizes of
# their files.
#
# **You will learn** what the stem does, why an hourglass goes down and up again, how hourglasses are stacked and supervised, what a
# transposed convolution is, and how a file size can tell two architectures apart.
#
# **Time:** about ten seconds, on a CPU as on a GPU.

# %%
import platform

import matplotlib.pyplot as plt
import pandas as pd
import torch

from hgpose_utils.budget import read_budget
from hgpose_utils.plots import COLOURS, show_source, use_style

budget = read_budget()
torch.manual_seed(0)
use_style()
print(f"Python {platform.python_version()}, torch {torch.__version__}, budget {budget.name}")

# %% [markdown]
# ## One line a network
#
# In goes a picture, out comes a list: one set of 16 heatmaps for each stack, at a quarter of the picture's size.

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.models import build_model

images = torch.randn(1, 3, 256, 256)
model = build_model("hg", stacks=2)
[tuple(heatmaps.shape) for heatmaps in model(images)]

# %% [markdown]
# ## The stem: from 256 to 64 pixels
#
# An hourglass on 256 × 256 pixels would need too much memory. The stem brings the picture to 64 × 64, and its three colours to 256
# features: a 7×7 convolution with stride 2, a residual unit, a max-pool, and two more residual units.

# %%
# NBVAL_CHECK_OUTPUT
x = images
rows = []
for layer in model.stem:
    x = layer(x)
    rows.append({"layer": type(layer).__name__, "channels": x.shape[1], "height": x.shape[2], "width": x.shape[3]})
pd.DataFrame(rows)

# %% [markdown]
# ## The hourglass: down, and up again
#
# To tell a left knee from a right one, one must see the whole person; to place it, one must see single pixels. An
# hourglass does both. It halves the resolution four times, and on the way back adds, at each resolution, what the skip
# connection kept. The class contains itself, one level smaller, which makes it four lines long.

# %%
from hgpose_utils.models import Hourglass

show_source(Hourglass)

# %% [markdown]
# A hook on each residual unit writes down the resolution that it works at, in the order in which they run.

# %%
from hgpose_utils.models import Residual


def unit_sizes(hourglass, x):
    """The side of the feature map at each residual unit, in the order of execution."""
    sizes = []
    units = [m for m in hourglass.modules() if isinstance(m, Residual)]
    hooks = [unit.register_forward_hook(lambda _m, _x, y: sizes.append(y.shape[-1])) for unit in units]
    hourglass(x)
    for hook in hooks:
        hook.remove()
    return sizes


# %%
# NBVAL_CHECK_OUTPUT
sizes = unit_sizes(model.hourglasses[0], torch.randn(1, 256, 64, 64))
print(len(sizes), "units at", sizes)

# %%
figure, axis = plt.subplots(figsize=(8, 2.6))
axis.bar(range(len(sizes)), sizes, color=COLOURS["hg"])
axis.set_yscale("log", base=2)
axis.set(xlabel="residual unit, in the order in which they run", ylabel="resolution", yticks=[4, 8, 16, 32, 64])
axis.set_yticklabels([4, 8, 16, 32, 64])
plt.show()

# %% [markdown]
# **Figure:** the resolution at each of the 13 residual units of one hourglass, in the order in which they run. It falls from 64 to 4 pixels, with two units
# at each resolution in between (one for the way down, one for the skip connection), and climbs back with one each. That is
# where the name comes from.
#
# ## Stacking, with intermediate supervision
#
# One hourglass draws heatmaps; the next sees the features **and** these heatmaps, and can correct them: if the knee is
# here, the ankle is hardly there. For that, the first heatmaps must already mean something, so the loss looks at every
# stack's, not only at the last's. That is intermediate supervision.

# %%
from hgpose_utils.models import StackedHourglass

show_source(StackedHourglass)

# %% [markdown]
# The input must survive four halvings after the stem's two. Other sizes work too, if they are divisible by 64; the error for the rest
# says so.

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.files import HgposeError

print([tuple(h.shape) for h in model(torch.randn(1, 3, 128, 192))])
try:
    model(torch.randn(1, 3, 200, 200))
except HgposeError as e:
    print("HgposeError:", e)

# %% [markdown]
# ## HRU and New: two parts exchanged
#
# HRU uses the residual unit of [notebook 2](02_hru_receptive_field.ipynb) everywhere. New also replaces the upsampling: HG
# and HRU repeat each pixel (nothing to learn), New learns how to fill the gaps, with a transposed convolution.

# %%
from hgpose_utils.models import NearestUpsample, TransposedConv

show_source(NearestUpsample, TransposedConv)

# %% [markdown]
# What does a transposed convolution do with a single bright pixel? It paints its kernel there, at twice the resolution.

# %%
# NBVAL_CHECK_OUTPUT
bright = torch.zeros(1, 1, 3, 3)
bright[0, 0, 1, 1] = 1
paint = TransposedConv(1)[0]
torch.nn.init.constant_(paint.bias, 0)
paint.weight.data = torch.arange(1.0, 10).view(1, 1, 3, 3)
print("nearest\n", NearestUpsample(1)(bright)[0, 0].int().numpy())
print("transposed\n", paint(bright)[0, 0].detach().int().numpy())

# %% [markdown]
# ## Are these the report's networks?
#
# The report describes them in words, and leaves open much that matters: how many channels has branch C, where are its batch norms?
# But it lists the sizes of its nine checkpoint files, to the byte. A checkpoint of PyTorch-Pose holds each weight, one RMSProp average
# for each weight, and the running statistics of the batch norms: 8 bytes a parameter, and a little. So we predict the sizes.

# %%
from hgpose_utils.models import NINE, checkpoint_bytes, count_parameters
from hgpose_utils.results import network_name, read_report_sizes

rows = []
for name, stacks in NINE:
    with torch.device("meta"):  # the modules without their memory: only shapes count here
        network = build_model(name, stacks)
    rows.append((network_name(name, stacks), count_parameters(network), checkpoint_bytes(network)))
ours = pd.DataFrame(rows, columns=["network", "parameters", "our bytes"]).set_index("network")

# %%
# NBVAL_CHECK_OUTPUT
table = ours.join(read_report_sizes().set_index("network").bytes.rename("their bytes"))
table["difference"] = (table["our bytes"] / table["their bytes"] - 1).map("{:+.3%}".format)
table

# %%
ratio = table["our bytes"] / table["their bytes"]
assert ((ratio - 1).abs() < 1e-3).all(), "a network is not the report's"

# %% [markdown]
# All nine agree to a hundredth of a percent. A branch C of 256 → 256 → 256 channels, as the HRU paper's own code has it, would miss by far:

# %%
# NBVAL_CHECK_OUTPUT
from torch import nn

from hgpose_utils.models import WideResidual


class PaperResidual(WideResidual):
    """The HRU with two full-width 3×3 convolutions in branch C."""

    def __init__(self, channels_in, channels_out):
        super().__init__(channels_in, channels_out)
        self.c[3] = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.c[5] = nn.Conv2d(channels_out, channels_out, 3, padding=1)


with torch.device("meta"):
    wide = build_model("hru", 1, residual=PaperResidual)
print(f"{checkpoint_bytes(wide) / table.loc['HRU-s1', 'their bytes'] - 1:+.0%}")

# %%
figure, axis = plt.subplots(figsize=(8, 3.4))
bars = table.loc[[network_name(m, s) for m in ("hg", "hru", "new") for s in (1, 2, 8)], "parameters"] / 1e6
axis.bar(bars.index, bars, color=[COLOURS[m] for m in ("hg", "hru", "new") for _ in range(3)])
axis.bar_label(axis.containers[0], fmt="%.1f")
axis.set(ylabel="million parameters")
plt.show()

# %% [markdown]
# **Figure:** the parameters of the nine networks in millions. With the same number of stacks HRU has 3.6 times as many as HG, and New 4.3 times. Remember
# it when you compare their accuracies: HG with 8 stacks is smaller than New with 2.
#
# ## Summary
#
# - Stem, hourglass, heatmaps; and again, with the heatmaps fed back.
# - HG, HRU and New differ in the residual unit and the upsampling, and in nothing else.
# - The sizes of the report's files pin down its networks: ours agree within 0.01 %.
#
# **Next:** [training one](04_gpu_training.ipynb).
#
# ## References
#
# - Newell, Yang, Deng: *Stacked Hourglass Networks for Human Pose Estimation*, 2016, [arXiv:1603.06937](https://arxiv.org/abs/1603.06937).
# - Chu et al.: *Multi-Context Attention for Human Pose Estimation*, 2017, [arXiv:1702.07432](https://arxiv.org/abs/1702.07432).
# - Xiao, Wu, Wei: *Simple Baselines for Human Pose Estimation and Tracking*, 2018, [arXiv:1804.06208](https://arxiv.org/abs/1804.06208).
# - Dumoulin, Visin: *A Guide to Convolution Arithmetic for Deep Learning*, 2016, [arXiv:1603.07285](https://arxiv.org/abs/1603.07285) (transposed convolutions).
