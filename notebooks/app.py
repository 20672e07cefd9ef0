# %% [markdown]
# # What a pose network sees
#
# A network of this course looks for 16 joints in a picture and draws one **heatmap** for each: bright where it thinks that the joint is. Move the controls and watch. The people are drawn,
# and the network has never seen them; or give it a photo of yours, with one person in it. The photo stays on this machine, and is gone when you close the page.

# %%
import numpy as np

from hgpose_utils.app import load_networks, refuse_large_files
from hgpose_utils.budget import BUDGETS
from hgpose_utils.crops import make_crops
from hgpose_utils.models import Residual, WideResidual
from hgpose_utils.synthetic import make_dataset
from hgpose_utils.widgets import HeatmapExplorer, ReceptiveFieldExplorer

networks = load_networks()
few = BUDGETS["fast"]
crops = make_crops(make_dataset(few.data, few.people, progress=False), size=128, progress=False).split("val")
people = crops.take(np.flatnonzero(~np.isnan(crops.joints).any((1, 2))))  # with all joints in the picture
images = people.images(range(len(people)))
refuse_large_files()

# %% [markdown]
# ## Heatmaps

# %%
HeatmapExplorer(networks, images, people.joints)

# %% [markdown]
# **Figure:** left, what the network gets, with the pose that it finds; right, the heatmap of the chosen joint over the same picture. A ring marks where the network sees the joint, a cross
# where it is. Turn, zoom or cover people: when does the network lose them? (`make course` trains another
# network on this machine, in minutes; then load this page again, and compare the two.)
#
# ## What one pixel depends on
#
# Heatmaps are made by stacks of residual units. How much of its input does one output pixel of such a unit see? The wide unit has a branch more, C, which halves the picture and doubles it
# again.

# %%
ReceptiveFieldExplorer({"residual": Residual(16, 16), "wide residual": WideResidual(16, 16)}, 16, images[-1])

# %% [markdown]
# **Figure:** a picture of 32 × 32 input pixels; the bright ones move the output pixel at the cross, the frame is the square that arithmetic gives.
# Notebook 2 tells why it is so; notebook 4 trains a network.
