# %% [markdown]
# # 3 · The networks: HG, HRU and New
#
# All nine networks of the report are one class with two interchangeable parts. We take it apart from the outside in, follow
# the shapes of one picture through it, and then check it against the only trace of their layers that the
# report's networks left: the sizes of their files.
#
# **You will learn** what the stem does, why an hourglass goes down and up again, how hourglasses are stacked and supervised, what a
# transposed convolution is, how a file size can tell two architectures apart, and what each network costs.
#
# **Time:** about half a minute, on a CPU as on a GPU.

# %%
import platform

import matplotlib.pyplot as plt
import pandas as pd
import torch

from hgpose_utils.budget import read_budget
from hgpose_utils.plots import COLOURS, show_source, use_style

budget = read_budget()
budget.out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
use_style()
print(f"Python {platform.python_version()}, torch {torch.__version__}, budget {budget.name}, seed 0")

# %% [markdown]
# ## One line per network
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
# connection kept. The class contains itself, one level smaller, which keeps it to four parts and one line.

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
from hgpose_utils.diagrams import draw_network
from hgpose_utils.models import VARIANTS

figure, axes = plt.subplots(3, 1, figsize=(12, 8))
for axis, name in zip(axes, VARIANTS, strict=True):
    with torch.device("meta"):  # the modules without their memory: only shapes count here
        draw_network(axis, build_model(name), name.upper())
figure.savefig(budget.out / "networks.png")

# %% [markdown]
# **Figure:** HG, HRU and New with one stack, drawn from the modules themselves in the order in which they run, each box at the height of the resolution that it gives. The stem comes
# down from 128 to 64 pixels; the hourglass falls to 4, with one unit on each skip connection (the horizontal arrows) and one going down, three at the bottom, and one after each addition
# on the way up; then follow the last unit, a convolution, and the heatmaps. The three networks have the same shape: HRU has other units, New also other upsamplings.
#
# ## Stacking, with intermediate supervision
#
# One hourglass draws heatmaps; the next sees the features **and** these heatmaps, and can correct them: if the knee is
# here, the ankle is hardly there. Both go through a 1×1 convolution and are added to the first hourglass's input. For that, the first heatmaps must already mean
# something, so the loss looks at every stack's, not only at the last's. That is intermediate supervision.

# %%
from hgpose_utils.models import StackedHourglass

show_source(StackedHourglass)

# %% [markdown]
# The stem halves the input twice and the hourglass four times, so both sides must be divisible by 2⁶ = 64. Anything else gets an error that says so.

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.files import HgposeError

print([tuple(h.shape) for h in model(torch.randn(1, 3, 128, 192))])
try:
    model(torch.randn(1, 3, 200, 200))
except HgposeError as e:
    print("HgposeError:", e)

# %% [markdown]
# ## HRU and New: two parts swapped
#
# HRU uses the residual unit of [notebook 2](02_hru_receptive_field.ipynb) everywhere. New also replaces the upsampling: HG
# and HRU repeat each pixel (nothing to learn), New learns how to fill the gaps, with a transposed convolution
# (followed by batch norm and ReLU, as in *Simple Baselines*; below we look at the convolution alone).

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
# With all weights at one and a picture of ones, something else shows: output pixels get one, two or four contributions, by turns. The network must unlearn this **checkerboard**. It can be avoided by starting
# as nearest neighbour (`TransposedConv(256, start_nearest=True)`); our runs start at random, since the report's code, which says nothing else, will have done so.

# %%
# NBVAL_CHECK_OUTPUT
torch.nn.init.ones_(paint.weight)
print(paint(torch.ones(1, 1, 3, 3))[0, 0].detach().int().numpy())

# %% [markdown]
# ## Are these the report's networks? A detective story
#
# The report describes its networks in words, and leaves open much that matters: how many channels has branch C, and how many batch norms?
# But it lists the sizes of its nine checkpoint files, to the byte. A checkpoint of PyTorch-Pose holds each weight, one running average per weight (kept by the optimizer RMSProp, notebook 4),
# and the statistics of the batch norms: 8 bytes per parameter, and some bookkeeping for each stored tensor.
#
# The clue: from one stack to two, an HG file grows by one stack; an HRU file grows by one stack **and 14 branches C**. So the report's own numbers tell how large one branch is.

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.models import checkpoint_bytes
from hgpose_utils.results import read_report_sizes

theirs = read_report_sizes().set_index(["model", "stacks"]).bytes
stack = {name: theirs[name, 2] - theirs[name, 1] for name in VARIANTS}
branch, upsampler = (stack["hru"] - stack["hg"]) / 14, (stack["new"] - stack["hru"]) / 4
print(f"one branch C: {branch:,.0f} bytes\none upsampler: {upsampler:,.0f} bytes")

# %% [markdown]
# Now the suspects. What would each layout weigh?

# %%
from torch import nn


def conv(channels_in, channels_out, kernel=3):
    return nn.Conv2d(channels_in, channels_out, kernel)


def norm(channels):
    return nn.BatchNorm2d(channels)


branches = {
    "256 → 128 → 256, one norm of 256": [norm(256), conv(256, 128), conv(128, 256)],
    "the same, no norm": [conv(256, 128), conv(128, 256)],
    "the same, one norm of 128": [conv(256, 128), norm(128), conv(128, 256)],
    "the same, two norms": [norm(256), conv(256, 128), norm(128), conv(128, 256)],
    "the HRU paper's 256 → 256 → 256": [norm(256), conv(256, 256), conv(256, 256)],
}
deconv = nn.ConvTranspose2d
upsamplers = {
    "3×3 with one norm": [deconv(256, 256, 3), norm(256)],
    "3×3, no norm": [deconv(256, 256, 3)],
    "3×3 with norm, no bias": [deconv(256, 256, 3, bias=False), norm(256)],
    "4×4 with one norm": [deconv(256, 256, 4), norm(256)],
}

# %%
# NBVAL_CHECK_OUTPUT
rows = []
for part, found, suspects in [("branch C", branch, branches), ("upsampler", upsampler, upsamplers)]:
    for name, layers in suspects.items():
        size = checkpoint_bytes(nn.Sequential(*layers))
        rows.append((part, name, size, f"{size / found - 1:+.3%}"))
pd.DataFrame(rows, columns=["part", "layout", "bytes", "misses by"])

# %% [markdown]
# One layout of each fits to about a hundredth of a percent; the next best miss by several times as much, and the paper's own by 72 %. Sizes count, they do not locate: **where** in the branch the norm stands
# they cannot tell. That it is of 256 channels even where the branch has fewer tells the stem (its units have 64 and 128 inputs): only a norm on the branch's **input** gives the right total.
#
# Now the nine networks as wholes.

# %%
from hgpose_utils.models import NINE, count_parameters
from hgpose_utils.results import network_name

rows = []
for name, stacks in NINE:
    with torch.device("meta"):
        network = build_model(name, stacks)
    rows.append(
        (network_name(name, stacks), count_parameters(network), checkpoint_bytes(network), theirs[name, stacks])
    )

# %%
# NBVAL_CHECK_OUTPUT
table = pd.DataFrame(rows, columns=["network", "parameters", "our bytes", "their bytes"]).set_index("network")
ratio = table["our bytes"] / table["their bytes"]
table["difference"] = (ratio - 1).map("{:+.3%}".format)
assert ((ratio - 1).abs() < 1e-4).all(), "a network is not the report's"
table

# %% [markdown]
# All nine agree to a hundredth of a percent. Only one number was fitted, the 129 bytes of bookkeeping per stored tensor, and on the HG files; the six rows of HRU and New are predictions.
#
# Is the prediction itself right? A real file, saved in the format of the time, settles it for HG with one stack.

# %%
import io

model = build_model("hg")
optimizer = torch.optim.RMSprop(model.parameters())
sum(heatmaps.mean() for heatmaps in model(torch.randn(2, 3, 64, 64))).backward()
optimizer.step()
file = io.BytesIO()
state = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
torch.save(state, file, _use_new_zipfile_serialization=False)
real = len(file.getvalue())
print(f"a real file: {real:,} bytes, {real / theirs['hg', 1] - 1:+.2%} from the report's")
assert abs(real / theirs["hg", 1] - 1) < 2e-3

# %% [markdown]
# ## What each network costs
#
# Parameters are not the only price. PyTorch counts the arithmetic of a forward pass and the memory that it keeps for the backward pass, without doing either; the images per second were measured
# (`hgpose bench --nine`, read from `results/bench/`).

# %%
from hgpose_utils.cost import activation_mb, forward_gflop

rows = []
for name, stacks in NINE:
    with torch.device("meta"):
        network = build_model(name, stacks)
    rows.append((count_parameters(network) / 1e6, forward_gflop(network), activation_mb(network)))
cost = pd.DataFrame(rows, index=table.index, columns=["million parameters", "GFLOP forward", "MB kept per image"])

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.budget import ROOT

measured = pd.read_csv(ROOT / "results/bench/amd-epyc-2-cores.csv").set_index("network")
ours = measured[measured.way == "+ freed memory kept"].rename(index=lambda network: network_name(*network.split("-s")))
cost = cost.join(ours[["infer img/s", "train img/s"]])
cost.round(1)

# %%
from matplotlib.ticker import ScalarFormatter

figure, axes = plt.subplots(1, 4, figsize=(15, 3.6))
for axis, column in zip(axes, cost.drop(columns="infer img/s"), strict=True):
    for name in VARIANTS:
        values = [cost.loc[network_name(name, stacks), column] for stacks in (1, 2, 8)]
        axis.plot([1, 2, 8], values, "o-", color=COLOURS[name], label=name.upper())
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set(xticks=[1, 2, 8], xlabel="stacks", title=column)
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_formatter(ScalarFormatter())
axes[0].legend()
figure.savefig(budget.out / "cost.png")

# %% [markdown]
# **Figure:** four prices of the nine networks against the number of stacks, on logarithmic axes: parameters, arithmetic of a forward pass at 256 × 256 px, memory kept per training image, and images per second in training on two CPU cores
# (the more the better). HRU (orange) and New (green) have 3.6 and 4.3 to 4.4 times HG's (blue) parameters, but only 1.6 and 1.7 to 1.8 times its arithmetic. HG with 8 stacks has fewer parameters than New with 2, and needs
# 1.8 times the arithmetic.
#
# ## Controls of equal size
#
# New has more than four times HG's parameters. To learn whether its **ideas** help, one needs a network of the same size without them: HG with more channels. It is one argument.

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.models import PaperResidual, channels_for

channels = channels_for(count_parameters(build_model("new")))
print("channels of an HG as large as New:", channels)
others = {
    "New": build_model("new"),
    "HG widened": build_model("hg", channels=channels),
    "HG with New's upsampling alone": build_model("hg", upsample=TransposedConv),
    "HRU with the paper's branch": build_model("hru", residual=PaperResidual),
}
pd.Series({name: count_parameters(network) for name, network in others.items()}).map("{:,}".format)

# %% [markdown]
# ## Weights from elsewhere
#
# PyTorch-Pose's own `hg` checkpoints hold the same network under other names; `convert.from_pytorch_pose` renames them. A test rebuilds that network by names and shapes, in a few lines, and gets the same heatmaps.
#
# ## Exercises
#
# 1. Build an HRU with **two** batch norms in branch C, and predict the size of its one-stack file. How far off is it?
# 2. How many channels must HG have to need as much **arithmetic** as New with one stack?
# 3. Write an upsampling that repeats pixels and then applies a 3×3 convolution. Build a network with it. How many parameters has it, compared with New?
#
# [Solutions](solutions/03_model_definitions.ipynb)
#
# ## Summary
#
# - Stem, hourglass, heatmaps; and again, with the heatmaps fed back.
# - HG, HRU and New differ in the residual unit and the upsampling, and in nothing else.
# - The sizes of the report's files fix its widths and the number of its batch norms: ours agree within 0.01 %. The order of some layers they cannot tell.
# - New needs 1.7 times HG's arithmetic and has more than four times its parameters: a fair test needs a control.
#
# **Next:** [training one](04_gpu_training.ipynb).
#
# ## References
#
# - Newell, Yang, Deng: *Stacked Hourglass Networks for Human Pose Estimation*, 2016, [arXiv:1603.06937](https://arxiv.org/abs/1603.06937).
# - Chu et al.: *Multi-Context Attention for Human Pose Estimation*, 2017, [arXiv:1702.07432](https://arxiv.org/abs/1702.07432).
# - Xiao, Wu, Wei: *Simple Baselines for Human Pose Estimation and Tracking*, 2018, [arXiv:1804.06208](https://arxiv.org/abs/1804.06208).
# - Dumoulin, Visin: *A Guide to Convolution Arithmetic for Deep Learning*, 2016, [arXiv:1603.07285](https://arxiv.org/abs/1603.07285) (transposed convolutions).
