"""Every picture of the course: skeletons, heatmaps, curves. The same network has the same colour everywhere."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown

from hgpose_utils.skeleton import JOINTS, LIMBS

#: Okabe and Ito's colours, told apart by the colour-blind too; more stacks, a more solid line.
COLOURS = {"hg": "#0072b2", "hru": "#e69f00", "new": "#009e73"}
CONTROL = "#cc79a7"  # of networks that the report does not have
LINES = {1: ":", 2: "--", 8: "-"}


def use_style() -> None:
    """Sets matplotlib's defaults for the course: light axes, readable at half size, small files."""
    plt.rcParams.update(
        {
            "figure.dpi": 80,
            "savefig.dpi": 120,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "image.cmap": "magma",
        }
    )


def grid(count: int, columns: int, size: float = 2.2):
    """A figure with ``count`` bare axes in rows of ``columns``; returns the figure and the axes as a flat array."""
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size, rows * size), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes.ravel()


def to_picture(image) -> np.ndarray:
    """A network input [3, H, W] in -0.5 … 0.5, or a uint8 tensor or array, as [H, W, 3] for ``imshow``."""
    if isinstance(image, torch.Tensor):
        image = image.movedim(0, -1).cpu().numpy()
    return image if image.dtype == np.uint8 else np.clip(image + 0.5, 0, 1)


def draw_skeleton(axis, joints, visible=None, width: float = 2.0) -> None:
    """Draws joints [16, 2] over a picture: orange is the person's right, blue the left; hidden joints are hollow."""
    joints = np.asarray(joints, float)
    seen = np.ones(len(JOINTS), bool) if visible is None else np.asarray(visible, bool)
    for a, b, colour in LIMBS:
        axis.plot(*joints[[a, b]].T, color=colour, linewidth=width, solid_capstyle="round")
    x, y = joints.T
    axis.scatter(x[seen], y[seen], s=8 * width, color="white", edgecolor="black", linewidth=0.5, zorder=3)
    axis.scatter(x[~seen], y[~seen], s=8 * width, facecolor="none", edgecolor="white", linewidth=1, zorder=3)


def show_person(axis, image, joints=None, visible=None, title: str = "", width: float = 2.0) -> None:
    """A picture with its skeleton, cut to the picture's own frame."""
    picture = to_picture(image)
    axis.imshow(picture)
    if joints is not None:
        draw_skeleton(axis, joints, visible, width)
    axis.set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5), title=title)


def show_heatmap(axis, image, heatmap, title: str = "", strength: float = 1.0, top: float | None = None) -> None:
    """A heatmap [h, w] laid over its input image [3, H, W] in grey; the higher a pixel, the less shines through.

    ``top`` is the value of the brightest colour; without it the heatmap's own maximum.
    """
    picture, heatmap = to_picture(image), np.asarray(heatmap, float)
    frame = (-0.5, picture.shape[1] - 0.5, picture.shape[0] - 0.5, -0.5)
    top = max(heatmap.max() if top is None else top, 1e-6)
    cover = strength * np.clip(heatmap / top, 0, 1) ** 0.5
    axis.imshow(
        0.8 * picture.mean(-1) / (255 if picture.dtype == np.uint8 else 1), "gray", vmin=0, vmax=1, extent=frame
    )
    axis.imshow(heatmap, extent=frame, alpha=cover, vmin=0, vmax=top, interpolation="nearest")
    axis.set_title(title, fontsize="medium")


def plot_accuracy(rows, axis=None, title: str = ""):
    """PCK against the epoch, a line a network, named at its end: its seeds' mean in their range. Returns the axes."""
    axis = axis or plt.subplots(figsize=(7, 4.2))[1]
    ends = []
    for network, run in rows.groupby("network"):
        seeds = run.groupby("epoch").pck
        curve = seeds.mean()
        marker = "o" if len(curve) < 4 else None
        style, colour = LINES.get(run.stacks.iloc[0], "-."), colour_of(network)
        axis.plot(curve.index, curve, style, color=colour, marker=marker, markersize=4)
        axis.fill_between(curve.index, seeds.min(), seeds.max(), color=colour, alpha=0.15, linewidth=0)
        ends.append((curve.iloc[-1], network, colour))
    low, high = axis.get_ylim()
    ends.sort()
    at_the_right = axis.get_yaxis_transform()  # x in widths of the axes, y in PCK
    for (_, name, colour), y in zip(ends, _spread([e[0] for e in ends], (high - low) / 20, high), strict=True):
        axis.text(1.01, y, name, color=colour, va="center", transform=at_the_right)
    axis.set(xlabel="epoch", ylabel="validation PCK", title=title)
    axis.xaxis.get_major_locator().set_params(integer=True)
    return axis


def plot_differences(table, axis=None):
    """`results.differences` in points of PCK: dots, thick intervals over people, thin ones over seeds (cut off).

    Returns the axes.
    """
    axis = axis or plt.subplots(figsize=(7, 0.6 + 0.4 * len(table)))[1]
    places, colours = range(len(table))[::-1], [colour_of(pair.split(" ")[0]) for pair in table.index]
    axis.axvline(0, color="black", linewidth=1)
    axis.hlines(places, table["from"], table["to"], colours, linewidth=2.5)
    axis.scatter(table["ahead by"], places, 64, colours, zorder=3)
    axis.set_xlim(axis.get_xlim())
    axis.hlines(places, table["seeds from"], table["seeds to"], colours, linewidth=0.8)
    axis.set(yticks=range(len(table)), yticklabels=table.index[::-1], xlabel="points of PCK ahead")
    return axis


def colour_of(network: str) -> str:
    """The colour of "HRU-s2": its model's, and another one for what the report does not have ("HG532-s1")."""
    model, stacks = network.split("-s", 1)
    return COLOURS.get(model.lower(), CONTROL) if stacks.isdecimal() else CONTROL


def marker_of(network: str) -> str:
    """The marker of "HRU-s2": a dot for one stack, a square for two, a triangle for eight."""
    return {"1": "o", "2": "s", "8": "^"}.get(network.rpartition("-s")[2], "D")


def show_source(*parts):
    """The source of functions or classes, to be read in a notebook."""
    return Markdown("\n".join(f"```python\n{inspect.getsource(part)}```\n" for part in parts))


def _spread(values: list[float], gap: float, highest: float) -> list[float]:
    """Sorted positions moved apart until labels at them do not overlap, and down until none is above ``highest``."""
    placed = np.array(values, float)
    for _ in range(200):
        for i in range(len(placed) - 1):
            overlap = gap - (placed[i + 1] - placed[i])
            if overlap > 1e-9:
                placed[i] -= overlap / 2
                placed[i + 1] += overlap / 2
    return (placed - max(placed[-1] - highest, 0)).tolist()
