# %% [markdown]
# # Solutions to notebook 5
#
# The exercises are at the end of [Results: the report's, and ours](../05_results.ipynb).

# %%
import numpy as np
import pandas as pd

from hgpose_utils.results import accuracy_table, bootstrap, differences, read_errors, read_report

# %% [markdown]
# ## Exercise 1: another epoch
#
# With 1 and 2 stacks New wins whatever the epoch; with 8 it is a matter of luck. (With 1 stack HG's column comes from another recipe: that win says little.)

# %%
# NBVAL_CHECK_OUTPUT
table = accuracy_table(read_report()).loc[11:]
pd.Series({f"{s} stacks": (table.filter(like=f"-s{s}").idxmax(axis=1) == f"New-s{s}").mean() for s in (1, 2, 8)})

# %% [markdown]
# ## Exercise 2: intervals
#
# One network's interval contains how hard the drawn people happen to be. In a difference that part is the same for both networks and cancels: that is what *paired* means. Were the two independent,
# the interval of the difference would be $\sqrt 2$ times as wide as a single one.

# %%
errors = {run: table for run, table in read_errors("photos-128").items() if run[1] == 0}  # the first seed alone
drawn = 100 * bootstrap(errors).droplevel(1, axis=1)
single = drawn.quantile(0.975) - drawn.quantile(0.025)
single.round(2)

# %%
paired = differences(errors, [("HRU-s1", "HG-s1")]).iloc[0]
width, independent = paired["to"] - paired["from"], np.hypot(single["HRU-s1"], single["HG-s1"])
assert width < independent
print(f"width of the difference: {width:.1f} points; were the two independent: {independent:.1f}")

# %% [markdown]
# ## Exercise 3: how many people?
#
# To see one point, the interval's half must be below one. It is `width / 2` with 1,000 people, and shrinks with the root of their number.

# %%
print(f"about {1000 * (width / 2) ** 2:,.0f} people")
