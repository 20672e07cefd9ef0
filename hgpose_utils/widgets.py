"""Pictures that answer sliders. Without a kernel the same picture and a line of text stand in their place."""

from base64 import b64encode
from io import BytesIO

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hgpose_utils.heatmaps import decode
from hgpose_utils.plots import show_heatmap, show_person
from hgpose_utils.receptive_field import gradient_map, random_inputs, theoretical_field
from hgpose_utils.skeleton import JOINTS


class Explorer:
    """Controls above a picture. A subclass has `render(**state)`, one keyword a control, that returns PNG bytes.

    ``controls`` maps each keyword to an ipywidget with a ``value``; setting it redraws the picture.
    """

    text = "An interactive picture; run the notebook to use its controls."

    def __init__(self, **controls):
        self.controls = controls
        self.image = ipywidgets.Image(format="png")
        for control in controls.values():
            control.observe(self.redraw, "value")
        self.redraw()

    def render(self, **state) -> bytes:
        raise NotImplementedError

    def redraw(self, _change=None) -> None:
        """Draws the picture for the controls' present values."""
        self.image.value = self.render(**{name: control.value for name, control in self.controls.items()})

    def _repr_mimebundle_(self, **options):
        box = ipywidgets.VBox([*self.controls.values(), self.image])
        static = {"image/png": b64encode(self.image.value).decode(), "text/plain": self.text}
        return box._repr_mimebundle_(**options) | static


def to_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return file.getvalue()


class HeatmapExplorer(Explorer):
    """One person's heatmaps: choose the person, the joint, the stack, and how strongly the heatmap covers the picture.

    ``images`` [N, 3, H, W] as the network gets them; ``heatmaps`` one [N, 16, h, w] a stack; ``truth`` [N, 16, 2].
    """

    text = "Heatmap explorer: an input picture, the heatmap of one joint over it, and the joint's true place (a cross)."

    def __init__(self, images, heatmaps, truth):
        self.images, self.heatmaps, self.truth = images, heatmaps, truth
        slider = {"continuous_update": False}
        super().__init__(
            person=ipywidgets.IntSlider(0, 0, len(images) - 1, description="person", **slider),
            joint=ipywidgets.Dropdown(
                options=[(name, i) for i, name in enumerate(JOINTS)], value=9, description="joint"
            ),
            stack=ipywidgets.IntSlider(len(heatmaps), 1, len(heatmaps), description="stack", **slider),
            strength=ipywidgets.FloatSlider(0.8, min=0, max=1, step=0.1, description="strength", **slider),
        )

    def render(self, person: int, joint: int, stack: int, strength: float) -> bytes:
        figure = Figure((8, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        maps = self.heatmaps[stack - 1][person : person + 1]
        joints, confidence = decode(maps, quarter=True)
        show_person(left, self.images[person], joints[0], title="every joint's highest pixel")
        title = f"{JOINTS[joint]}, stack {stack}: peak {confidence[0, joint]:.2f}"
        show_heatmap(right, self.images[person], maps[0, joint], title, strength, top=max(1.0, float(maps.max())))
        right.plot(*self.truth[person, joint], "x", color="white", markersize=10, markeredgewidth=2)
        for axis in (left, right):
            axis.axis("off")
        return to_png(figure)


class ReceptiveFieldExplorer(Explorer):
    """One output pixel of a branch, and the input pixels that move it.

    ``paths`` maps a name to a module [B, channels, H, W] -> [B, …, H, W]; ``size`` is the input's side.
    """

    text = "Receptive-field explorer: the input pixels that move one output pixel, and the square that theory gives."

    def __init__(self, paths, channels: int, size: int = 32):
        self.size = size
        self.maps = {name: gradient_map(path, random_inputs(channels, size)).numpy() for name, path in paths.items()}
        self.fields = {name: theoretical_field(path) for name, path in paths.items()}
        super().__init__(path=ipywidgets.Dropdown(options=list(paths), value=list(paths)[-1], description="branch"))

    def render(self, path: str) -> bytes:
        figure = Figure((4.2, 4.2), layout="constrained")
        axis = figure.subplots()
        moved, field = self.maps[path], self.fields[path]
        axis.imshow(moved, cmap="magma")
        axis.grid(False)
        rows, columns = np.nonzero(moved)
        corner = columns.min() - 0.5, rows.min() - 0.5
        axis.add_patch(Rectangle(corner, field, field, fill=False, edgecolor="#56b4e9", linewidth=2))
        axis.plot(self.size // 2, self.size // 2, "+", color="#56b4e9", markersize=10, markeredgewidth=2)
        axis.set_title(f"branch {path}: {field} × {field} px")
        return to_png(figure)
