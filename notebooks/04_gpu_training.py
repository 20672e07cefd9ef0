# %% [markdown]
# # 4 · Training
#
# We have the data and the networks. Now we train one, on whatever this machine has: the loop is the same on a laptop's CPU and on a GPU.
#
# **You will learn** what the loss compares, why RMSProp, what one epoch does line by line, how to read a training curve,
# what the first and the last stack of a trained network draw, and whether intermediate supervision matters.
#
# **Time:** at the `course` budget about 9 minutes on two CPU cores that compute in bfloat16 (16-bit numbers, which newer processors multiply faster), two to three times as long
# on others; less on a GPU.

# %%
import platform

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from hgpose_utils.budget import read_budget
from hgpose_utils.plots import grid, show_heatmap, show_person, show_source, use_style

budget = read_budget()
torch.manual_seed(0)
use_style()
print(f"Python {platform.python_version()}, torch {torch.__version__}, budget {budget.name}, seed 0")

# %% [markdown]
# ## The recipe
#
# Everything that decides the result is in one place, so that it can be written down beside the result.

# %%
from hgpose_utils.runs import Recipe

recipe = Recipe("hg", budget.stacks, budget.epochs, budget.batch_size, size=budget.size)
recipe

# %% [markdown]
# Why RMSProp, as in the report? The targets are nearly all zero, so gradients are tiny. RMSProp divides each gradient by its own running size, and the length of a step no longer
# depends on that.
#
# The learning rate is not the report's. It says 0.25. But after that division **every weight moves by about the learning rate at every step**, and
# by ten times that at the first. Weights here are a few hundredths: 0.25 destroys them at once. The code that the report started from has 2.5e-4, and so have we.

# %%
# NBVAL_CHECK_OUTPUT
weight = torch.nn.Parameter(torch.tensor([0.03]))
optimizer = torch.optim.RMSprop([weight], lr=0.25)
(1e-3 * weight).sum().backward()  # a small gradient
optimizer.step()
print(f"0.03 became {weight.item():.2f}")

# %% [markdown]
# ## The loss
#
# Mean squared error between the heatmaps drawn and the heatmaps wanted, for the joints that are annotated, **summed over the stacks**: intermediate supervision
# is this one sum.

# %%
from hgpose_utils.train import heatmap_loss

show_source(heatmap_loss)

# %% [markdown]
# A heatmap is nearly all black, so drawing nothing at all is already a small error. This is where a network that has learnt nothing
# ends up, and the loss is a poor judge near it: on 2,000 photos our HG's validation loss stayed above it for five epochs while its PCK rose from 0.03 to 0.10. So we watch the PCK, and the
# `peak`: the mean height of the heatmaps drawn.

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.heatmaps import encode

targets, weights = encode(torch.full((1, 16, 2), 128.0), size=64)
nothing = torch.zeros_like(targets)
nothing_costs = float(heatmap_loss([nothing], targets, weights))
print(f"loss of drawing nothing, one stack: {nothing_costs:.5f}")
print(f"the same with two stacks:           {heatmap_loss([nothing] * 2, targets, weights):.5f}")

# %% [markdown]
# ## The loop
#
# One epoch shows every person once (but for a last, incomplete batch), in random order. `batches` makes images and target heatmaps as in
# [notebook 1](01_data_exploration.ipynb); then follow the lines that every PyTorch training has: heatmaps, loss, gradients, step. Lightning's *Fabric* only
# chooses the device and the arithmetic, and shares the work when there are several devices.

# %%
from hgpose_utils.train import train_epoch

show_source(train_epoch)

# %% [markdown]
# Validation shows people as they are, and counts. **PCK**, the percentage of correct keypoints, is the share of joints that are found close enough. The report's PCK counts ten joints (ankles,
# knees, hips, wrists, elbows), and "close enough" is a twentieth of the picture's side. It is not PCKh, which the literature reports on MPII. Found joints and annotated joints are added up over all batches and divided **once**:
# averaging the batches' percentages instead, as is often done, gives a number that depends on the batch size.

# %%
from hgpose_utils.train import validate

show_source(validate)

# %% [markdown]
# ## Training
#
# At the `course` budget: HG with 2 stacks, 1,300 drawn people at 128 × 128 px, 8 epochs, **about 6 minutes** on two cores. Expect the loss to end below half of the first epoch's, and
# the PCK **between 0.2 and 0.6**. If you stop the cell and run it again, it goes on after the last complete epoch; even if the computer crashes, the numbers come out the same.
# (A bar shows how far an epoch has come; it leaves nothing behind.)

# %%
from hgpose_utils.crops import make_crops
from hgpose_utils.runs import dataset_name, run_folder
from hgpose_utils.synthetic import make_dataset
from hgpose_utils.train import make_fabric, train

dataset = make_dataset(budget.data, budget.people)
crops = make_crops(dataset, budget.size, progress=False)
name = dataset_name([dataset], budget.size)
folder = run_folder(budget.out / "runs", name, recipe)
fabric = make_fabric()
print(f"{len(crops.split('train'))} people to train on, on {fabric.device.type}, {fabric._precision.precision}")

# %% [markdown]
# First the promise about the learning rate: the same small network, the same 30 batches, once with 0.25 and once with 2.5e-4. A few seconds.

# %%
from hgpose_utils.augment import no_jitter, warp
from hgpose_utils.models import build_model
from hgpose_utils.train import batches

losses = {}
for learning_rate in (0.25, 2.5e-4):
    torch.manual_seed(0)
    network = build_model("hg", channels=32)
    optimizer = torch.optim.RMSprop(network.parameters(), learning_rate)
    order = np.arange(30 * budget.batch_size) % len(crops)
    trace = []
    for images, _, targets, weights in batches(crops, no_jitter(len(crops)), order, recipe, "cpu"):
        optimizer.zero_grad()
        loss = heatmap_loss(network(images), targets, weights)
        loss.backward()
        optimizer.step()
        trace.append(loss.item())
    losses[learning_rate] = trace
    print(f"{learning_rate:g}: loss {trace[0]:.2g} at first, {max(trace):.2g} at worst, {trace[-1]:.2g} after 30 steps")
assert max(losses[0.25]) > 100 * losses[0.25][0] and max(losses[2.5e-4]) < 2 * losses[2.5e-4][0]

# %% [markdown]
# At 0.25 the first steps blow the loss up several thousand times. Batch norm and RMSProp bring it down again, towards drawing nothing: the loss looks harmless then, but what the network knew is gone, and each further step is
# as wild. Does it learn in the long run? Here are 750 steps of each, three epochs of 2,000 real photos, from the runs that come with the course ([notebook 5](05_results.ipynb) says more about them).

# %%
# NBVAL_CHECK_OUTPUT
from hgpose_utils.results import read_runs

runs = read_runs().query("dataset == 'photos-128' and model == 'hg' and stacks == 1 and channels == 256 and epoch <= 3")
runs.query("seed == 0").pivot(index="epoch", columns="network", values=["val_loss", "pck", "peak"]).round(4)

# %% [markdown]
# No: after three epochs at 0.25 the PCK is 0.013, which is chance, and the validation loss six times that of 2.5e-4, whose PCK has risen each epoch.
#
# Now the training itself. After each epoch, we let the network draw the heatmaps of eight people that it never trains on, and keep them.

# %%
from hgpose_utils.predict import PosePredictor

unseen = crops.split("val")
eight = unseen.take(np.flatnonzero(~np.isnan(unseen.joints).any((1, 2)))[:8])  # with all joints in the picture
images, truth = warp(eight.images(range(8)), torch.from_numpy(eight.joints).float(), no_jitter(8), budget.size)
drawn = []


def keep(line):
    print(line)
    drawn.append(PosePredictor.of_last_epoch(folder).heatmaps(images))


# %%
history = train(recipe, crops, folder, name, fabric, log=keep)

# %%
last = history.iloc[-1]
if budget.name != "fast":
    assert last.loss < 0.5 * history.loss[0], "the loss did not fall"
    least, most = budget.pck_range
    assert least <= last.pck <= most, f"PCK {last.pck:.3f}: something is wrong"
print(f"loss {history.loss[0]:.4f} to {last.loss:.4f}, PCK {last.pck:.3f}")

# %% [markdown]
# ## Its curve

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
history.plot(x="epoch", y=["loss", "val_loss"], ax=left, color=["#0072b2", "#e69f00"], marker="o")
nothing_here = nothing_costs * recipe.stacks * (256 / recipe.size) ** 2  # smaller maps, the same spot
left.axhline(nothing_here, color="gray", ls=":", label="drawing nothing")
left.set(yscale="log", title="loss")
left.legend()
history.plot(x="epoch", y=["pck", "peak"], ax=right, color=["#009e73", "#cc79a7"], marker="o")
right.set(title="PCK, and the heatmaps' height")
plt.show()

# %% [markdown]
# **Figure:** left, the loss in training and in validation, with the loss of drawing nothing as a dotted line; right, the PCK
# and the mean peak of the heatmaps. The network first learns to draw nothing, which is nearly right everywhere, and then, slowly, to dare a spot:
# the peaks rise, and the PCK with them. The validation loss may jump, even upwards, while the PCK rises.
#
# ## Watch it learn
#
# What it drew for the top of one person's head, stack by stack, epoch by epoch. (Saved as an animation too, `learning.gif`.)

# %%
from hgpose_utils.overlay import save_learning

head_top, r_wrist = 9, 10
maps = torch.stack([torch.stack([stack[0, head_top] for stack in epoch]) for epoch in drawn])  # [epochs, stacks, h, w]
save_learning(images[0], maps, budget.out / "learning.gif")
figure, axes = grid(maps[..., 0, 0].numel(), len(maps), size=1.6)
for axis, heatmap, place in zip(axes, maps.movedim(1, 0).flatten(0, 1), range(len(axes)), strict=True):
    stack, epoch = divmod(place, len(maps))
    show_heatmap(axis, images[0], heatmap, f"stack {stack + 1}, epoch {epoch + 1}", top=max(0.3, float(maps.max())))
plt.show()

# %% [markdown]
# **Figure:** the heatmap of the top of the head over one unseen person, one column an epoch, the first stack above, the second below. At first everything is dark: drawing nothing is the cheapest guess. Then a faint
# cloud gathers around the head, and it becomes smaller and, but for a step back here and there, brighter.
#
# ## What every stack draws
#
# Four people that the network has never seen. The second stack gets the first one's heatmaps as an input.

# %%
predictor = PosePredictor.load(folder / "best.safetensors")
heatmaps = predictor.heatmaps(images)

# %%
figure, axes = grid(4 * (1 + 2 * recipe.stacks), 1 + 2 * recipe.stacks, size=1.9)
for person, row in enumerate(axes.reshape(4, -1)):
    show_person(row[0], images[person], truth[person], title="truth")
    for axis, (joint, stack) in zip(
        row[1:], [(j, s) for j in (head_top, r_wrist) for s in range(recipe.stacks)], strict=True
    ):
        heatmap = heatmaps[stack][person, joint]
        title = f"{'head' if joint == head_top else 'r_wrist'}, stack {stack + 1}: {heatmap.max():.2f}"
        show_heatmap(axis, images[person], heatmap, title, top=max(0.3, float(heatmaps[-1][:, joint].max())))
figure.savefig(budget.out / "heatmaps_of_every_stack.png", dpi=80)

# %% [markdown]
# **Figure:** four people unseen in training, one a row: the true pose, then the heatmap of the top of the head by each stack, then that of the
# right wrist by each stack, bright where the network thinks the joint is, with the height of its peak above it; the same colours mean the same height for the same joint. The top of the head is found early:
# all heads look alike. Wrists move most, and left and right look the same, so that their peaks are lower.

# %% [markdown]
# ## The best and the worst
#
# Sort all validation people by how far their joints are off, in head sizes, and look at both ends of the queue.

# %%
from hgpose_utils.predict import predict_people, true_people

pred, sure = predict_people(predictor, unseen, flip=True, quarter=True)
true, head = true_people(unseen, budget.size)
off = np.linalg.norm(pred - true, axis=-1) / head[:, None]
queue = np.argsort(np.nanmean(off, axis=1))
queue = queue[(~np.isnan(true).any(-1)).sum(1)[queue] >= 12]  # those with most of their joints in the picture

# %%
figure, axes = grid(12, 6, size=1.9)
for axis, i in zip(axes, [*queue[:6], *queue[-6:]], strict=True):
    image = predictor.inputs(unseen.images([i]))[0]
    show_person(axis, image, np.where(np.isnan(true[i]), np.nan, pred[i]), title=f"{np.nanmean(off[i]):.1f} heads off")
figure.savefig(budget.out / "best_and_worst.png", dpi=80)
plt.show()

# %% [markdown]
# **Figure:** above, the six validation people who are drawn best, below the six worst, with the skeleton that the network finds and its mean error in head sizes. (Joints outside the picture are not drawn.)
# The best are upright and face us, some of them cut off at the knees. The worst lie, bend, crouch, or are so near that little fits in: what was rare in training.
#
# Can that be put into numbers? Among the joints that the report scores: are hidden ones harder? Small people? And how often is a "missed" joint really the right joint of the wrong side?

# %%
from hgpose_utils.metrics import swapped
from hgpose_utils.skeleton import REPORT_JOINTS

found = np.where(np.isnan(off), np.nan, off <= 0.5)[:, REPORT_JOINTS]
seen = np.stack(unseen.people.visible)[:, REPORT_JOINTS]
small = (unseen.people.scale < unseen.people.scale.median()).to_numpy()[:, None] & np.ones_like(seen)
wrong_side = swapped(pred, true, head)[:, REPORT_JOINTS]
groups = {"all": seen | True, "seen": seen, "hidden": ~seen, "smaller half": small, "larger half": ~small}
rows = {
    name: {"found": np.nanmean(found[group]), "wrong side": wrong_side[group & ~np.isnan(found)].mean()}
    for name, group in groups.items()
}
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# Hidden joints are found far less often than those in view. Size matters little, as everyone is brought to one size. And nearly a fifth of the joints are no vague guess but a clear answer for the **wrong side**: left and
# right look alike, and from behind they change places.
#
# ## Explore the heatmaps
#
# Choose a person, a joint, a stack, a network: the one that you have just trained, or the one that comes with the course, which was trained on photos, too (notebook 5 says how well it does).
# The ring is where the network sees the joint, the white cross is the truth. Then disturb it: turn, zoom or flip the input, or cover a part of it with a grey square, and watch the heatmaps answer.
# Or upload a photo of your own. The sliders also move by the arrow keys.

# %%
from hgpose_utils.widgets import HeatmapExplorer

networks = {"trained here": predictor, "the course's own": PosePredictor.load()}
explorer = HeatmapExplorer(networks, eight.images(range(8)), eight.joints)
explorer

# %% [markdown]
# **Figure:** the explorer: on the left a person with the skeleton that is found, on the right the chosen joint's heatmap over the same picture, in grey.
#
# A test: another joint, another stack, and a covered head must change the picture.

# %%
for control, value in {"joint": r_wrist, "stack": 1, "cover": 30}.items():
    before = bytes(explorer.image.value)
    explorer.controls[control].value = value
    assert bytes(explorer.image.value) != before, f"the picture did not answer to {control}"

# %% [markdown]
# ## Does intermediate supervision matter?
#
# Try it: the same two-stack network at 64 × 64 px, trained once with the loss of both stacks and once with that of the last stack alone. **About 2 minutes** on two cores. Expect both last
# stacks to be about equally good after so few epochs (PCK between 0.05 and 0.3), and the first stack to be useless (below 0.03) where nobody asked it for heatmaps.

# %%
from dataclasses import replace

from hgpose_utils.metrics import ReportPCK

tiny = make_crops(dataset, 64, progress=False)
small = replace(recipe, stacks=2, size=64, epochs=1 if budget.name == "fast" else 4)
quietly = {"log": lambda line: None, "progress": False}
networks = {}
for supervised, choice in [("both stacks", small), ("the last alone", replace(small, intermediate=False))]:
    place = budget.out / "ablation" / supervised.replace(" ", "-")
    train(choice, tiny, place, "tiny", fabric, **quietly)
    networks[supervised] = PosePredictor.load(place / "best.safetensors")

# %%
held_out = tiny.split("val")
joints = torch.from_numpy(held_out.joints).float()
images, truth = warp(held_out.images(np.arange(len(held_out))), joints, no_jitter(len(held_out)), 64)
targets, weights = encode(truth, size=16)
rows = {}
for supervised, network in networks.items():
    for stack, heatmaps in enumerate(network.heatmaps(images), start=1):
        metric = ReportPCK()
        metric.update(heatmaps, targets, weights)
        loss = heatmap_loss([heatmaps], targets, weights)
        rows[supervised, f"stack {stack}"] = {"PCK": float(metric.compute()), "loss": float(loss)}
ablation = pd.DataFrame(rows).T.rename_axis(["supervised", "judged"])
if budget.name == "course":
    assert ablation.PCK["the last alone", "stack 1"] < 0.03
    assert ablation.PCK.drop(("the last alone", "stack 1")).between(0.05, 0.3).all()
ablation.round(4)

# %% [markdown]
# Without supervision the first stack's "heatmaps" are whatever was useful inside the network; its PCK is chance. With it they are heatmaps, nearly as good as the second stack's, which can correct them. One seed and a few epochs do not
# tell more; with eight stacks, the hourglass paper finds that supervising each of them helps the last one too.

# %% [markdown]
# ## On a GPU, for real
#
# The same loop at the report's scale is one command, and `report-runs` does all nine networks:
#
# ```
# hgpose train --data data/mpii --model hg --stacks 8
# hgpose report-runs --data data/mpii --minutes 600
# ```
#
# It chooses bfloat16 where the processor has it, keeps the crops on the GPU where they fit, and goes on where it stopped. What each of these steps is worth on a CPU stands in
# [benchmarks](../benchmarks/README.md).
#
# ## Exercises
#
# 1. How small is the loss of drawing nothing, and why? Compute it from the Gaussian alone: its squared height sums to about $\pi$ pixels.
# 2. The report's PCK is averaged over joints. Score a network on two batches, one of two people and one of twenty, and average the two scores. Construct a case in which that average is 0.5 and the true PCK below 0.1.
# 3. What is the PCK of the mean heatmap (the average of all training targets) for everyone?
#
# [Solutions](solutions/04_gpu_training.ipynb)
#
# ## Summary
#
# - The loss compares heatmaps, for every stack; a network must first be weaned off drawing nothing.
# - Supervising every stack makes the first stack's maps mean something.
# - RMSProp's learning rate is the length of a step: 0.25 cannot work.
# - PCK is counted over all people before it is divided.
#
# **Next:** [what the nine networks reached](05_results.ipynb).
#
# ## References
#
# - Newell, Yang, Deng: *Stacked Hourglass Networks for Human Pose Estimation*, 2016, [arXiv:1603.06937](https://arxiv.org/abs/1603.06937), sections 3.3 and 3.4.
# - Tieleman, Hinton: *RMSProp*, Neural Networks for Machine Learning, lecture 6.5, 2012.
# - PyTorch-Pose, <https://github.com/bearpaw/pytorch-pose>: learning rate, metric.
# - Lightning Fabric, <https://lightning.ai/docs/fabric>.
