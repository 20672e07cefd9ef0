"""Weights of PyTorch-Pose's `hg` networks, renamed for ours."""

import re

from torch import Tensor

from hgpose_utils.files import HgposeError

UNIT = {"bn1": "b.0", "conv1": "b.2", "bn2": "b.3", "conv2": "b.5", "bn3": "b.6", "conv3": "b.8", "downsample.0": "a"}
UNITS = (  # where a residual unit stands there and here; their lists of units have one unit each
    (r"layer1\.0", "stem.3"),
    (r"layer2\.0", "stem.5"),
    (r"layer3\.0", "stem.6"),
    (r"res\.(\d+)\.0", r"features.\1.0"),
    (r"hg\.(\d+)\.hg\.(\d)\.(\d)\.0", None),
)
OTHERS = (
    (r"conv1", "stem.0"),
    (r"bn1", "stem.1"),
    (r"fc\.(\d+)\.0", r"features.\1.1"),
    (r"fc\.(\d+)\.1", r"features.\1.2"),
    (r"score\.(\d+)", r"heads.\1"),
    (r"fc_\.(\d+)", r"merge_features.\1"),
    (r"score_\.(\d+)", r"merge_heatmaps.\1"),
)


def from_pytorch_pose(weights: dict[str, Tensor], depth: int = 4) -> dict[str, Tensor]:
    """The state dict of PyTorch-Pose's ``hg``, with one unit a position, under the names of `StackedHourglass`.

    A ``module.`` before the names is dropped. Raises `HgposeError` for a name that such a network does not have.
    """
    return {_rename(name.removeprefix("module."), depth): tensor for name, tensor in weights.items()}


def _rename(name: str, depth: int) -> str:
    module, _, kind = name.rpartition(".")
    for theirs, ours in OTHERS:
        if match := re.fullmatch(theirs, module):
            return f"{match.expand(ours)}.{kind}"
    for theirs, ours in UNITS:
        if (match := re.fullmatch(rf"{theirs}\.(.+)", module)) and match[match.lastindex] in UNIT:
            place = match.expand(ours) if ours else _place(*map(int, match.groups()[:3]), depth)
            return f"{place}.{UNIT[match[match.lastindex]]}.{kind}"
    raise HgposeError(
        f"no PyTorch-Pose hourglass with one unit a position has a weight {name!r}: is it another network?"
    )


def _place(stack: int, level: int, position: int, depth: int) -> str:
    """Their level 0 is the innermost hourglass, ours is nested: three ``inner`` for level 0 of depth 4."""
    inner = ".inner" * (depth - 1 - level)
    return f"hourglasses.{stack}{inner}." + ("skip", "down.1", "up.0", "inner")[position]
