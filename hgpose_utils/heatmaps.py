"""Joints to heatmaps and back. Joints are in pixels of the network's input, heatmaps a quarter of its size.

Heatmap pixel p covers the input pixels 4p to 4p + 3, so its centre is at 4p + 1.5 (the one convention of `crops`: whole
numbers are the pixels' centres). Taking the highest pixel is then wrong by up to 2 input pixels on each axis, and by
(√2 + asinh 1) · 2/3 = 1.53 on average over all places of a joint, but to no side; the quarter pixel halves all of it.
"""

import torch

from hgpose_utils.skeleton import FLIP

STRIDE = 4  # input pixels a heatmap pixel
STD = 1.0  # of the target's Gaussian, in heatmap pixels (the report)


def to_heatmap_pixels(joints):
    """Input pixels -> heatmap pixels (the centre of heatmap pixel 0 is at input pixel 1.5)."""
    return (joints + 0.5) / STRIDE - 0.5


def to_input_pixels(joints):
    """The inverse of `to_heatmap_pixels`."""
    return (joints + 0.5) * STRIDE - 0.5


def encode(joints: torch.Tensor, size: int, std: float = STD) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints [B, J, 2] -> targets [B, J, size, size], a Gaussian of height 1 each, and weights [B, J].

    The weight is 1, or 0 for a joint that is not annotated (NaN) or lies outside the heatmap; its target is then empty.
    """
    centre = to_heatmap_pixels(joints)
    weights = _inside(centre, size)
    offset = torch.arange(size, device=joints.device) - centre.nan_to_num()[..., None]  # [B, J, 2, size]
    x, y = torch.exp(-(offset**2) / (2 * std**2)).unbind(-2)
    weights = weights.to(x.dtype)
    return (y * weights[..., None])[..., :, None] * x[..., None, :], weights


def nearest_pixel(joints: torch.Tensor, size: int) -> torch.Tensor:
    """Where the highest pixels of the joints' targets are: joints [..., 2] of an input of ``size`` px, moved onto them.

    As ``decode(encode(joints))``, without drawing the targets. NaN for a joint without a target.
    """
    centre = to_heatmap_pixels(joints)
    inside = _inside(centre, size // STRIDE)[..., None]
    return to_input_pixels(torch.ceil(centre - 0.5)).masked_fill(~inside, torch.nan)


def _inside(centre, size):
    return ((centre > -0.5) & (centre < size - 0.5)).all(-1)


def mirror(heatmaps: torch.Tensor) -> torch.Tensor:
    """Heatmaps [B, 16, h, w] of mirrored pictures -> of the pictures: x becomes w - 1 - x, left becomes right."""
    return heatmaps[:, FLIP].flip(-1)


def average_flipped(heatmaps: torch.Tensor, of_mirrored: torch.Tensor) -> torch.Tensor:
    """Heatmaps [B, 16, h, w] of pictures, and of the same pictures mirrored -> their mean, on the pictures' own pixels.

    Newell et al. 2016, Training Details.
    """
    return (heatmaps + mirror(of_mirrored)) / 2


def decode(heatmaps: torch.Tensor, quarter: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Heatmaps [B, J, h, w] -> joints [B, J, 2] in input pixels and confidences [B, J]: each map's highest pixel.

    ``quarter`` moves the point a quarter heatmap pixel towards the higher neighbour on each axis, except at the border
    (Newell et al. 2016, Training Details).
    """
    width = heatmaps.shape[-1]
    confidence, index = heatmaps.flatten(-2).max(-1)
    x, y = index % width, index.div(width, rounding_mode="floor")
    joints = torch.stack([x, y], -1).float()
    if quarter:
        joints += 0.25 * torch.stack([_slope(heatmaps, x, y, 1, 0), _slope(heatmaps, x, y, 0, 1)], -1)
    return to_input_pixels(joints), confidence.float()


def _slope(heatmaps, x, y, dx, dy):
    """The sign of the difference between the two neighbours of (x, y); 0 at the border."""
    height, width = heatmaps.shape[-2:]
    inside = (x >= dx) & (x < width - dx) & (y >= dy) & (y < height - dy)
    flat = heatmaps.flatten(-2)

    def at(x, y):
        return flat.gather(-1, (y.clamp(0, height - 1) * width + x.clamp(0, width - 1))[..., None])[..., 0]

    return torch.sign(at(x + dx, y + dy) - at(x - dx, y - dy)).float() * inside
