"""How much of its input one output pixel sees: by arithmetic over the layers, and by measurement.

Source of the recurrence: Dumoulin and Visin 2016, arXiv:1603.07285; Araujo et al. 2019, Distill, "Computing receptive
fields of convolutional neural networks".
"""

from bisect import bisect_left
from itertools import chain
from math import ceil

import pandas as pd
import torch
from torch import nn

from hgpose_utils.models import Hourglass, Residual, StackedHourglass, WideResidual


def layer_step(layer: nn.Module) -> tuple[int, float]:
    """How many neighbouring inputs one output of the layer spans, and by how much the layer's pixels grow apart.

    A 3×3 convolution: (3, 1). A 2×2 max-pool: (2, 2). Doubling by nearest neighbours: (1, 1/2).
    Raises TypeError for a layer that it does not know.
    """
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
        sides = (layer.kernel_size, layer.stride, layer.dilation)
        kernel, stride, dilation = (v if isinstance(v, int) else v[0] for v in sides)
        return (kernel - 1) * dilation + 1, stride
    if isinstance(layer, nn.ConvTranspose2d):
        return ceil(layer.kernel_size[0] / layer.stride[0]), 1 / layer.stride[0]
    if isinstance(layer, nn.Upsample):
        return 1, 1 / layer.scale_factor
    if isinstance(layer, nn.BatchNorm2d | nn.ReLU | nn.Identity):
        return 1, 1
    raise TypeError(f"no receptive field is known for {type(layer).__name__}: add it to layer_step")


def longest_path(module: nn.Module) -> list[nn.Module]:
    """The layers of the path through a module that reaches furthest: the widest branch, down and up, not the skip.

    Knows residual units, hourglasses and whole networks of `models`, sequences, and single layers.
    """
    if isinstance(module, Residual):
        return longest_path(module.c if isinstance(module, WideResidual) else module.b)
    if isinstance(module, Hourglass):
        parts = [module.down, module.inner, module.up]
    elif isinstance(module, StackedHourglass):
        ends = [*module.merge_features, module.heads[-1]]
        stacks = zip(module.hourglasses, module.features, ends, strict=True)
        parts = [module.stem, *chain.from_iterable(stacks)]
    elif isinstance(module, nn.Sequential):
        parts = list(module)
    else:
        return [module]
    return [layer for part in parts for layer in longest_path(part)]


def trace_field(module: nn.Module) -> pd.DataFrame:
    """The receptive field after each layer of the longest path through a module, one row a layer.

    ``field``: the side, in pixels of the module's input, of the square that one output sees by the recurrence.
    ``jump``: how many input pixels lie between two neighbouring outputs.
    """
    field, jump, rows = 1, 1.0, []
    for layer in longest_path(module):
        neighbours, stride = layer_step(layer)
        field += int((neighbours - 1) * jump)
        jump *= stride
        rows.append({"layer": type(layer).__name__, "neighbours": neighbours, "field": field, "jump": jump})
    return pd.DataFrame(rows)


def theoretical_field(module: nn.Module) -> int:
    """The side in input pixels of the square that one output sees along the longest path, by `trace_field`."""
    return int(trace_field(module).field.iloc[-1])


def seen_from(module: nn.Module, position: int) -> tuple[int, int]:
    """The first and the last input pixel that the output pixel at ``position`` sees, on either axis.

    They may lie beyond the border. Walks the longest path backwards. Exact behind an upsampling too, where
    `theoretical_field` is an upper bound.
    """
    first = last = position
    for layer in reversed(longest_path(module)):
        if isinstance(layer, nn.Upsample):
            factor = int(layer.scale_factor)
            first, last = first // factor, last // factor
        elif isinstance(layer, nn.ConvTranspose2d):
            kernel, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
            first, last = -((kernel - 1 - padding - first) // stride), (last + padding) // stride
        else:
            span, stride = layer_step(layer)
            padding = layer.padding[0] if isinstance(layer, nn.Conv2d) else 0
            first, last = first * stride - padding, last * stride - padding + span - 1
    return first, last


@torch.inference_mode()
def probed_field(module: nn.Module, channels: int, size: int) -> int:
    """The side in input pixels of the square that the middle output pixel depends on: exact, by not-a-numbers.

    NaN times anything, zero too, is NaN, and wins every max-pool: an output is NaN if, and only if, a NaN lies in its
    field. Filling the input from each edge, ever further, until the output turns NaN finds the field's four sides.
    ``module`` is put into eval mode: in training mode batch norm makes every pixel depend on every other. Where the
    answer is ``size``, the input was too small to tell.
    """
    module.eval()

    def touches(start, stop, axis):
        x = torch.zeros(1, channels, size, size)
        x.narrow(axis, start, stop - start).fill_(torch.nan)
        y = _last(module(x))
        return bool(y[..., y.shape[-2] // 2, y.shape[-1] // 2].isnan().any())

    def side(axis):
        first = bisect_left(range(size), True, key=lambda i: touches(0, i + 1, axis))
        return bisect_left(range(first, size), True, key=lambda i: not touches(i + 1, size, axis)) + 1

    return max(side(-2), side(-1))


def _last(heatmaps):
    return heatmaps[-1] if isinstance(heatmaps, list) else heatmaps


def random_inputs(channels: int, size: int = 32, samples: int = 32, seed: int = 0) -> torch.Tensor:
    """Normal noise [samples, channels, size, size], the same for the same seed."""
    return torch.randn(samples, channels, size, size, generator=torch.Generator().manual_seed(seed))


def gradient_map(module: nn.Module, inputs: torch.Tensor, at: tuple[int, int] | None = None) -> torch.Tensor:
    """How much each input pixel moves the output pixel ``at`` (x, y), on average over ``inputs`` [N, C, H, W]: [H, W].

    The absolute gradient of that pixel (of the middle one if none is given), summed over channels. A max-pool passes
    it to one input of four only, so that a single input would show less than the field. ``module`` is put into eval
    mode: in training mode batch norm would let every pixel see every other. Source: Luo et al. 2016, arXiv:1701.04128.
    """
    module.eval()
    inputs = inputs.clone().requires_grad_()
    outputs = _last(module(inputs))
    x, y = at or (outputs.shape[-1] // 2, outputs.shape[-2] // 2)
    (gradient,) = torch.autograd.grad(outputs[..., y, x].sum(), inputs)
    return gradient.abs().sum(1).mean(0)


def measured_field(module: nn.Module, channels: int, size: int = 32) -> int:
    """The side in input pixels of the square that moves the middle output pixel, by `gradient_map` of noise."""
    moved = gradient_map(module, random_inputs(channels, size)) > 0
    rows, columns = moved.any(1).nonzero(), moved.any(0).nonzero()
    return int(max(rows.max() - rows.min(), columns.max() - columns.min())) + 1


def influence(gradient: torch.Tensor) -> pd.Series:
    """The share of a gradient map [S, S] inside the square of each odd side around its middle; index: the side."""
    middle = gradient.shape[-1] // 2
    squares = {2 * r + 1: gradient[middle - r : middle + r + 1, middle - r : middle + r + 1] for r in range(middle)}
    shares = [float(square.sum() / gradient.sum()) for square in squares.values()]
    return pd.Series(shares, index=pd.Index(squares, name="side"), name="share")


def effective_field(gradient: torch.Tensor, share: float = 0.95) -> int:
    """The side of the smallest square around the middle with this share of the gradient; the map's if none has it."""
    inside = influence(gradient)
    enough = inside.index[inside >= share]
    return int(enough[0]) if len(enough) else gradient.shape[-1]
