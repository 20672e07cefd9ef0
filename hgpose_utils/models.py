"""The stacked hourglass network (HG), and the report's two variants of it (HRU and New).

A network is a stem, then `stacks` hourglasses one after the other. Each hourglass gives 16 heatmaps, one a joint,
at a quarter of the input's size; each of them is supervised, and each is fed back for the next hourglass to refine.

The variants differ in two parts alone: the residual unit, and the way back up from a lower resolution.

    ========  =================  ==================
    name      residual unit      upsampling
    ========  =================  ==================
    ``hg``    `Residual`         nearest neighbour
    ``hru``   `WideResidual`     nearest neighbour
    ``new``   `WideResidual`     `TransposedConv`
    ========  =================  ==================

Sources: Newell et al. 2016, arXiv:1603.06937 (hourglass, stacking); Chu et al. 2017, arXiv:1702.07432, section 3.4
(hourglass residual unit); Xiao et al. 2018, arXiv:1804.06208 (deconvolution). The widths are those of PyTorch-Pose's
`hg`, with one residual unit a position; they were read off the sizes of the report's checkpoints.
"""

from bisect import bisect_left

import torch
from torch import nn

from hgpose_utils.files import HgposeError


class Residual(nn.Module):
    """Bottleneck unit with pre-activation: the way straight through (A) plus 1×1, 3×3, 1×1 convolutions (B).

    ``[B, channels_in, H, W] -> [B, channels_out, H, W]``. Source: He et al. 2016, arXiv:1603.05027.
    """

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        mid = channels_out // 2
        self.a = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)
        self.b = nn.Sequential(
            *(nn.BatchNorm2d(channels_in), nn.ReLU(inplace=True), nn.Conv2d(channels_in, mid, 1)),
            *(nn.BatchNorm2d(mid), nn.ReLU(inplace=True), nn.Conv2d(mid, mid, 3, padding=1)),
            *(nn.BatchNorm2d(mid), nn.ReLU(inplace=True), nn.Conv2d(mid, channels_out, 1)),
        )

    def forward(self, x):
        return self.a(x) + self.b(x)


class WideResidual(Residual):
    """Hourglass residual unit: `Residual` plus a branch C that looks at 10 × 10 pixels.

    C is a max-pool, two 3×3 convolutions and an upsampling, with one batch norm on its input. ``width`` is the number
    of channels between the two convolutions; the report's networks have half of ``channels_out``.
    """

    def __init__(self, channels_in: int, channels_out: int, width: int | None = None):
        super().__init__(channels_in, channels_out)
        mid = width or channels_out // 2
        self.c = nn.Sequential(
            *(nn.BatchNorm2d(channels_in), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)),
            *(nn.Conv2d(channels_in, mid, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(mid, channels_out, 3, padding=1), nn.Upsample(scale_factor=2)),
        )

    def forward(self, x):
        height, width = x.shape[-2:]
        return super().forward(x) + self.c(x)[..., :height, :width]  # an odd side comes back one pixel larger


class PaperResidual(WideResidual):
    """The unit as the HRU paper's own code has it: branch C at full width, 256 → 256 → 256 channels."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(channels_in, channels_out, width=channels_out)


class NearestUpsample(nn.Upsample):
    """Doubles the sides by repeating each pixel: nothing to learn. ``[B, C, H, W] -> [B, C, 2H, 2W]``."""

    def __init__(self, channels: int):
        super().__init__(scale_factor=2, mode="nearest")


class TransposedConv(nn.Sequential):
    """Doubles the sides by a learned 3×3 transposed convolution. ``[B, C, H, W] -> [B, C, 2H, 2W]``.

    Followed by batch norm and ReLU, as in Simple Baselines (arXiv:1804.06208, section 2). The runs start it at random,
    as the report's code, which says nothing else, must have done; ``start_nearest=True`` makes the convolution begin
    as `NearestUpsample`.
    """

    def __init__(self, channels: int, start_nearest: bool = False):
        super().__init__(
            nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        if start_nearest:  # output pixels 2i and 2i + 1 get input pixel i by the kernel's middle and last weight
            block = torch.tensor([0.0, 1.0, 1.0])
            with torch.no_grad():
                self[0].weight.copy_(torch.eye(channels)[..., None, None] * block[:, None] * block)
                self[0].bias.zero_()


class Hourglass(nn.Module):
    """`depth` halvings and as many doublings, with a residual unit on the skip connection of every resolution.

    ``[B, C, H, W] -> [B, C, H, W]``; H and W must be divisible by ``2 ** depth``.
    """

    def __init__(self, depth: int, channels: int, residual=Residual, upsample=NearestUpsample):
        super().__init__()
        self.skip = residual(channels, channels)
        self.down = nn.Sequential(nn.MaxPool2d(2), residual(channels, channels))
        self.inner = Hourglass(depth - 1, channels, residual, upsample) if depth > 1 else residual(channels, channels)
        self.up = nn.Sequential(residual(channels, channels), upsample(channels))

    def forward(self, x):
        return self.skip(x) + self.up(self.inner(self.down(x)))


class StackedHourglass(nn.Module):
    """The whole network: ``[B, 3, H, W] ->`` a list of ``stacks`` tensors ``[B, joints, H/4, W/4]``, the last the best.

    H and W must be divisible by 64, else `HgposeError`.
    """

    def __init__(self, stacks=1, residual=Residual, upsample=NearestUpsample, channels=256, joints=16, depth=4):
        super().__init__()
        self.stem = nn.Sequential(
            *(nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.BatchNorm2d(64), nn.ReLU(inplace=True)),
            *(residual(64, channels // 2), nn.MaxPool2d(2)),
            *(residual(channels // 2, channels), residual(channels, channels)),
        )
        self.hourglasses = nn.ModuleList(Hourglass(depth, channels, residual, upsample) for _ in range(stacks))
        self.features = nn.ModuleList(
            nn.Sequential(
                residual(channels, channels),
                *(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)),
            )
            for _ in range(stacks)
        )
        self.heads = nn.ModuleList(nn.Conv2d(channels, joints, 1) for _ in range(stacks))
        # Between two stacks the features and the heatmaps go back into the stream (all but the last stack).
        self.merge_features = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1))
        self.merge_heatmaps = nn.ModuleList(nn.Conv2d(joints, channels, 1) for _ in range(stacks - 1))

    def forward(self, images):
        height, width = images.shape[-2:]
        if height % 64 or width % 64:
            raise HgposeError(f"input of {height} × {width} px: both sides must be divisible by 64 (say 256 × 256)")
        x = self.stem(images)
        heatmaps = []
        for i, (hourglass, features, head) in enumerate(zip(self.hourglasses, self.features, self.heads, strict=True)):
            y = features(hourglass(x))
            heatmaps.append(head(y))
            if i < len(self.merge_features):
                x = x + self.merge_features[i](y) + self.merge_heatmaps[i](heatmaps[i])
        return heatmaps


VARIANTS = {
    "hg": {"residual": Residual, "upsample": NearestUpsample},
    "hru": {"residual": WideResidual, "upsample": NearestUpsample},
    "new": {"residual": WideResidual, "upsample": TransposedConv},
}

#: The report's nine networks, smallest first.
NINE = tuple((name, stacks) for stacks in (1, 2, 8) for name in VARIANTS)


def build_model(name: str, stacks: int = 1, **parts) -> StackedHourglass:
    """One of the report's networks: ``build_model("hg" | "hru" | "new", stacks)``, with random weights.

    ``parts`` go to `StackedHourglass` (``channels=320`` widens it; ``upsample=TransposedConv`` swaps one part).
    Raises `HgposeError` for a name that is not among `VARIANTS`, or a number of stacks below 1.
    """
    if name not in VARIANTS:
        raise HgposeError(f"unknown model {name!r}: choose one of {', '.join(VARIANTS)}")
    if not isinstance(stacks, int) or not 1 <= stacks <= 16:
        raise HgposeError(f"cannot build {stacks!r} stacks: choose a whole number from 1 to 16 (the report: 1, 2, 8)")
    return StackedHourglass(stacks, **{**VARIANTS[name], **parts})


def channels_for(parameters: int, name: str = "hg", stacks: int = 1, **parts) -> int:
    """The number of channels (even) at which a network has about ``parameters`` weights: a control of equal size."""
    channels = range(32, 2049, 2)

    def size(width):
        with torch.device("meta"):
            return count_parameters(build_model(name, stacks, channels=width, **parts))

    above = bisect_left(channels, parameters, key=size)
    return min(channels[max(above - 1, 0) : above + 1], key=lambda width: abs(size(width) - parameters))


def count_parameters(model: nn.Module) -> int:
    """Number of weights that training changes."""
    return sum(p.numel() for p in model.parameters())


def checkpoint_bytes(model: nn.Module) -> int:
    """Bytes of the file that PyTorch-Pose would save of this network: what the report's size table shows.

    It holds every weight, as many RMSProp averages, and the batch-norm buffers; each stored tensor costs about
    129 bytes more for its name and shape (fitted on the report's three HG files).
    """
    weights, buffers = list(model.parameters()), list(model.buffers())
    numbers = sum(2 * w.nbytes for w in weights) + sum(b.nbytes for b in buffers)
    return numbers + 129 * (2 * len(weights) + len(buffers))
