# %% [markdown]
# # Solutions to notebook 3
#
# The exercises are at the end of [The networks: HG, HRU and New](../03_model_definitions.ipynb).

# %%
import torch
from torch import nn

from hgpose_utils.cost import forward_gflop
from hgpose_utils.models import WideResidual, build_model, checkpoint_bytes, count_parameters
from hgpose_utils.results import read_report_sizes

theirs = read_report_sizes().set_index(["model", "stacks"]).bytes

# %% [markdown]
# ## Exercise 1: two batch norms
#
# The second stands between the convolutions, where the branch has half as many channels.


# %%
class TwoNorms(WideResidual):
    """Branch C with a batch norm before each convolution."""

    def __init__(self, channels_in, channels_out):
        super().__init__(channels_in, channels_out)
        self.c.insert(4, nn.BatchNorm2d(channels_out // 2))


# %%
# NBVAL_CHECK_OUTPUT
for name, parts in [("one norm", {}), ("two norms", {"residual": TwoNorms})]:
    with torch.device("meta"):
        network = build_model("hru", 1, **parts)
    print(f"{name}: {checkpoint_bytes(network) / theirs['hru', 1] - 1:+.3%}")

# %% [markdown]
# Two norms miss by ten times as much as one. The difference is a hundredth of a megabyte per branch, and still it can be seen.
#
# ## Exercise 2: equal arithmetic
#
# Arithmetic grows with the square of the channels, so we search among the even numbers.


# %%
def gflop(channels):
    with torch.device("meta"):
        return forward_gflop(build_model("hg", channels=channels))


with torch.device("meta"):
    wanted = forward_gflop(build_model("new"))
channels = min(range(256, 400, 2), key=lambda c: abs(gflop(c) - wanted))

# %%
# NBVAL_CHECK_OUTPUT
print(f"New: {wanted:.1f} GFLOP; HG with {channels} channels: {gflop(channels):.1f} GFLOP")
with torch.device("meta"):
    print(f"{count_parameters(build_model('hg', channels=channels)):,} parameters")

# %% [markdown]
# The control of equal arithmetic is much smaller than the control of equal parameters: which one is fair depends on what one has to pay for.
#
# ## Exercise 3: repeat, then convolve
#
# Known from generative networks as a cure for the checkerboard: every output pixel gets equally many contributions.


# %%
class RepeatAndConvolve(nn.Sequential):
    """Nearest neighbours, then a 3×3 convolution, batch norm and ReLU."""

    def __init__(self, channels):
        convolution = nn.Conv2d(channels, channels, 3, padding=1)
        super().__init__(nn.Upsample(scale_factor=2), convolution, nn.BatchNorm2d(channels), nn.ReLU())


# %%
# NBVAL_CHECK_OUTPUT
network = build_model("new", upsample=RepeatAndConvolve)
print([tuple(heatmaps.shape) for heatmaps in network(torch.randn(2, 3, 64, 64))])
print(count_parameters(network), "parameters; New has", count_parameters(build_model("new")))
print(f"{forward_gflop(network):.1f} GFLOP; New has {forward_gflop(build_model('new')):.1f}")

# %% [markdown]
# Exactly as many parameters as New: a 3×3 kernel is a 3×3 kernel. But it works at the doubled resolution, so it costs more arithmetic.
