# %% [markdown]
# # 1 · Data: people and their joints
#
# A network that finds joints learns from pictures in which somebody has marked them. Before we build one, we look at
# what it will be shown: most surprises of a project like this one are in the data.
#
# **You will learn** what the 16 joints of MPII are, what an annotation says and what it leaves out, how hard the task is before any network
# has tried it, how a person is cut out of a photo, how the pictures are varied while training, and what the network is really asked to draw: heatmaps.
#
# **Time:** a minute on a laptop's CPU, the same on a GPU.

# %% [markdown]
# First the versions and the budget. Every notebook reads the environment variable `HGPOSE_BUDGET`: `fast` (a test),
# `course` (the default) or `full` (the report's scale, for a GPU). The code is the same.

# %%
import os
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
# dataset of its own: people drawn by a small program, written **exactly as MPII writes its annotations**. A picture may show two people.
#
# All that follows works on MPII and on LSP too, once they are on your disk. One variable changes the dataset: start Jupyter with `HGPOSE_DATA=data/mpii`
# (seen from the repository's top), or write `dataset = "../data/mpii"` below.

# %%
from hgpose_utils.annotations import read_people
from hgpose_utils.budget import ROOT
from hgpose_utils.synthetic import make_dataset

own = os.environ.get("HGPOSE_DATA")
dataset = ROOT / own if own else make_dataset(budget.data, budget.people)
whose = dataset.name if own else "drawn"
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
from hgpose_utils.statistics import people_statistics

seen, lean = people.visible.map(sum), people_statistics(people).lean
clear = people[(lean < 15) & (seen == seen[lean < 15].max())]  # upright, and as many joints in view as possible
example = clear.scale.idxmax()
person = people.loc[example]
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
if not own:  # photos of others stay out of results/
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
# lies outside the picture (grey): knees and ankles are cut off most. Neck and head top are never hidden, here as in MPII, which keeps no flag for them.

# %%
assert np.allclose(share.sum(axis=1), 1)
print(f"{(annotated & ~visible).sum() / annotated.sum():.0%} of the annotated joints are hidden")

# %% [markdown]
# ## How hard is MPII?
#
# MPII's photos may not be passed on, but numbers measured on them may. The tables in `results/statistics/` were made from all of its 25,204 people by
# `hgpose data stats`, so that you can hold any dataset against it: here, ours.
#
# First four questions, asked of each person. How tall are they in pixels? How many of the 16 joints are annotated? (The picture's edge cuts people off.)
# How many are hidden? And how far does the trunk lean from upright? Each curve below reads like a queue of people, sorted: "half of the people are below this value".

# %%
from hgpose_utils.statistics import QUANTILES

mpii_people = pd.read_csv(ROOT / "results/statistics/mpii-people.csv", index_col="quantile")
our_people = people_statistics(people).quantile(QUANTILES)
figure, axes = plt.subplots(1, 4, figsize=(13, 3.2), sharex=True)
for axis, column in zip(axes, mpii_people, strict=True):
    axis.plot(100 * QUANTILES, mpii_people[column], color="#555555", label="MPII")
    axis.plot(100 * QUANTILES, our_people[column], color="#56b4e9", label=whose)
    axis.set(
        xlabel="% of the people",
        title={"height": "height, px", "lean": "lean, degrees"}.get(column, f"joints {column}"),
    )
axes[0].set_yscale("log")
axes[0].legend()
plt.show()

# %% [markdown]
# **Figure:** four sorted queues of people, MPII grey, ours blue. MPII's people are 574 pixels tall in the middle of the queue, the tallest nearly 5,000: hence one crop a person, brought to one size. Two thirds have all 16 joints in the picture;
# one in eight has lost four or more. Half of them have three or more hidden joints. And most stand, sit or walk upright: half lean by less than 7 degrees,
# one in eight by more than 37.

# %%
# NBVAL_CHECK_OUTPUT
mpii_people.loc[[0.125, 0.25, 0.5, 0.75, 0.875]].round(0).astype(int)

# %% [markdown]
# ## Joint by joint
#
# Do our people resemble MPII's where it matters: which joints are hidden, how far they wander, how long the limbs are? Lengths are in units of the person's height.

# %%
from hgpose_utils.statistics import joint_statistics

mpii = pd.read_csv(ROOT / "results/statistics/mpii-joints.csv", index_col="joint")
ours = joint_statistics(people)
figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), sharey=True)
titles = {
    "hidden": "hidden, share of the annotated",
    "y": "vertical spread, in heights",
    "limb": "limb length, in heights",
}
for axis, (column, title) in zip(axes, titles.items(), strict=True):
    axis.barh(np.arange(16) + 0.2, mpii[column], 0.4, color="#555555", label="MPII")
    axis.barh(np.arange(16) - 0.2, ours[column], 0.4, color="#56b4e9", label=whose)
    axis.set(title=title, yticks=range(16), yticklabels=JOINTS)
axes[0].legend()
plt.show()

# %% [markdown]
# **Figure:** for each joint, MPII (grey) and our people (blue): the share that is hidden, how far the joint's height varies around the person's centre, and the median length of the limb that begins at the joint
# (none begins at the top of the head). The drawn people were built to agree: limbs within 3 %, hidden shares within 4 percentage points.
# One line of MPII explains its largest bars: its pelvis is the middle of the hips, its thorax the middle of the shoulders, and each is hidden where either side is.
# (If you brought LSP: it marks neither of the two, has no head boxes, and its athletes hide less.)

# %%
# NBVAL_CHECK_OUTPUT
if budget.name == "course" and whose == "drawn":  # what is said above
    assert (ours.limb / mpii.limb - 1).abs().max() < 0.035 and (ours.hidden - mpii.hidden).abs().max() < 0.045
print(f"MPII: {mpii.hidden.mul(mpii.annotated).sum() / mpii.annotated.sum():.0%} of the annotated joints are hidden")
print(f"most: {', '.join(mpii.hidden.nlargest(4).index)}; never: {', '.join(mpii.index[mpii.hidden == 0])}")

# %% [markdown]
# ## Kinds of poses
#
# *k*-means sorts MPII's complete poses into twelve groups; the middle of each is a typical pose. Below every one stands how many of MPII's people are nearest to it, and how many of ours.

# %%
from hgpose_utils.statistics import nearest_pose, whole_poses

table = pd.read_csv(ROOT / "results/statistics/mpii-poses.csv", index_col=0)
typical = table.drop(columns="share").to_numpy().reshape(-1, 16, 2)
share = np.bincount(nearest_pose(whole_poses(people), typical), minlength=len(typical)) / len(whole_poses(people))

# %%
from hgpose_utils.plots import draw_skeleton

figure, axes = grid(12, 6, size=2)
for axis, pose, theirs, ours_share in zip(axes, typical, table.share, share, strict=True):
    draw_skeleton(axis, pose, width=1.5)
    axis.set(xlim=(-0.6, 0.6), ylim=(0.6, -0.6), aspect="equal")
    axis.set_title(f"MPII {theirs:.0%}, {whose} {ours_share:.0%}", fontsize=9)
plt.show()

# %% [markdown]
# **Figure:** the twelve typical poses of MPII, the most frequent first. Where orange, the person's right, is on the left, the person faces us: so the first three, of whom the third sits; the
# fourth shows the back. Half of MPII's people are nearest to the first three. The last four lie or bend down: 7 % together, and the hardest to learn from so few.

# %% [markdown]
# ## How far does guessing get?
#
# Before a network is praised, ask what a guess would score. **PCK**, the report's measure, is the share of joints that are found to within a twentieth of the person's box. Suppose we put the *mean pose* on everyone, without looking: that is the point at 1 below.
# Then suppose somebody tells us which of *k* typical poses is the nearest, and we put that one.

# %%
from hgpose_utils.statistics import guessing

guesses = {"MPII": ("mpii", "#555555", "o"), "sports photos (LSP Extended)": ("photos", "#cc79a7", "s")}
figure, axis = plt.subplots(figsize=(6.5, 4))
for label, (file, colour, marker) in guesses.items():
    pck = pd.read_csv(ROOT / f"results/statistics/{file}-guessing.csv", index_col="clusters").pck
    axis.plot(pck.index, pck, marker=marker, color=colour, label=label)
axis.plot(guessing(people), "^-", color="#56b4e9", label=whose)
axis.set(xscale="log", xlabel="typical poses to choose from", ylabel="PCK of the guess", ylim=(0, None))
axis.legend()
plt.show()

# %% [markdown]
# **Figure:** the PCK of a guess against the number of typical poses. On MPII the mean pose alone finds 16 % of the joints, and knowing the best of 256 poses 44 %.
# Sports photos are far harder to guess: 4 and 19 %. Keep these in mind when you read a table of results: a network with a PCK of 0.14, which is what the report's HG has
# after its first epoch on MPII, has not yet beaten the mean pose.

# %%
# NBVAL_CHECK_OUTPUT
for file in ("mpii", "photos"):
    pck = pd.read_csv(ROOT / f"results/statistics/{file}-guessing.csv", index_col="clusters").pck
    print(f"{file:7s} mean pose {pck[1]:.3f}, the best of 256 {pck[256]:.3f}")
report = pd.read_csv(ROOT / "results/report/accuracy.csv")
print("the report's HG, 1 stack, epoch 1:", report.query("model == 'hg' and stacks == 1 and epoch == 1").val_pck.item())

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

left, top, side = crops.boxes[example]
figure, (whole, crop) = plt.subplots(1, 2, figsize=(8, 4))
show_person(whole, read_photo(people.image[example]), people.joints[example], width=1.5)
whole.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor="#009e73", linewidth=3, clip_on=False))
inner = (left + side / 6, top + side / 6), side / 1.5, side / 1.5
whole.add_patch(Rectangle(*inner, fill=False, edgecolor="#f0e442", linewidth=3, clip_on=False))
show_person(crop, crops.images([example])[0], crops.joints[example], width=1.5)
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

chosen = np.full(8, example)
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
for way, quarter in [("highest pixel", False), ("and a quarter pixel", True)]:
    error = torch.linalg.vector_norm(decode(maps, quarter)[0] - points, dim=-1)
    print(f"{way:20s} mean error {error.mean():.2f} px of 256")

# %% [markdown]
# Is that much? It depends on the question. **PCKh@0.5** asks for half of a head's size and forgives it; **PCKh@0.1** asks for a tenth. Here is what a network
# that draws every target perfectly would score on our people (LSP has no head boxes, so no PCKh).

# %%
from hgpose_utils.metrics import pckh
from hgpose_utils.predict import true_people

truth, head_size = map(torch.from_numpy, true_people(crops, 256))  # in pixels of the input, without augmentation
maps, weights = encode(truth, size=64)
rows = {}
for way, quarter in [("highest pixel", False), ("and a quarter pixel", True)]:
    read = decode(maps, quarter)[0]
    rows[way] = {f"PCKh@{f}": pckh(read, truth, head_size, weights, fraction=f) for f in (0.5, 0.1, 0.05)}
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# The grid costs nothing at PCKh@0.5, and next to nothing at PCKh@0.1. Ask for a twentieth of a head, and without the quarter pixel half of the joints of a perfect network are missed.

# %%
if whose == "drawn":
    perfect = pd.DataFrame(rows).T
    assert perfect["PCKh@0.5"].min() > 0.99 and perfect["PCKh@0.1"].min() > 0.97
    assert perfect["PCKh@0.05"].iloc[0] < 0.7 < 0.95 < perfect["PCKh@0.05"].iloc[1]

# %% [markdown]
# ## Exercises
#
# 1. PyTorch-Pose does not train on hidden joints. Which joints would lose most of their examples?
# 2. A joint that the augmentation pushes out of the input has no target. What share of them is lost? Which is to blame, rotation or zoom? Why not zero even without any augmentation?
# 3. Our heatmaps have a quarter of the input's resolution. What would the grid cost at an eighth, and what at a half? Write your own `decode` for a stride, and predict the mean error before you measure it.
#
# [Solutions](solutions/01_data_exploration.ipynb)
#
# ## Summary
#
# - A person is a picture, a centre, a scale and 16 joints, some hidden and some not annotated.
# - On MPII the mean pose scores a PCK of 0.16 without looking at the picture: the number that a network has to beat first.
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
