"""Diagrams drawn from the modules themselves, so that they cannot differ from the code."""

from math import log2

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import FancyBboxPatch
from torch import nn

from hgpose_utils.models import Hourglass, NearestUpsample, Residual, StackedHourglass, TransposedConv, WideResidual

#: What is drawn as one box, the narrower kind first: colour and name.
KINDS = {
    WideResidual: ("#e69f00", "wide residual unit"),
    Residual: ("#56b4e9", "residual unit"),
    TransposedConv: ("#009e73", "transposed convolution"),
    NearestUpsample: ("#f0e442", "nearest neighbour"),
    nn.MaxPool2d: ("#bbbbbb", "max-pool"),
    nn.Conv2d: ("#cc79a7", "convolution"),
}


def kind_of(module: nn.Module):
    """The entry of `KINDS` that a module is drawn as; None for one that is not drawn."""
    return next((kind for kind in KINDS if isinstance(module, kind)), None)


def boxes(model: nn.Module, size: int = 256) -> list[tuple[str, type, int]]:
    """What runs, in order: name, kind, and the side of its output in pixels, for an input of ``size`` px.

    A unit is one box: what is inside it is not listed.
    """
    order, inside = [], set()
    for name, module in model.named_modules():
        if kind_of(module) and not any(name.startswith(f"{outer}.") for outer in inside):
            inside.add(name)

    def note(name):
        return lambda module, _inputs, y: order.append((name, kind_of(module), y.shape[-1]))

    hooks = [model.get_submodule(name).register_forward_hook(note(name)) for name in sorted(inside)]
    with torch.no_grad():
        model.eval()(torch.empty(1, 3, size, size, device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    return order


def draw_network(axis, model: StackedHourglass, title: str = "", size: int = 256) -> None:
    """A network's units from left to right as they run, at the height of their resolution; skip connections on top."""
    order = boxes(model, size)
    place = {name: (x, log2(side)) for x, (name, _, side) in enumerate(order)}
    axis.plot(*zip(*place.values(), strict=True), color="#999999", linewidth=0.8, zorder=0)
    for name, kind, _ in order:
        x, y = place[name]
        axis.add_patch(
            FancyBboxPatch((x - 0.3, y - 0.22), 0.6, 0.44, "round,pad=0.08", fc=KINDS[kind][0], ec="black", lw=0.5)
        )
    for name, module in model.named_modules():
        if isinstance(module, Hourglass):
            (x0, y0), (x1, _) = place[f"{name}.skip"], place[f"{name}.up.1"]
            axis.annotate("", (x1 - 0.4, y0), (x0 + 0.4, y0), arrowprops={"arrowstyle": "->", "lw": 0.8})
    sides = sorted({side for _, _, side in order})
    axis.set(xticks=[], yticks=[log2(s) for s in sides], yticklabels=sides, ylabel="pixels", title=title)
    axis.set(xlim=(-1, len(order)), ylim=(log2(sides[0]) - 0.6, log2(sides[-1]) + 1))
    axis.grid(False)
    used = {kind for _, kind, _ in order}
    handles = [
        plt.Rectangle((0, 0), 1, 1, fc=colour, ec="black", lw=0.5) for k, (colour, _) in KINDS.items() if k in used
    ]
    axis.legend(
        handles,
        [n for k, (_, n) in KINDS.items() if k in used],
        ncols=5,
        fontsize="small",
        frameon=False,
        loc="upper right",
    )


def draw_unit(axis, unit: Residual, title: str = "") -> None:
    """The branches of a residual unit side by side, one box a layer, from the input at the top to the sum."""
    branches = [(name, _layers(branch)) for name, branch in unit.named_children()]
    longest = max(len(layers) for _, layers in branches)
    for x, (name, layers) in enumerate(branches):
        axis.plot([x, x], [1, -longest - 0.5], color="#999999", zorder=0)
        axis.text(x, 1.1, name.upper(), ha="center", weight="bold")
        for y, layer in enumerate(layers):
            axis.text(
                x, -y, layer, ha="center", va="center", fontsize=8, bbox={"fc": "#dceefb", "ec": "black", "lw": 0.5}
            )
    axis.plot([0, len(branches) - 1], [-longest - 0.5] * 2, color="#999999")
    axis.text(
        (len(branches) - 1) / 2,
        -longest - 0.5,
        "+",
        ha="center",
        va="center",
        fontsize=14,
        bbox={"boxstyle": "circle", "fc": "white"},
    )
    axis.set(xlim=(-0.6, len(branches) - 0.4), ylim=(-longest - 1.2, 1.8), title=title)
    axis.axis("off")


def _layers(branch: nn.Module) -> list[str]:
    return [_label(layer) for layer in (branch if isinstance(branch, nn.Sequential) else [branch])]


def _label(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d):
        k = layer.kernel_size[0]
        return f"conv {k}×{k}, {layer.in_channels} → {layer.out_channels}"
    names = {
        nn.BatchNorm2d: "batch norm",
        nn.ReLU: "ReLU",
        nn.MaxPool2d: "max-pool 2",
        nn.Upsample: "upsample 2",
        nn.Identity: "nothing",
    }
    return names.get(type(layer), type(layer).__name__)
