"""How much of its input one output pixel sees: by arithmetic over the layers, and by measurement.

Source of the recurrence: Dumoulin and Visin 2016, arXiv:1603.07285; Araujo et al. 2019, Distill, "Computing receptive
fields of convolutional neural networks".
"""

from math import ceil

import pandas as pd
import torch
from torch import nn


def layer_step(layer: nn.Module) -> tuple[int, float]:
    """How many neighbouring inputs one output of the layer sees, and by how much the layer's pixels grow apart.

    A 3×3 convolution: (3, 1). A 2×2 max-pool: (2, 2). Doubling by nearest neighbours: (1, 1/2).
    Raises TypeError for a layer that it does not know.
    """
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
        kernel, stride = (v if isinstance(v, int) else v[0] for v in (layer.kernel_size, layer.stride))
        return kernel, stride
    if isinstance(layer, nn.ConvTranspose2d):
        return ceil(layer.kernel_size[0] / layer.stride[0]), 1 / layer.stride[0]
    if isinstance(layer, nn.Upsample):
        return 1, 1 / layer.scale_factor
    if isinstance(layer, nn.BatchNorm2d | nn.ReLU | nn.Identity):
        return 1, 1
    raise TypeError(f"no receptive field is known for {type(layer).__name__}: add it to layer_step")


def trace_field(path: nn.Module) -> pd.DataFrame:
    """The receptive field after each layer of a path (an ``nn.Sequential`` or one layer), one row a layer.

    ``field``: the side, in pixels of the path's input, of the square that one output sees (the largest, where outputs
    differ). ``jump``: how many input pixels lie between two neighbouring outputs.
    """
    field, jump, rows = 1, 1.0, []
    for layer in path.modules():
        if any(True for _ in layer.children()):
            continue
        neighbours, stride = layer_step(layer)
        field += int((neighbours - 1) * jump)
        jump *= stride
        rows.append({"layer": type(layer).__name__, "neighbours": neighbours, "field": field, "jump": jump})
    return pd.DataFrame(rows)


def theoretical_field(path: nn.Module) -> int:
    """The side in input pixels of the square that one output of the path sees, by `trace_field`."""
    return int(trace_field(path).field.iloc[-1])


def gradient_map(module: nn.Module, channels: int, size: int = 33, samples: int = 32, seed: int = 0) -> torch.Tensor:
    """How much each input pixel moves the middle output pixel, on average: [size, size], 0 where it never does.

    The absolute gradient of the middle pixel, summed over channels, averaged over ``samples`` random inputs: a max-pool
    passes it to one input of four only, so that a single input would show less than the field. ``module`` is put into
    eval mode: in training mode batch norm would let every pixel see every other.
    """
    module.eval()
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, channels, size, size, generator=generator, requires_grad=True)
    y = module(x)
    y = y[-1] if isinstance(y, list) else y
    (gradient,) = torch.autograd.grad(y[..., y.shape[-2] // 2, y.shape[-1] // 2].sum(), x)
    return gradient.abs().sum(1).mean(0)


def measured_field(module: nn.Module, channels: int, size: int = 33, samples: int = 32, seed: int = 0) -> int:
    """The side in input pixels of the square that moves the middle output pixel, by `gradient_map`."""
    moved = gradient_map(module, channels, size, samples, seed) > 0
    rows, columns = moved.any(1).nonzero(), moved.any(0).nonzero()
    return int(max(rows.max() - rows.min(), columns.max() - columns.min())) + 1
