# %% [markdown]
# # 5 · Results: the report's, and ours
#
# The report ends with a table of 15 epochs × 9 networks, a table of sizes, and four plots. We redraw them from its own numbers (the
# report's figures are not in its text), read them with care, and put our runs beside them.
#
# **You will learn** what the table says and what it does not, why one epoch's number is not a result, and what a fair comparison would need.
#
# **Time:** a few seconds, on a CPU as on a GPU: nothing is trained here.

# %%
import platform

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from hgpose_utils.budget import read_budget
from hgpose_utils.plots import colour_of, marker_of, plot_accuracy, use_style
from hgpose_utils.results import accuracy_table, last_epochs, read_report, read_report_sizes, read_runs, summaries

budget = read_budget()
use_style()
budget.out.mkdir(parents=True, exist_ok=True)
print(f"Python {platform.python_version()}, pandas {pd.__version__}, budget {budget.name}; nothing is trained here")

# %% [markdown]
# ## The report's table
#
# Validation PCK on MPII after each epoch: the share of ten joints found within a twentieth of the picture's side (not the PCKh of the literature, which is another measure). New has the wide residual unit and transposed convolutions, HRU the wide unit alone,
# HG is the original; s1, s2, s8 are the numbers of stacks.

# %%
# NBVAL_CHECK_OUTPUT
report = read_report()
table = accuracy_table(report)
table.to_csv(budget.out / "report_accuracy.csv")
table.round(3)

# %% [markdown]
# ## The report's four plots

# %%
figure, axis = plt.subplots(figsize=(8, 5))
plot_accuracy(report, axis, "The report: all nine networks")
figure.savefig(budget.out / "accuracy_all.png")

# %% [markdown]
# **Figure:** validation PCK against the epoch, for all nine networks. Blue is HG, orange HRU, green New; dotted lines have 1 stack, dashed 2, solid 8. Eight of the nine curves
# run close together, from 0.24–0.41 up to 0.70–0.76; HG with one stack starts at 0.14 and ends lowest, at 0.67. The names at the right are in
# the order of the last epoch.

# %% [markdown]
# Nine lines hide each other. The three other plots show them apart, by the number of stacks.

# %%
for stacks, rows in report.groupby("stacks"):
    single, axis = plt.subplots(figsize=(6, 4.2))
    plot_accuracy(rows, axis, f"The report: {stacks} stack{'s' * (stacks > 1)}")
    single.savefig(budget.out / f"accuracy_s{stacks}.png")
    plt.close(single)

# %%
figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), sharey=True)
for axis, (stacks, rows) in zip(axes, report.groupby("stacks"), strict=True):
    plot_accuracy(rows, axis, f"{stacks} stack{'s' * (stacks > 1)}")
plt.show()

# %% [markdown]
# **Figure:** the same curves, split by the number of stacks. With one stack HG lies far below the two others. With two they stay within 0.04 of
# each other from epoch 6 on. With eight they cross each other again and again; New dips at epoch 5, HRU at epoch 14.
#
# ## The sizes

# %%
# NBVAL_CHECK_OUTPUT
sizes = read_report_sizes().set_index("network").bytes
pd.DataFrame({"checkpoint, MB": (sizes / 1e6).round(1), "times HG-s1": (sizes / sizes["HG-s1"]).round(1)})

# %% [markdown]
# ## Reading the table with care
#
# The report compares epoch 15. But epoch 15 is one draw from a noisy process. How noisy? A **fall** from one epoch to the next cannot be learning, so the largest
# fall of each network is a measure.

# %%
# NBVAL_CHECK_OUTPUT
columns = {"epoch 15": table.loc[15], "best epoch": table.max(), "mean of 13 to 15": table.loc[13:].mean()}
pd.DataFrame(columns | {"largest fall": table.diff().min()}).round(3)

# %% [markdown]
# Four things stand out.
#
# 1. **With 8 stacks one epoch can cost eight points** (New at epoch 5, HRU at epoch 14). There, differences of one or two points decide nothing. With 1 or 2 stacks single epochs are steadier; but each network
#    was trained once, and how far two runs of the **same** network differ nobody knows.
# 2. **Which number one looks at decides who wins.** The best number of all is HG's: 0.762, with 8 stacks, at epoch 14. At epoch 15, the one that the report compares, HG happens to dip to 0.740. Averaged over the last three epochs
#    New leads with every number of stacks, with eight by 0.5 points over HG. The table hints at New; it does not prove it.
# 3. **The largest gain, with one stack, is not like for like.** The 15 numbers of HG-s1 equal, digit for digit, the log that PyTorch-Pose published for its own network
#    (issue 46 of that project), trained at a learning rate of 1e-3 with a schedule for 200 epochs. A column from another recipe cannot tell what the wide unit does. We do not know whether the other two HG columns are published logs, too.
# 4. **New is 4.3 times as large as HG** (the sizes above are eight bytes per parameter). Width alone may explain a gain.
#
# None of this says that the ideas are bad. It says that the table cannot tell: that takes runs of all networks by one recipe, with several seeds, and a control that is
# as large as New but has HG's parts.

# %%
# NBVAL_CHECK_OUTPUT
best = report.loc[report.pck.idxmax()]
print(f"best of all: {best.network}, epoch {best.epoch}, PCK {best.pck:.3f}")
print("the winner with 8 stacks, had the report stopped at epoch …")
table.loc[11:, ["New-s8", "HRU-s8", "HG-s8"]].idxmax(axis=1)

# %% [markdown]
# ## Our runs
#
# Read from `results/runs/`: whatever lies there is shown, and this notebook need not change. Each run comes with its
# recipe, seed, commit and machine in `config.json`.

# %%
ours = read_runs()
runs = last_epochs(ours)
runs.set_index("network")[["dataset", "train_people", "size", "seed", "epoch", "pck", "best_pck", "pck_torso"]].round(3)

# %% [markdown]
# ### Real photos, 128 px
#
# All by **one recipe**: 15 epochs of the same 2,000 sports photos (LSP Extended) at 128 × 128 px, RMSProp at 2.5e-4, batches of 8, validated on 1,000 other photos. That is what one CPU core manages in at most an hour and a half a network;
# it is an eleventh of the pictures that the report's networks saw, at half the resolution, and harder photos (in [notebook 1](01_data_exploration.ipynb) guessing the mean pose finds 4 % of these joints, and 16 % of MPII's).
# So the numbers are lower. What can be compared is the **order**; points at a PCK of 0.25 are not points at 0.73.
#
# These are six of the report's nine networks (those with one stack twice, with two seeds; those with 8, some hours each, are not made yet) and the control that the report lacks: HG532, the original HG with 532 channels instead of 256, has as many parameters as New with one stack, and
# none of its ideas. There is a second control without further runs: HG with two stacks does as much arithmetic as HRU with one.

# %%
from hgpose_utils.results import in_dataset

photos = in_dataset(ours, "photos-128")
accuracy_table(photos).round(3)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4))
plot_accuracy(photos, left, "Ours: photos, 128 px, one recipe")
plot_accuracy(report[report.stacks <= 2], right, "The report: MPII, 256 px, 1 and 2 stacks")
figure.savefig(budget.out / "photos_128.png")

# %% [markdown]
# **Figure:** validation PCK after each epoch; left our runs on photos, right the report's networks, dotted with one stack and dashed with two; a band spans the two seeds. By one recipe the order is the report's, New before HRU before HG, with one stack and
# with two. After epoch 15 New leads HG by 5.6 points with one stack (the report: 4.8, but its HG comes from another recipe) and by 3.6 with two (the report: 1.8). One thing differs: there HG with two stacks passes New with one, here it does not. The wide
# HG532 (pink) keeps up for four epochs, then falls behind. The curves of the others **still rise**, but for a dip of HG's second seed at the end: 3,750 steps are a short training, and what we compare is how fast they learn.
#
# Single epochs jump: HRU with two stacks loses three points at epoch 8 and has them back an epoch later, New with two loses one at epoch 13. Both dips come with a leap of the validation loss (4.5 and 7 times its median) and none of
# the training loss: a hint, not a proof, that it is batch norm's running averages that jump and not what was learned. Whoever reads one epoch reads this, too.

# %% [markdown]
# Last epoch, best epoch, mean of the last three: three ways to read one curve.

# %%
summaries(photos).sort_values("mean of the last three", ascending=False).round(3)

# %% [markdown]
# And how far do two runs of the **same** network differ? The networks with one stack were trained twice, with another seed: other first weights, another order, other rotations.

# %%
summaries(photos[photos.network.isin(["HG-s1", "HRU-s1", "New-s1"])], each_seed=True).round(3)

# %% [markdown]
# HG ends at 0.227 with one seed and at 0.205 with the other: two points apart, as much as many a gap between networks. Its means of the last three epochs are 0.1 points apart, HRU's 1.1 and New's 1.5. One epoch of one run is not a result.
#
# ### How sure can we be?
#
# Two things are random: **which people** we validated on, and **which run** we made (its seed). The first can be asked of the numbers that we have. Draw 1,000 of the 1,000 people, with replacement, ten thousand times, and
# see how much the difference between two networks moves; all networks meet the same people in each draw (a *paired bootstrap*). The second needs several seeds; where there are some, Student's t makes an interval of their differences, and with two of them it is wide: their standard error times 12.7.
#
# (The errors were measured anew in float32 after the last epoch; the tables above are from training, in bfloat16, and differ from them by up to 0.3 points.)

# %%
from hgpose_utils.results import CLAIMS, differences, pck_of_errors, read_errors

errors = read_errors("photos-128")
others = [("HG-s2", "HG-s1"), ("HRU-s1", "HG-s2"), ("New-s1", "HG-s2"), ("HG532-s1", "HG-s1")]
ahead = differences(errors, [*CLAIMS, *others])
ahead.round(1)

# %%
from hgpose_utils.plots import plot_differences

plot_differences(ahead)
plt.show()

# %% [markdown]
# **Figure:** for each pair, how many points of PCK the first network is ahead of the second after the last epoch (dot), the 95 % interval over the validation people (thick line) and, where there are several seeds, that over the seeds
# (thin, cut off at the frame). An interval that crosses zero decides nothing. After epoch 15 New is 5½ points ahead of HG with one stack and 3½ with two, HRU 3 and 2. The choice of people does not explain that; two seeds cannot exclude that the runs' own luck does.
# The runs with two stacks show the same order, but share the first seed, photos and validation people with those with one: no second, independent test.
#
# And epoch 15 flatters, for HG's second seed dips there. In the mean of the last three epochs, New leads HG with one stack by 3.0 and 4.5 points (two seeds) and with two by 2.6; HRU leads HG by 0.5 and 1.7, and by 1.9; New leads HRU by 2.4 and 2.8, and by 0.7.
# Nine differences, all of one sign: a steady lean. HRU with one stack and HG with two do the same arithmetic, and there nothing is decided: 0.4 points behind with one seed, 0.7 ahead with the other.
#
# And the control of equal size? HG532 is 9 points behind the narrow HG, and New 13 points ahead of it. But a wide network that does worse than its own narrow version points to a fault of the training: RMSProp moves every weight by about the learning rate, so that a
# layer with twice as many inputs changes twice as much at each step. HG532 keeps up for four epochs and stalls. **Until it is trained well, say at half the learning rate, it says nothing about size.** That run is not made yet.

# %%
six = [f"{model}-s{stacks}" for model in ("HG", "HRU", "New") for stacks in (1, 2)]
two_seeds = [(f"{model}-s1", 1) for model in ("HG", "HRU", "New")]
these = set(errors) == {(name, 0) for name in (*six, "HG532-s1")} | set(two_seeds)
if these:  # what is said above; with more runs it must be read anew
    assert ahead["ahead by"].round(1).tolist() == [3.2, 5.5, 2.3, 13.1, 2.1, 3.6, 1.5, 1.4, 0.9, 2.8, -8.9]
    means = 100 * summaries(photos, each_seed=True)["mean of the last three"]
    pairs = [tuple(pair.split(" before ")) for pair in ahead.index]
    leads = {(one, other): (means[one] - means[other]).dropna().round(1).tolist() for one, other in pairs}
    assert leads["New-s1", "HG-s1"] == [3.0, 4.5] and leads["New-s2", "HG-s2"] == [2.6]
    assert leads["HRU-s1", "HG-s1"] == [0.5, 1.7] and leads["HRU-s2", "HG-s2"] == [1.9]
    assert leads["New-s1", "HRU-s1"] == [2.4, 2.8] and leads["New-s2", "HRU-s2"] == [0.7]
    assert (means["HRU-s1"] - means["HG-s2", 0]).round(1).tolist() == [-0.4, 0.7]
    assert [means[name].diff()[1].round(1) for name in ("HG-s1", "HRU-s1", "New-s1")] == [-0.1, 1.1, 1.5]

    curves = 100 * accuracy_table(photos)
    gaps = [[100 * c.loc[15, f"New-s{s}"] - 100 * c.loc[15, f"HG-s{s}"] for s in (1, 2)] for c in (curves / 100, table)]
    assert np.round(gaps, 1).tolist() == [[5.6, 3.6], [4.8, 1.8]]
    assert (curves["HG532-s1"] > curves["HG-s1"]).loc[:4].all() and (curves["HG532-s1"] < curves["HG-s1"]).loc[5:].all()
    leap = photos.pivot_table(index="epoch", columns="network", values="val_loss")
    leap = (leap / leap.median()).round(1)
    assert leap.loc[8, "HRU-s2"] == 4.5 and leap.loc[13, "New-s2"] == 7.1
    trained = photos[photos.epoch == 15].set_index(["network", "seed"]).pck
    assert max(abs(pck_of_errors(table) - trained[run]) for run, table in errors.items()) < 0.003

# %% [markdown]
# ### Joint by joint

# %%
from hgpose_utils.results import pck_per_joint

joints = pck_per_joint(errors)
if these:  # what is said below
    ahead_of_hg = [joints[[f"HRU-s{s}", f"New-s{s}"]].gt(joints[f"HG-s{s}"], axis=0) for s in (1, 2)]
    assert pd.concat(ahead_of_hg).all(axis=None) and (joints.idxmin(axis=1) == "HG532-s1").all()
joints.round(2)

# %%
figure, axis = plt.subplots(figsize=(8, 3.6))
for i, network in enumerate(joints):
    beside = np.arange(len(joints)) + 0.1 * (i - len(joints.columns) / 2)  # so that the marks stay apart
    axis.plot(beside, joints[network], marker_of(network), color=colour_of(network), label=network)
axis.set(ylabel="share found", ylim=(0, 1.15 * joints.max(axis=None)))
axis.set_xticks(range(len(joints)), joints.index, rotation=60)
axis.legend(ncols=3, frameon=False)
plt.show()

# %% [markdown]
# **Figure:** the share of joints found, joint by joint (left and right together), one mark a network (squares: two stacks). Necks and heads are found more than twice as often as hips and knees; but necks, heads and shoulders
# do not count in the report's PCK, whose ten joints are the other five pairs. HRU and New are ahead of the HG with as many stacks at every joint, and HG532 (pink) is behind at every one.

# %% [markdown]
# ### What does a point of PCK cost?

# %%
from hgpose_utils.results import costs

figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), sharey=True)
price = costs(photos)
for axis, column in zip(axes, ["million parameters", "GFLOP forward", "images per second"], strict=True):
    for network, row in price.sort_values("PCK", ascending=False).iterrows():
        axis.plot(row[column], row["PCK"], marker_of(network), color=colour_of(network), ms=8, label=network)
    axis.set(xlabel=column, xlim=(0, 1.1 * price[column].max()), ylim=(0, 1.1 * price.PCK.max()))
axes[0].set_ylabel("PCK, mean of the last three epochs")
axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# **Figure:** PCK (mean of the last three epochs) against parameters, arithmetic of a forward pass at 128 px, and images per second in training (further right is cheaper; the least disturbed epoch, on one core of a machine that did other work
# too). New's points cost four times HG's parameters and 1.7 times its arithmetic. HG with two stacks (square) costs nearly as much arithmetic as HRU with one, half of its parameters, and gets as far; New with one stack gets further than HRU with two
# for 0.7 times the arithmetic, and as far as New with two. Width is the worst bargain here: HG532 computes four times as much as HG.

# %% [markdown]
# ## The report's claims, one by one
#
# The report's authors published every epoch of every network, dips included; that is why their claims can be checked at all. What do their numbers support, and what do ours?
# *Supported* or *not supported* need two intervals that leave zero out, over the people **and** over the seeds; everything else is *not decided*. We test who is ahead, not by how much.


# %%
from IPython.display import Markdown

from hgpose_utils.results import markdown, verdicts


def lead(one, other):
    """What the report's own table says about two of its networks."""
    if one not in table or other not in table:
        return "no such control"
    points = 100 * (table[one] - table[other])
    recipe = "; but HG-s1 is another recipe's log" if "HG-s1" in (one, other) else ""
    return f"{points[15]:+.1f} points at epoch 15, {points.loc[13:].mean():+.1f} in the mean of 13 to 15{recipe}"


claims = verdicts(errors, photos)
claims.insert(1, "the report's own numbers", [lead(*pair) for pair in CLAIMS])
Markdown(markdown(claims))

# %% [markdown]
# And three that need no statistics:
#
# | in the report | what we found | verdict |
# | --- | --- | --- |
# | where the HG columns come from is not said | the 15 numbers of HG-s1 equal PyTorch-Pose's published log, digit for digit (issue 46 there; learning rate 1e-3): HRU and New are compared with another recipe | not like for like |
# | RMSProp with a learning rate of 0.25 | the loss explodes at once; after 750 steps the PCK is 0.013, below the mean pose's 4 % ([notebook 4](04_gpu_training.ipynb)) | probably a slip for PyTorch-Pose's 2.5e-4 |
# | the wide unit helps **because** its field is 10 pixels and not 3 | the fields are 10 and 3; but every network, HG too, has a field larger than the picture, and of the trained ones HG looks as far as HRU, and further than New ([notebook 2](02_hru_receptive_field.ipynb)) | the cause is not shown |

# %% [markdown]
# ### Your own run
#
# If you have run [notebook 4](04_gpu_training.ipynb), its run appears here.

# %%
yours = read_runs(budget.out / "runs")
if len(yours):
    axis = plot_accuracy(yours, title=f"Notebook 4: {yours.dataset.iloc[0]}")
else:
    print("no run yet: run notebook 4 first")
plt.show()

# %% [markdown]
# **Figure:** the validation PCK of your network on drawn people, after each epoch.
#
# ## The network that comes with the course
#
# Fifteen epochs on a quarter of the photos serve to compare networks, not to use one. So one HG with one stack was trained on **all** 8,000 photos and the drawn people together, with a learning rate that falls to nothing,
# and lies in `results/checkpoints/` in half precision. How well it does on validation people, with heatmaps averaged over the mirrored picture:

# %%
# NBVAL_CHECK_OUTPUT
import json

from hgpose_utils.predict import SHIPPED, PosePredictor

about = json.loads(SHIPPED.with_suffix(".json").read_text())
print(f"{about['recipe']['epochs']} epochs of {about['dataset']['train_people']} people, {about['bytes'] / 1e6:.1f} MB")
pd.DataFrame(about["validation"]).round(3)

# %% [markdown]
# The drawn people are easier: they were drawn by the same program in training. Photos of sports are hard; but compare them with guessing the mean pose ([notebook 1](01_data_exploration.ipynb)).
#
# See for yourself: choose, turn, zoom and cover drawn people, or upload a photo of your own. (It stays on your computer.)

# %%
from hgpose_utils.crops import make_crops
from hgpose_utils.synthetic import make_dataset
from hgpose_utils.widgets import HeatmapExplorer

shipped = PosePredictor.load()
people = make_crops(make_dataset(budget.data, budget.people), shipped.size, progress=False).split("val").take(slice(12))
explorer = HeatmapExplorer({"the course's own": shipped}, people.images(slice(None)), people.joints)
explorer

# %% [markdown]
# **Figure:** the heatmap explorer, as in [notebook 4](04_gpu_training.ipynb): on the left a drawn person with the skeleton that is found, on the right the chosen joint's heatmap.
#
# For whole folders of photos there is `hgpose predict *.jpg --out poses`, for a web page of explorers `make app`.
#
# All accuracies go into one table beside the plots.

# %%
everything = pd.concat([report.assign(dataset="report"), ours, yours])
everything[["dataset", "network", "epoch", "pck"]].to_csv(budget.out / "accuracy.csv", index=False)
sorted(file.name for file in budget.out.glob("accuracy*"))

# %% [markdown]
# ## Exercises
#
# 1. The report compares epoch 15. Had its authors stopped at a random epoch from 11 to 15, the same for all, how often would New have won with 1, with 2, with 8 stacks?
# 2. How wide is the 95 % interval of **one** network's PCK on 1,000 people? And of the difference between two? Why is the second narrower than the first would suggest?
# 3. How many validation people would it take to see a gain of one point? Use that an interval shrinks with the square root of their number.
#
# [Solutions](solutions/05_results.ipynb)
#
# ## Summary
#
# - The report's table, redrawn, supports fewer conclusions than it seems to: single runs, single epochs, and one column from another recipe.
# - Our runs share one recipe and say what they are. In the mean of the last three epochs New leads HG by 3.8 points with one stack and by 2.6 with two, and HRU lies between, with each of two seeds: the report's order. That is a steady lean; two seeds are not a proof.
# - Whether it is more than size stays open: the HG as large as New stalls by this recipe, which does not suit it.
# - A fair test needs all nine networks, several seeds, longer training, and a learning rate that suits each size.
#
# ## References
#
# - Brami, Chen: *Human Pose Estimation*, course report, CS236605 (Technion): the tables and plots redrawn here.
# - PyTorch-Pose, <https://github.com/bearpaw/pytorch-pose>, issue 46: the log that HG-s1 equals.
# - Johnson, Everingham: *Learning Effective Human Pose Estimation from Inaccurate Annotation*, CVPR 2011 (LSP Extended).
# - Bouthillier et al.: *Accounting for Variance in Machine Learning Benchmarks*, 2021, [arXiv:2103.03098](https://arxiv.org/abs/2103.03098).
