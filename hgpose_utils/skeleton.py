"""The 16 joints of MPII: names, limbs, left-right pairs, colours, and which of them each metric counts.

Every array of joints in this project is ``[..., 16, 2]``, in this order, ``x`` before ``y``, in pixels,
with (0, 0) the centre of the top left pixel and NaN where a joint was not annotated.
"""

import numpy as np

JOINTS = (
    "r_ankle",
    "r_knee",
    "r_hip",
    "l_hip",
    "l_knee",
    "l_ankle",
    "pelvis",
    "thorax",
    "upper_neck",
    "head_top",
    "r_wrist",
    "r_elbow",
    "r_shoulder",
    "l_shoulder",
    "l_elbow",
    "l_wrist",
)
INDEX = {name: i for i, name in enumerate(JOINTS)}

#: ``joints[FLIP]`` swaps left and right.
FLIP = np.array([5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10])

#: Joints counted by the report's PCK (PyTorch-Pose's ``accuracy``): ankles, knees, hips, wrists, elbows.
REPORT_JOINTS = np.array([0, 1, 2, 3, 4, 5, 10, 11, 14, 15])

#: Joints counted by PCKh: all but pelvis and thorax (the MPII evaluation).
PCKH_JOINTS = np.array([i for i in range(16) if i not in (6, 7)])

#: ``mpii[LSP_TO_MPII] = lsp``: where each of LSP's 14 joints stands among MPII's 16.
LSP_TO_MPII = np.array([0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 8, 9])

RIGHT, LEFT, MIDDLE = "#d55e00", "#0072b2", "#555555"  # Okabe and Ito: told apart by the colour-blind too

#: The bones that a skeleton is drawn with: two joints and a colour (right: orange, left: blue, middle: grey).
LIMBS = (
    (0, 1, RIGHT),
    (1, 2, RIGHT),
    (2, 6, RIGHT),
    (5, 4, LEFT),
    (4, 3, LEFT),
    (3, 6, LEFT),
    (6, 7, MIDDLE),
    (7, 8, MIDDLE),
    (8, 9, MIDDLE),
    (10, 11, RIGHT),
    (11, 12, RIGHT),
    (12, 7, RIGHT),
    (15, 14, LEFT),
    (14, 13, LEFT),
    (13, 7, LEFT),
)
