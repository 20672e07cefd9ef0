# %% [markdown]
# # 2 · The residual unit, and how far it sees
#
# An hourglass (a network that shrinks a picture to a few pixels and grows it back; notebook 3 builds it) is made of one part, repeated 13 times per hourglass,
# 115 times in the report's largest network: the residual unit. The report's first idea is to let this part see further. Whether that can help depends on a
# quantity that we can compute **and** measure: the receptive field.
#
# **You will learn** what the branches A and B of the residual unit do, what branch C adds in the hourglass residual unit
# (HRU), how to find the field of any path through a network in three ways, and why a large field is not the same as a large view.
#
# **Time:** under a minute, on a CPU as on a GPU.

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
# ## The residual unit: A + B
#
# Branch A hands the input on unchanged (where the number of channels changes, by a 1×1 convolution), so that the unit only has to learn a **correction**, and
# gradients find a free way through. Branch B computes that correction cheaply: a 1×1 convolution to half the channels, a 3×3 convolution there, and a
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

# %%
from hgpose_utils.diagrams import draw_unit

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.8), width_ratios=[2, 3])
draw_unit(left, Residual(256, 256), "residual unit")
draw_unit(right, WideResidual(256, 256), "hourglass residual unit")
figure.savefig(budget.out / "residual_units.png")

# %% [markdown]
# **Figure:** both units, drawn from the modules themselves. The input enters each branch at the top, the branches' results are added at the bottom. A passes the
# input on; B squeezes it to 128 channels around its 3×3 convolution; C works at half the resolution.
#
# Both take and give the same shapes: one can replace the other anywhere. C is not free, though: it has nearly three times B's parameters. Remember this for notebook 5.

# %%
# NBVAL_CHECK_OUTPUT
unit = WideResidual(256, 256)
print("shape", tuple(unit(torch.randn(1, 256, 64, 64)).shape))
for name in "abc":
    print(f"branch {name.upper()}: {sum(p.numel() for p in getattr(unit, name).parameters()):7,} parameters")

# %% [markdown]
# ## First way: arithmetic
#
# The receptive field of an output pixel is the set of input pixels that can change it. Two numbers are enough to follow it
# through a chain of layers: the `field` $r$ and the `jump` $j$, the distance in input pixels between two neighbours in the present layer.
# A layer that looks at $k$ neighbours with stride $s$ does
#
# $$ r \leftarrow r + (k - 1)\,j, \qquad j \leftarrow s\,j . $$
#
# Doubling the resolution is a stride of ½: the jump halves, the field stays.

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.receptive_field import theoretical_field, trace_field

trace_field(unit.c)

# %% [markdown]
# Read it from the top. The max-pool sees 2 pixels, and from then on a step is two pixels long: each 3×3 convolution adds 4
# where it would have added 2. Doubling by repetition adds nothing. That is the report's 10 × 10.
#
# ## Second way: poison
#
# Arithmetic can be wrong, and code can differ from the drawing. So we ask the module itself. Not-a-number is a perfect dye: whatever it touches becomes NaN,
# even when multiplied by zero. We poison the input from one edge, ever further, until the output pixel turns NaN. Two things need care. A max-pool must let NaN win (PyTorch's does). And
# batch norm must be in evaluation mode: while training, it mixes every pixel with every other, and the field is the whole batch.

# %%
from hgpose_utils.receptive_field import probed_field

show_source(probed_field)

# %% [markdown]
# ## Third way: gradients
#
# Which input pixels **move** one output pixel? Those with a gradient that is not zero. A max-pool passes the gradient to one of its four pixels only, so we average over
# many random inputs. This tells more than a yes or no: it tells how much.

# %%
from hgpose_utils.receptive_field import gradient_map, measured_field, random_inputs

show_source(gradient_map)

# %%
# NBVAL_CHECK_OUTPUT
small = WideResidual(16, 16)
branches = {"A": small.a, "B": small.b, "C": small.c}
ways = {"computed": theoretical_field}
ways |= {"probed": lambda path: probed_field(path, channels=16, size=32)}
ways |= {"by gradient": lambda path: measured_field(path, channels=16, size=32)}
table = pd.DataFrame({way: {name: find(path) for name, path in branches.items()} for way, find in ways.items()})
assert (table == pd.DataFrame({way: [1, 3, 10] for way in ways}, index=list("ABC"))).all(axis=None)
table.rename_axis("branch")

# %%
from matplotlib.colors import PowerNorm

inputs = random_inputs(channels=16, size=32)
figure, axes = plt.subplots(1, 4, figsize=(11, 3))
for axis, (name, path) in zip(axes, (branches | {"A + B + C": small}).items(), strict=True):
    axis.imshow(gradient_map(path, inputs)[6:26, 6:26], norm=PowerNorm(0.3))
    axis.set_title(name)
    axis.axis("off")
figure.savefig(budget.out / "receptive_fields.png")

# %% [markdown]
# **Figure:** the 20 × 20 input pixels around one output pixel, for each branch and for the whole unit; bright pixels move it strongly, black ones not at all. Each
# panel has its own scale, a power scale that lifts the faint ones into view. A is a single pixel, B a 3×3 square, C a 10×10 square that is brightest in the
# middle. In the whole unit one pixel, A's, outshines the rest; C adds a wide, faint surround.
#
# The square of C is **not centred** on its output: the max-pool works on a fixed grid of 2×2 cells, so an output at an even position sees
# 4 pixels before it and 5 after it, and one at an odd position the other way round.
#
# ## Try it
#
# Choose a unit, a branch, and a place (the arrow keys move a slider, too). The cross is one output pixel; the bright pixels are the input pixels that were measured to move it;
# the blue frame is what arithmetic gives, walking back from the output through the layers. The picture below it only shows how much of a person that is: the unit sees a map of 32 × 32 pixels.

# %%
from hgpose_utils.crops import read_photo
from hgpose_utils.models import Hourglass
from hgpose_utils.synthetic import render_person
from hgpose_utils.widgets import ReceptiveFieldExplorer

person, _ = render_person(seed=2)
units = {"residual": Residual(16, 16), "hourglass": Hourglass(1, 16), "wide residual": WideResidual(16, 16)}
explorer = ReceptiveFieldExplorer(units, channels=16, picture=read_photo(person))
explorer.controls["branch"].value = "C"
explorer

# %% [markdown]
# **Figure:** the explorer at branch C of the wide unit: a frame of 10 × 10 pixels over a drawn person, filled exactly by the measured field.
#
# A test: another branch, and another place, must change the picture. Move x by one: the frame stays where it is, or jumps by two pixels.

# %%
before = bytes(explorer.image.value)
explorer.controls["x"].value += 1
assert bytes(explorer.image.value) != before, "the picture did not answer"
explorer.controls["branch"].value = "B"
assert "sees 3 × 3 pixels" in explorer.caption.value
explorer.controls["branch"].value = "C"

# %% [markdown]
# ## A whole hourglass
#
# A wider unit sounds like a good thing. But an hourglass already halves the resolution four times, and so it sees far whatever its units do: at its lowest resolution, one step is 16
# of its input pixels. Here is the longest way through hourglasses of one to four halvings, computed and probed (with 4 channels; their number does not change the field).

# %%
# NBVAL_CHECK_OUTPUT
rows = []
for residual in (Residual, WideResidual):
    for depth in (1, 2, 3, 4):
        hourglass = Hourglass(depth, 4, residual)
        rows.append((residual.__name__, depth, theoretical_field(hourglass), probed_field(hourglass, 4, size=768)))
pd.DataFrame(rows, columns=["unit", "halvings", "computed", "probed"])

# %% [markdown]
# Here arithmetic and poison part for the first time, and poison is right. Behind a doubling, two neighbouring pixels may come from the same pixel below, so a 3×3
# convolution there reaches one step less far than the recurrence believes. **The recurrence is an upper bound** as soon as something follows an upsampling.
#
# ## One, two, eight stacks
#
# And the report's networks, from the picture's pixels to the last stack's heatmap, by the recurrence:

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.models import VARIANTS, build_model

fields = {name: [theoretical_field(build_model(name, stacks, channels=8)) for stacks in (1, 2, 8)] for name in VARIANTS}
pd.DataFrame(fields, index=pd.Index([1, 2, 8], name="stacks"))

# %% [markdown]
# The picture has 256 pixels. **Even the smallest network, HG with one stack, has a field of up to 705 pixels:** in theory there is nothing left to see. HRU's field is four times as
# large, and it cannot matter at the bottom of the hourglass. If a wider unit helps, then for another reason: because of what is *looked at*, not of what could be
# seen; or at the high resolutions, where the fields are still small; or simply because it has more parameters.
#
# ## What is really looked at
#
# Luo et al. (2016) found that most of a large field hardly matters: the gradient is concentrated in the middle. So we take the gradient of the middle heatmap pixel
# with respect to the picture, and ask which share of it lies within a square around that place. First, networks with random weights, on noise.

# %%
from hgpose_utils.receptive_field import effective_field, influence

size = 64 if budget.name == "fast" else 128
curves = {}
for name in VARIANTS:
    torch.manual_seed(0)
    gradient = gradient_map(build_model(name), random_inputs(3, size, samples=4))
    curves[name] = influence(gradient)
    print(f"{name}: 95 % of the gradient lie within {effective_field(gradient)} of {size} px")

# %% [markdown]
# Then the networks that we trained on 2,000 photos ([notebook 5](05_results.ipynb)), on 64 photos of people that they had not seen. These curves were measured once and are read from `results/effective_field/`
# (`hgpose field` makes them).

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.budget import ROOT

files = {name: ROOT / f"results/effective_field/photos-128-{name}-s1.csv" for name in VARIANTS}
trained = {name: pd.read_csv(file, index_col="side") for name, file in files.items()}
half = {name: [int((table[state] < 0.5).sum()) * 2 + 1 for state in table] for name, table in trained.items()}
pd.DataFrame(half, index=["random weights", "trained"]).rename_axis(index="half of the gradient lies within, px")

# %%
figure, axis = plt.subplots(figsize=(7, 4))
for name, table in trained.items():
    axis.plot(table.index, table["random"], ":", color=COLOURS[name])
    axis.plot(table.index, table["trained"], color=COLOURS[name], label=name.upper())
axis.plot(table.index, (table.index / 128) ** 2, color="#bbbbbb", label="everywhere alike")
axis.set(xlabel="side of the square around the output, in pixels of 128", ylabel="share of the gradient inside")
axis.legend(title="solid: trained, dotted: random")
figure.savefig(budget.out / "effective_fields.png")

# %% [markdown]
# **Figure:** the share of the gradient that lies within a square around the output pixel, against the square's side, for HG (blue), HRU (orange) and New (green); dotted with random weights, solid
# after training on photos (each in its best epoch); grey, a network that looks everywhere alike. A curve that rises early belongs to a network that looks near its output only; New's do, with and without training.
# Training makes HG look further than at random, and New much further.
#
# The surprise: after training, half of HG's gradient lies within 57 pixels, half of HRU's within 55, and half of New's within 43. **The network with the smallest theoretical field looks
# as far as any.** The wide unit enlarges what *can* be seen, and 15 epochs of training made no more use of it (one seed each: an observation, not a law). In notebook 5 New is the best of the three, so it is
# hardly because it looks further. This is where the report's argument, "a larger receptive field, therefore a better model", needs more than arithmetic.
#
# ## Exercises
#
# 1. Put a third 3×3 convolution into branch C. Predict its field before you compute it.
# 2. Replace the max-pool by dilated convolutions (`dilation=2`). Which field do you get, and does every pixel inside it count?
# 3. Put a unit into training mode and poison a single pixel. How much of the output turns NaN, and why?
#
# [Solutions](solutions/02_hru_receptive_field.ipynb)
#
# ## Summary
#
# - A residual unit hands its input on (A) and adds a correction (B); the HRU adds a second, wider one (C).
# - Their fields are 1, 3 and 10 pixels: by the recurrence, by poison and by gradient. Behind an upsampling the recurrence is an upper bound.
# - Every one of the nine networks has a field larger than the picture. A field's size says what *can* be seen, not what *is* looked at.
#
# **Next:** [the networks](03_model_definitions.ipynb).
#
# ## References
#
# - He, Zhang, Ren, Sun: *Identity Mappings in Deep Residual Networks*, 2016, [arXiv:1603.05027](https://arxiv.org/abs/1603.05027).
# - Chu et al.: *Multi-Context Attention for Human Pose Estimation*, 2017, [arXiv:1702.07432](https://arxiv.org/abs/1702.07432) (the HRU).
# - Dumoulin, Visin: *A Guide to Convolution Arithmetic for Deep Learning*, 2016, [arXiv:1603.07285](https://arxiv.org/abs/1603.07285).
# - Araujo, Norris, Sim: *Computing Receptive Fields of Convolutional Neural Networks*, Distill, 2019.
# - Luo, Li, Urtasun, Zemel: *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks*, 2016, [arXiv:1701.04128](https://arxiv.org/abs/1701.04128).
