"""Pictures that answer sliders. Without a kernel the same picture and a line of text stand in their place."""

import math
from base64 import b64encode
from functools import lru_cache
from html import escape

import ipywidgets
import numpy as np
import torch
from PIL import Image, ImageDraw

from hgpose_utils.augment import Jitter, warp
from hgpose_utils.crops import cut, read_photo
from hgpose_utils.files import HgposeError
from hgpose_utils.heatmaps import decode
from hgpose_utils.models import Residual, WideResidual
from hgpose_utils.overlay import (
    FOUND,
    TRUTH,
    draw_cross,
    draw_pose,
    draw_ring,
    lay_over,
    side_by_side,
    to_image,
    to_png,
)
from hgpose_utils.predict import PosePredictor
from hgpose_utils.receptive_field import gradient_map, random_inputs, seen_from
from hgpose_utils.skeleton import JOINTS

PANEL = 320  # side of a panel in pixels
LARGEST_UPLOAD = 10_000_000  # bytes


class Explorer:
    """Controls above a picture, and a line that says what it shows.

    A subclass has `render(**state)`, one keyword a control, that returns PNG bytes, and `describe(**state)`, a line.
    ``controls`` maps each keyword to an ipywidget with a ``value``; setting it redraws the picture.
    """

    text = "An interactive picture; run the notebook to use its controls."

    def __init__(self, *others, **controls):
        self.controls, self.others = controls, others
        self.image = ipywidgets.Image(format="png", layout={"max_width": "100%", "align_self": "flex-start"})
        self.caption = ipywidgets.HTML()
        for control in controls.values():
            control.observe(self.redraw, "value")
        self.redraw()

    def render(self, **state) -> bytes:
        raise NotImplementedError

    def describe(self, **state) -> str:
        raise NotImplementedError

    def redraw(self, _change=None) -> None:
        """Draws the picture for the controls' present values."""
        state = {name: control.value for name, control in self.controls.items()}
        self.image.value = self.render(**state)
        self.say(self.describe(**state))

    def say(self, line: str) -> None:
        """Puts a line below the picture."""
        self.caption.value = escape(line, quote=False)

    def _repr_mimebundle_(self, **options):
        wrap = ipywidgets.Layout(flex_flow="row wrap", max_width="960px")
        box = ipywidgets.VBox(
            [ipywidgets.Box([*self.controls.values(), *self.others], layout=wrap), self.image, self.caption]
        )
        static = {
            "image/png": b64encode(self.image.value).decode(),
            "text/plain": f"{self.text} {self.caption.value}",
        }
        return box._repr_mimebundle_(**options) | static


def slider(name: str, value, low, high, step=1):
    """A slider that answers when it is let go; the arrow keys move it by a step."""
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return kind(value, min=low, max=high, step=step, description=name, continuous_update=False)


class HeatmapExplorer(Explorer):
    """What networks see in people, or in a photo of one's own, and how turning, zooming, covering changes it.

    ``predictors`` maps names to `PosePredictor`s; ``crops`` uint8 [N, 3, S, S] as from `Crops.images`; ``truth``
    [N, 16, 2] in pixels of the crops, NaN where it is not known.
    """

    text = "Heatmap explorer: an input with the pose that is found, and the heatmap of one joint over the same input."

    def __init__(self, predictors: dict[str, PosePredictor], crops, truth):
        self.predictors, self.crops, self.truth = predictors, list(crops), [torch.as_tensor(t).float() for t in truth]
        self.run = lru_cache(64)(self._run)
        first = next(iter(predictors.values()))
        stacks = max(len(predictor.model.heads) for predictor in predictors.values())
        about = f"your photo (at most {LARGEST_UPLOAD // 10**6} MB)"
        self.upload = ipywidgets.FileUpload(accept="image/*", description=about, layout={"width": "auto"})
        self.upload.observe(self._take_upload, "value")
        joints = [("all", -1), *((name, i) for i, name in enumerate(JOINTS))]
        super().__init__(
            self.upload,
            person=slider("person", 0, 0, len(self.crops) - 1),
            joint=ipywidgets.Dropdown(options=joints, value=9, description="joint"),
            stack=slider("stack", len(first.model.heads), 1, stacks),
            network=ipywidgets.Dropdown(options=list(predictors), description="network"),
            strength=slider("strength", 0.8, 0.0, 1.0, 0.1),
            truth=ipywidgets.Checkbox(True, description="truth (cross)"),
            rotate=slider("rotate °", 0, -90, 90, 5),
            scale=slider("scale", 1.0, 0.6, 1.6, 0.1),
            flip=ipywidgets.Checkbox(False, description="flip"),
            cover=slider("cover %", 0, 0, 50, 5),
            cover_x=slider("cover x %", 50, 0, 100, 5),
            cover_y=slider("cover y %", 50, 0, 100, 5),
        )

    def add(self, photo) -> None:
        """Adds a photo (see `crops.read_photo`) as the last person, cut out where the first network is surest."""
        photo = read_photo(photo, upright=True)
        boxes, _, _ = next(iter(self.predictors.values())).find([photo])
        self.crops.append(cut(photo, boxes[0], self.crops[0].shape[-1]))
        self.truth.append(torch.full((len(JOINTS), 2), torch.nan))
        self.controls["person"].max = len(self.crops) - 1
        for name, value in {
            "rotate": 0,
            "scale": 1.0,
            "flip": False,
            "cover": 0,
            "person": len(self.crops) - 1,
        }.items():
            self.controls[name].value = value

    def _take_upload(self, change) -> None:
        for file in change["new"]:
            try:
                if file["size"] > LARGEST_UPLOAD:
                    raise HgposeError(f"{file['size'] / 1e6:.0f} MB are too many: at most {LARGEST_UPLOAD // 10**6}")
                self.add(bytes(file["content"]))
            except HgposeError as e:
                self.say(f"{file['name']}: {e}")

    @torch.inference_mode()
    def _run(self, network, person, rotate, scale, flip, cover, cover_x, cover_y):
        """The changed input [3, H, W], its true joints [16, 2], and the heatmaps [16, h, w] of each stack."""
        predictor = self.predictors[network]
        jitter = Jitter(*(torch.tensor([v]) for v in (math.radians(rotate), 1 / scale, flip, [1.0, 1.0, 1.0])))
        images, truth = warp(self.crops[person][None], self.truth[person][None], jitter, predictor.size)
        side, half = predictor.size, cover * predictor.size // 200
        x, y = side * cover_x // 100, side * cover_y // 100
        images[..., max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0  # mid grey
        return images[0], truth[0], [heatmaps[0] for heatmaps in predictor.heatmaps(images)]

    def _look(self, joint, stack, network, change):
        image, truth, heatmaps = self.run(network, **change)
        heatmaps = heatmaps[min(stack, len(heatmaps)) - 1]
        found, confidence = decode(heatmaps[None], quarter=True)
        return image, truth, heatmaps, found[0], confidence[0]

    def render(self, joint: int, stack: int, network: str, strength: float, truth: bool, **change) -> bytes:
        image, true, heatmaps, found, _ = self._look(joint, stack, network, change)
        zoom = PANEL / image.shape[-1]
        picture = to_image(image).resize((PANEL, PANEL), Image.Resampling.BILINEAR)
        values = heatmaps.amax(0) if joint < 0 else heatmaps[joint]
        right = lay_over(picture, values, strength, top=max(0.5, float(heatmaps.max())))
        draw_pose(picture, found, zoom, width=3)
        for i in range(len(JOINTS)) if joint < 0 else [joint]:
            draw_ring(right, (found[i].numpy() + 0.5) * zoom, FOUND, 3 if joint < 0 else 8)
            if truth:
                draw_cross(right, (true[i].numpy() + 0.5) * zoom, TRUTH, 3 if joint < 0 else 8)
        return to_png(side_by_side(picture, right))

    def describe(self, joint: int, stack: int, network: str, strength: float, truth: bool, **change) -> str:
        image, true, _, found, confidence = self._look(joint, stack, network, change)
        off = (found - true).norm(dim=-1) * 100 / image.shape[-1]
        if joint < 0:
            return f"{network}: confidence {confidence.mean():.2f} on average over the joints (rings)"
        away = "" if off[joint].isnan() else f", {off[joint]:.0f} % of the side away from the truth (cross)"
        return f"{network}, {JOINTS[joint]} (ring): confidence {confidence[joint]:.2f}{away}"


class ReceptiveFieldExplorer(Explorer):
    """One output pixel of a unit or of one of its branches, and the input pixels that move it.

    ``units`` maps names to modules [B, channels, H, W] -> [B, …, H, W]; ``picture`` uint8 [3, S, S] lies below, one
    input pixel covering a square of it; ``size`` is the input's side.
    """

    text = "Receptive-field explorer: the input pixels that move one output pixel, and the square that theory gives."

    def __init__(self, units: dict, channels: int, picture, size: int = 32):
        self.paths = {name: branches(unit) for name, unit in units.items()}
        self.picture = to_image(picture).resize((PANEL, PANEL), Image.Resampling.BILINEAR)
        self.inputs, self.size = random_inputs(channels, size, samples=8), size
        self.measure = lru_cache(256)(self._measure)
        last = list(units)[-1]
        unit = ipywidgets.Dropdown(options=list(units), value=last, description="unit")
        unit.observe(self._offer_branches, "value")
        super().__init__(
            unit=unit,
            branch=ipywidgets.Dropdown(options=list(self.paths[last]), description="branch"),
            x=slider("x", size // 2, 0, size - 1),
            y=slider("y", size // 2, 0, size - 1),
        )

    def _offer_branches(self, change) -> None:
        branch = self.controls["branch"]
        kept, branch.options = branch.value, list(self.paths[change["new"]])
        if kept in branch.options:
            branch.value = kept

    def _measure(self, unit, branch, x, y) -> np.ndarray:
        return gradient_map(self.paths[unit][branch], self.inputs, (x, y)).numpy()

    def render(self, unit: str, branch: str, x: int, y: int) -> bytes:
        moved, cell = self.measure(unit, branch, x, y), PANEL / self.size
        image = lay_over(self.picture, moved**0.3)  # the root lifts faint pixels into view
        path, pen = self.paths[unit][branch], ImageDraw.Draw(image)
        (left, right), (top, bottom) = (seen_from(path, place) for place in (x, y))
        pen.rectangle(
            [left * cell, top * cell, (right + 1) * cell - 1, (bottom + 1) * cell - 1], outline=FOUND, width=3
        )
        draw_cross(image, (np.array([x, y]) + 0.5) * cell, TRUTH, 5)
        return to_png(image)

    def describe(self, unit: str, branch: str, x: int, y: int) -> str:
        first, last = seen_from(self.paths[unit][branch], x)
        rows, columns = self.measure(unit, branch, x, y).nonzero()
        wide, high = np.ptp(columns) + 1, np.ptp(rows) + 1
        theory = last - first + 1
        return (
            f"{unit}, branch {branch}: the output pixel at ({x}, {y}) (cross) sees {theory} × {theory} pixels in "
            f"theory (frame), {wide} × {high} measured inside the picture (bright)"
        )


def branches(unit) -> dict:
    """A residual unit as a whole and its branches one by one; of anything else, the whole."""
    parts = {"all": unit}
    if isinstance(unit, Residual):
        parts |= {"A": unit.a, "B": unit.b}
    if isinstance(unit, WideResidual):
        parts |= {"C": unit.c}
    return parts
