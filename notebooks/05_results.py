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
import pandas as pd

from hgpose_utils.budget import read_budget
from hgpose_utils.plots import plot_accuracy, use_style
from hgpose_utils.results import accuracy_table, last_epochs, read_report, read_report_sizes, read_runs

budget = read_budget()
use_style()
budget.out.mkdir(parents=True, exist_ok=True)
print(f"Python {platform.python_version()}, pandas {pd.__version__}, budget {budget.name}; nothing is random here")

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
#    New leads with every number of stacks, with eight by 0.6 points over HG. The table hints at New; it does not prove it.
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
# Read from `results/runs/`: whatever lies there is shown; this notebook need not change. Each run comes with its
# recipe, seed, commit and machine in `config.json`.

# %%
ours = read_runs()
runs = last_epochs(ours)
runs.set_index("network")[["dataset", "train_people", "size", "seed", "epoch", "pck", "best_pck", "pck_torso"]].round(3)

# %% [markdown]
# ### Real photos, 128 px
#
# The three networks with one stack, trained for three epochs on 8,000 sports photos (LSP Extended), validated on 1,000 others, by one recipe and with one seed. Three epochs
# at half the resolution are no reproduction of the table; they show that the code learns from photos, and how long it takes.

# %%
photos = ours[ours.dataset == "photos-128"]
accuracy_table(photos).round(3)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), sharey=True)
plot_accuracy(photos, left, "Ours: 1 stack, photos, 128 px")
plot_accuracy(report[(report.stacks == 1) & (report.epoch <= 3)], right, "The report: 1 stack, MPII, first 3 epochs")
figure.savefig(budget.out / "photos_128.png")

# %% [markdown]
# **Figure:** left, our three runs on photos; right, the first three epochs of the same networks in the report, on the same axis. Another dataset, another
# resolution and fewer people make all of ours lower; what can be compared is the **order and the gaps**. The gaps are in the next table.

# %%
# NBVAL_CHECK_OUTPUT
gaps = {}
for source, rows in [("ours", photos), ("the report", report[report.epoch <= 3])]:
    pck = accuracy_table(rows[rows.stacks == 1])
    for network in ("HRU-s1", "New-s1"):
        gaps[source, f"{network} before HG-s1"] = 100 * (pck[network] - pck["HG-s1"])
pd.DataFrame(gaps).round(1)

# %% [markdown]
# In points of PCK: the report has HRU 21 to 34 points before HG in these epochs, and New 25 to 36. By one recipe, the leads are 0.4 to 4.9 and 1.1 to 2.3, and which of HRU and New is ahead changes between
# epochs. A single recipe removes whatever part of the report's gap came from the recipe (learning rate, schedule, data) and not from the networks. Three epochs, one seed and 128 pixels
# do not decide whether the rest is real.

# %%
for network, run in photos.groupby("network"):
    pck = run.sort_values("epoch").pck
    assert pck.iloc[-1] > pck.iloc[0], f"{network} did not learn"

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
# All accuracies go into one table beside the plots.

# %%
everything = pd.concat([report.assign(dataset="report"), ours, yours])
everything[["dataset", "network", "epoch", "pck"]].to_csv(budget.out / "accuracy.csv", index=False)
sorted(file.name for file in budget.out.glob("accuracy*"))

# %% [markdown]
# ## Summary
#
# - The report's table, redrawn, supports fewer conclusions than it seems to: single runs, single epochs, and one column from another recipe.
# - Our runs share one recipe and say what they are. Three epochs prove nothing about the ideas yet.
# - A fair test needs all nine networks, several seeds, and a control of equal size.
#
# ## References
#
# - Brami, Chen: *Human Pose Estimation*, course report, CS236605 (Technion): the tables and plots redrawn here.
# - PyTorch-Pose, <https://github.com/bearpaw/pytorch-pose>, issue 46: the log that HG-s1 equals.
# - Johnson, Everingham: *Learning Effective Human Pose Estimation from Inaccurate Annotation*, CVPR 2011 (LSP Extended).
# - Bouthillier et al.: *Accounting for Variance in Machine Learning Benchmarks*, 2021, [arXiv:2103.03098](https://arxiv.org/abs/2103.03098).
