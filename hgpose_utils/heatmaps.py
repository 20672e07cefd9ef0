"""Joints to heatmaps and back. Joints are in pixels of the network's input, heatmaps a quarter of its size."""

import torch

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
    weights = ((centre > -0.5) & (centre < size - 0.5)).all(-1)
    offset = torch.arange(size, device=joints.device) - centre.nan_to_num()[..., None]  # [B, J, 2, size]
    x, y = torch.exp(-(offset**2) / (2 * std**2)).unbind(-2)
    weights = weights.to(x.dtype)
    return (y * weights[..., None])[..., :, None] * x[..., None, :], weights


def decode(heatmaps: torch.Tensor, quarter: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Heatmaps [B, J, h, w] -> joints [B, J, 2] in input pixels and confidences [B, J]: each map's highest pixel.

    ``quarter`` moves the point a quarter pixel towards the higher neighbour on each axis (Newell et al., section 3.3).
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
