"""From crops to network inputs, a batch at a time and on the batch's own device: one resampling does it all."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from hgpose_utils.crops import MARGIN
from hgpose_utils.skeleton import FLIP

ROTATION = 30  # degrees to either side (the report)
SCALE = (0.75, 1.25)  # the box's side is multiplied by this: above 1 the person gets smaller (the report)
COLOUR = (0.8, 1.2)  # each channel is multiplied by this (PyTorch-Pose)


class Jitter(NamedTuple):
    """What is done to N people: ``angle`` [N] in radians, ``scale`` [N], ``flip`` [N] bool, ``colour`` [N, 3]."""

    angle: np.ndarray
    scale: np.ndarray
    flip: np.ndarray
    colour: np.ndarray

    def __getitem__(self, indices) -> "Jitter":
        return Jitter(*(values[indices] for values in tuple(self)))

    def to(self, device) -> "Jitter":
        """The same as tensors on ``device``."""
        return Jitter(*(torch.as_tensor(values).to(device) for values in tuple(self)))


def draw_jitter(people: int, seed: int, epoch: int) -> Jitter:
    """An epoch's random changes, uniform in the ranges above, a flip for every second person.

    Person i gets the same whatever the batch size, the number of processes, or where a run was resumed.
    """
    u = np.random.default_rng([seed, epoch]).random((people, 6), dtype=np.float32)
    return Jitter(
        angle=math.radians(ROTATION) * (2 * u[:, 0] - 1),
        scale=SCALE[0] + (SCALE[1] - SCALE[0]) * u[:, 1],
        flip=u[:, 2] < 0.5,
        colour=COLOUR[0] + (COLOUR[1] - COLOUR[0]) * u[:, 3:],
    )


def no_jitter(people: int) -> Jitter:
    """Nothing changed: for validation."""
    ones = np.ones(people, np.float32)
    return Jitter(0 * ones, ones, np.zeros(people, bool), np.ones((people, 3), np.float32))


def warp(crops: torch.Tensor, joints: torch.Tensor, jitter: Jitter, size: int):
    """Crops and joints as the network gets them: images [B, 3, size, size] in -0.5 … 0.5, joints in their pixels.

    ``crops`` uint8 [B, 3, S, S], ``joints`` [B, 16, 2] in pixels of the crop. A flip swaps the names of
    the left and right joints too.
    """
    angle, scale, flip, colour = tuple(jitter.to(crops.device))
    cos, sin = torch.cos(angle), torch.sin(angle)
    mirror = torch.where(flip, -1.0, 1.0)
    # From the input's coordinates to the crop's, both from -1 to 1: mirror, then rotate, then zoom.
    rotation = torch.stack([cos * mirror, -sin, sin * mirror, cos], -1).view(-1, 2, 2)
    matrix = rotation * (scale / MARGIN).view(-1, 1, 1)

    steps = (2 * torch.arange(size, device=crops.device) + 1) / size - 1  # the pixels' centres
    x_axis, y_axis = matrix[:, None, None].unbind(-1)
    grid = steps[:, None] * x_axis + steps[:, None, None] * y_axis  # [B, size, size, 2]; affine_grid is 4 times slower
    images = F.grid_sample(crops.float(), grid, align_corners=False)
    images.mul_(colour.view(-1, 3, 1, 1) / 255).clamp_(max=1).sub_(0.5)

    centred = (joints.to(matrix.dtype) + 0.5) * (2 / crops.shape[-1]) - 1
    moved = centred @ matrix * (MARGIN / scale.view(-1, 1, 1)) ** 2  # the inverse of a rotation is its transpose
    moved = torch.where(flip.view(-1, 1, 1), moved[:, FLIP], moved)
    return images, (moved + 1) * (size / 2) - 0.5
