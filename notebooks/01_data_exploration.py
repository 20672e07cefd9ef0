# %% [markdown]
# # 1 · Data: people and their joints
#
# A network that finds joints learns from pictures in which somebody has marked them. Before we build one, we look at
# what it will be shown: most surprises of a project like this one are in the data.
#
# **You will learn** what the 16 joints of MPII are, what an annotation says and what it leaves out, how a person is cut
# out of a photo, how the pictures are varied while training, and what the network is really asked to draw: heatmaps.
#
# **Time:** half a minute on a laptop's CPU, the same on a GPU.

# %% [markdown]
# First the versions and the budget. Every notebook reads the environment variable `HGPOSE_BUDGET`: `fast` (a test),
# `course` (the default) or `full` (the report's scale, for a GPU). The code is the same.

# %%
import platform

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from hgpose_utils.budget import read_budget
from hgpose_utils.plots import grid, show_heatmap, show_person, use_style

budget = read_budget()
budget.out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
use_style()
print(f"Python {platform.python_version()}, torch {torch.__version__}, budget {budget.name}, seed 0")

# %% [markdown]
# ## The people
#
# The report trains on [MPII Human Pose](http://human-pose.mpi-inf.mpg.de): 25,000 photos of everyday activities, 12 GB,
# to be downloaded by each reader (`data/README.md` says how). So that everything runs at once, this course brings a
# dataset of its own: people drawn by a small program, written **exactly as MPII writes its annotations**. What we do here
# with drawn people works on MPII too: write `dataset = "../data/mpii"` in the next cell. A picture may show two people.

# %%
from hgpose_utils.annotations import read_people
from hgpose_utils.synthetic import make_dataset

dataset = make_dataset(budget.data, budget.people)
people = read_people(dataset)
print(
    f"{len(people)} people: {(people.split == 'train').sum()} to train on, {(people.split == 'val').sum()} to validate"
)

# %% [markdown]
# One row is one person. `center` is a point on the torso, `scale` the person's height in units of 200 pixels;
# `joints` holds 16 points, `visible` tells which of them can be seen.

# %%
# NBVAL_CHECK_OUTPUT
{name: np.shape(people[name][0]) for name in ["center", "scale", "head_size", "joints", "visible"]}

# %% [markdown]
# ## The 16 joints
#
# Their order is MPII's. "Left" is **the person's own left**, not the picture's: someone who faces you has the left hand on
# the right of the picture. A mirrored picture therefore needs its joints renamed, and `mirrored` below says to what.

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.skeleton import FLIP, JOINTS

pd.DataFrame({"joint": JOINTS, "mirrored": [JOINTS[i] for i in FLIP]})

# %%
from hgpose_utils.crops import read_photo

person = people.iloc[people.visible.map(sum).argmax()]  # someone with all joints in view
label = {"facecolor": "black", "alpha": 0.4, "pad": 1, "linewidth": 0}
figure, axis = plt.subplots(figsize=(6, 6))
show_person(axis, read_photo(person.image), person.joints, person.visible, width=3)
for name, (x, y) in zip(JOINTS, person.joints, strict=True):
    axis.annotate(name, (x, y), (6, 0), textcoords="offset points", color="white", va="center", bbox=label)
(x, y), half = person.center, 120 * person.scale
axis.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
axis.axis("off")
plt.show()

# %% [markdown]
# **Figure:** one person with all joints named. Orange limbs are the person's right side, blue ones the left, grey the
# middle; a filled dot is a joint that can be seen, a ring one that is hidden.
#
# ## A dozen people
#
# Look at many examples before trusting any statistic. Which of them would *you* find hard?

# %%
figure, axes = grid(12, 4, size=2.8)
for axis, (_, person) in zip(axes, people.drop_duplicates("image").iloc[:12].iterrows(), strict=True):
    show_person(axis, read_photo(person.image), person.joints, person.visible, width=1.5)
figure.savefig(budget.out / "people.png", dpi=60)
plt.show()

# %% [markdown]
# **Figure:** twelve people with their skeletons: large and small, from the front and from behind (the colours change sides), cut off by the frame,
# behind other things (rings instead of dots).
#
# ## What is hidden
#
# A hidden joint is still annotated: in MPII by a careful guess (people know where a knee behind a table must be), in drawn people exactly. We train on
# hidden joints and count them in the score. (PyTorch-Pose, the code that the report started from, does not train on them.)

# %%
annotated = ~np.isnan(np.stack(people.joints)).any(-1)
visible = np.stack(people.visible)
share = pd.DataFrame(
    {"seen": visible.mean(0), "hidden": (annotated & ~visible).mean(0), "not annotated": (~annotated).mean(0)},
    index=JOINTS,
)
axis = share.plot.barh(stacked=True, color=["#009e73", "#e69f00", "#bbbbbb"], figsize=(7, 4.5), width=0.8)
axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=3, frameon=False)
axis.set(xlabel="share of the people")
plt.show()

# %% [markdown]
# **Figure:** for each joint, the share of people in whom it is seen (green), hidden (orange) or not annotated because it
# lies outside the picture (grey). In MPII 23 % of the annotated joints are hidden: pelvis and thorax most (44 and 43 %), then hips and ankles.
# Neck and head top are never hidden, here as there: MPII keeps no flag for them.

# %%
assert np.allclose(share.sum(axis=1), 1)
print(f"{(annotated & ~visible).sum() / annotated.sum():.0%} of the annotated joints are hidden")

# %% [markdown]
# ## How large, and where
#
# `scale` times 200 is the person's height in pixels. It varies from picture to picture, which is why people are cut out and
# brought to one size first.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
left.hist(people.scale * 200, bins=40, color="#0072b2")
left.set(xlabel="height of the person in pixels", ylabel="people")
height = (people.scale * 200).to_numpy()[:, None, None]
x, y = ((np.stack(people.joints) - np.stack(people.center)[:, None]) / height).reshape(-1, 2).T
right.hist2d(x[~np.isnan(x)], y[~np.isnan(y)], bins=60, range=[[-0.8, 0.8], [-0.8, 0.8]], cmap="magma")
right.set(xlabel="right of the centre, in heights", ylabel="below the centre, in heights", aspect="equal")
right.invert_yaxis()
plt.show()

# %% [markdown]
# **Figure:** left, how tall the people are in pixels. Right, where joints lie around a person's centre, in units of the
# person's height; bright is frequent. It shows what a network could guess without looking at the
# picture: the head is above, the feet are below.
#
# ## Drawn people beside real ones
#
# How close are the drawn people to MPII's? Its annotations of 25,204 people, without the photos, were measured once (`hgpose data stats`); the table is in `results/statistics/`.
# Limbs are medians, in units of the person's height.

# %%
from hgpose_utils.annotations import joint_statistics
from hgpose_utils.budget import ROOT

mpii = pd.read_csv(ROOT / "results/statistics/mpii.csv", index_col="joint")
drawn = joint_statistics(people)
figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), sharey=True)
titles = {
    "hidden": "hidden, share of the annotated",
    "y": "vertical spread, in heights",
    "limb": "limb length, in heights",
}
for axis, (column, title) in zip(axes, titles.items(), strict=True):
    axis.barh(np.arange(16) + 0.2, mpii[column], 0.4, color="#555555", label="MPII")
    axis.barh(np.arange(16) - 0.2, drawn[column], 0.4, color="#56b4e9", label="drawn")
    axis.set(title=title, yticks=range(16), yticklabels=JOINTS)
axes[0].legend()
plt.show()

# %% [markdown]
# **Figure:** for each joint, MPII (grey) and the drawn people (blue): the share that is hidden, how far the joint's height varies around the person's centre, and the median length of the limb that begins at the joint
# (none begins at the top of the head). Arms, legs and trunk
# agree within 7 %; drawn hips, shoulders and heads are 12 to 21 % too small. Visibility differs most: MPII's annotators call the pelvis and the thorax hidden in 44 and 43 % of the people, our program in 12 and 25 %,
# and drawn ankles are hidden less than half as often as real ones. Real people's legs vary more in height, too: they crouch and climb more.

# %%
# NBVAL_CHECK_OUTPUT
print(f"MPII: {mpii.hidden.mul(mpii.annotated).sum() / mpii.annotated.sum():.0%} of the annotated joints are hidden")
if budget.name == "course":  # what is said above of the drawn people
    ratio = (drawn.limb / mpii.limb).dropna()
    small = ["r_hip", "l_hip", "r_shoulder", "l_shoulder", "upper_neck"]
    assert ratio[small].between(0.78, 0.89).all() and ratio.drop(small).between(0.93, 1.07).all()
print(f"most: {', '.join(mpii.hidden.nlargest(4).index)}; never: {', '.join(mpii.index[mpii.hidden == 0])}")

# %% [markdown]
# ## From photo to crop
#
# Each person is cut out once, as a square around `center` (a little below it, as everybody does with MPII, so that the feet fit in) with a side
# proportional to `scale`, and kept. The crop is
# 1.5 times as wide as what the network will see: room for most rotations and zooms.

# %%
from hgpose_utils.crops import make_crops

crops = make_crops(dataset, size=256, progress=False)
print(f"{len(crops)} crops of {crops.side} × {crops.side} px")

# %%
from matplotlib.patches import Rectangle

tallest = people.scale.argmax()
left, top, side = crops.boxes[tallest]
figure, (whole, crop) = plt.subplots(1, 2, figsize=(8, 4))
show_person(whole, read_photo(people.image[tallest]), people.joints[tallest], width=1.5)
whole.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor="#009e73", linewidth=3, clip_on=False))
inner = (left + side / 6, top + side / 6), side / 1.5, side / 1.5
whole.add_patch(Rectangle(*inner, fill=False, edgecolor="#f0e442", linewidth=3, clip_on=False))
show_person(crop, crops.images([tallest])[0], crops.joints[tallest], width=1.5)
for axis in (whole, crop):
    axis.axis("off")
plt.show()

# %% [markdown]
# **Figure:** left, a picture with the square that is cut out (green) and the part of it that the network will see without any rotation or zoom
# (yellow); right, the crop, black where the green square leaves the picture.

# %% [markdown]
# Going to the crop and back must return every joint; what is left is rounding. (That the crop shows the right pixels, the next figures
# show.)

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.crops import crop_to_photo

back = crop_to_photo(crops.joints, crops.boxes[:, None], crops.side)
error = np.nanmax(np.abs(back - np.stack(crops.people.joints)))
print("moved by less than a thousandth of a pixel:", error < 1e-3)

# %% [markdown]
# ## Augmentation: the same person, eight times
#
# While training, each person is shown rotated by up to ±30°, scaled by 0.75 to 1.25, mirrored half of the time, and with
# each colour channel made stronger or weaker, differently in every epoch. The network must not learn that people stand upright in
# the middle. The two ranges are the report's, and we draw from them
# uniformly. Mirroring and colour are PyTorch-Pose's; the report does not mention them. (PyTorch-Pose itself draws from a clipped normal distribution,
# and rotates only six times out of ten.)

# %%
from hgpose_utils.augment import draw_jitter, no_jitter, warp

chosen = np.full(8, tallest)
images, joints = crops.images(chosen), torch.from_numpy(crops.joints[chosen]).float()
plain = warp(images[:1], joints[:1], no_jitter(1), 256)
varied = warp(images, joints, draw_jitter(8, seed=0, epoch=1), 256)

# %%
figure, axes = grid(9, 9, size=1.9)
show_person(axes[0], plain[0][0], plain[1][0], title="as it is")
for axis, image, points in zip(axes[1:], *varied, strict=True):
    show_person(axis, image, points)
plt.show()

# %% [markdown]
# **Figure:** one person as it is, then in eight variations. The skeleton turns and grows with the picture, and in a mirrored
# picture orange is still the person's right: the joints were renamed. Black is where the photo ends, or the crop.
#
# Do the numbers keep their promise? Over 100,000 people:

# %%
# NBVAL_CHECK_OUTPUT
jitter = draw_jitter(100_000, seed=0, epoch=1)
print(f"rotation {np.rad2deg(jitter.angle).min():.1f}° to {np.rad2deg(jitter.angle).max():.1f}°")
print(f"scale    {jitter.scale.min():.2f} to {jitter.scale.max():.2f}")
print(f"mirrored {jitter.flip.mean():.2f}")

# %% [markdown]
# ## What the network is asked to draw
#
# Not coordinates: a **heatmap** for every joint, 64 × 64 pixels for an input of 256 × 256, with a Gaussian of one pixel's
# standard deviation where the joint is. A map can say "here, or perhaps there", which two numbers
# cannot. And a blob, rather than a single pixel, makes a near miss cost less than a far one.

# %%
from hgpose_utils.heatmaps import decode, encode

targets, weights = encode(plain[1], size=64)
print(tuple(targets.shape), "one map per joint;", int(weights.sum()), "of 16 joints have a target")

# %%
figure, axes = grid(16, 8, size=1.6)
for axis, name, heatmap in zip(axes, JOINTS, targets[0], strict=True):
    show_heatmap(axis, plain[0][0], heatmap, name, top=1)
plt.show()

# %% [markdown]
# **Figure:** the 16 target heatmaps of one person, each laid over the picture in grey. A target is zero (transparent here) but for one small spot at its joint.
#
# Close up, the Gaussian of a joint that lies exactly on a heatmap pixel. One pixel from the centre it has fallen to
# $e^{-1/2} \approx 0.61$.

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.heatmaps import to_input_pixels

at = to_input_pixels(torch.tensor([[[32.0, 32.0]]]))
close_up = encode(at, size=64)[0][0, 0, 30:35, 30:35]
pd.DataFrame(close_up.numpy()).round(2)

# %% [markdown]
# ## And back: what the grid costs
#
# Reading a joint off a heatmap means taking its highest pixel, and a heatmap pixel is four input pixels wide. Even a perfect
# network is off by up to 2 pixels on each axis. Moving the point a quarter pixel towards the higher neighbour, as the
# hourglass paper does, halves the error.

# %%
# NBVAL_CHECK_OUTPUT
points = torch.rand(1000, 16, 2, generator=torch.Generator().manual_seed(0)) * 240 + 8
maps, _ = encode(points, size=64)
for name, quarter in [("highest pixel", False), ("and a quarter pixel", True)]:
    error = torch.linalg.vector_norm(decode(maps, quarter)[0] - points, dim=-1)
    print(f"{name:20s} mean error {error.mean():.2f} px of 256")

# %% [markdown]
# ## Summary
#
# - A person is a picture, a centre, a scale and 16 joints, some hidden and some not annotated.
# - Everyone is cut out once, with room to spare; rotation, scale, mirroring and colour are applied anew in every epoch.
# - The network learns to draw one heatmap a joint, and the grid alone costs 1.5 pixels of 256, or half of that with a quarter-pixel shift.
#
# **Next:** [the residual unit and what it can see](02_hru_receptive_field.ipynb).
#
# ## References
#
# - Andriluka, Pishchulin, Gehler, Schiele: *2D Human Pose Estimation: New Benchmark and State of the Art Analysis*, CVPR 2014 (MPII).
# - Newell, Yang, Deng: *Stacked Hourglass Networks for Human Pose Estimation*, 2016, [arXiv:1603.06937](https://arxiv.org/abs/1603.06937).
# - Brami, Chen: *Human Pose Estimation*, course report, CS236605 (Technion).
# - PyTorch-Pose, <https://github.com/bearpaw/pytorch-pose>: the code that the report started from.
