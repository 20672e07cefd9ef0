"""Poses and heatmaps laid over pictures with Pillow: plainer than `plots`, and fast enough for sliders."""

from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from hgpose_utils.files import replacing
from hgpose_utils.skeleton import LIMBS

TRUTH = "#ffffff"  # where the person's joint is
FOUND = "#56b4e9"  # where the network sees it


def to_image(picture) -> Image.Image:
    """A photo uint8 [3, H, W], or a network's input [3, H, W] in -0.5 … 0.5, as an RGB image."""
    pixels = torch.as_tensor(picture).movedim(0, -1).cpu()
    if pixels.dtype != torch.uint8:
        pixels = ((pixels + 0.5).clamp(0, 1) * 255).round().byte()
    return Image.fromarray(pixels.numpy())


def draw_pose(image: Image.Image, joints, zoom: float = 1.0, width: int | None = None) -> None:
    """Draws joints [16, 2] (times ``zoom``) as a skeleton into an image: orange is the person's right, blue the left.

    Joints that are NaN, and their limbs, are left out.
    """
    pen = ImageDraw.Draw(image)
    width = width or max(2, round(max(image.size) / 120))
    points = (np.asarray(joints, float) + 0.5) * zoom - 0.5
    for a, b, colour in LIMBS:
        if not np.isnan(points[[a, b]]).any():
            pen.line([tuple(points[a]), tuple(points[b])], colour, width)
    for point in points[~np.isnan(points).any(1)]:
        pen.circle(tuple(point), 0.8 * width, "white", "black", max(1, width // 4))


def draw_cross(image: Image.Image, point, colour: str, radius: int = 8, width: int = 2) -> None:
    """Draws a cross with a dark rim at a point [2]; nothing for NaN."""
    if not np.isnan(point).any():
        (x, y), pen = point, ImageDraw.Draw(image)
        for ink, extra in (("black", 2), (colour, 0)):
            for step in (1, -1):
                pen.line([(x - radius, y - step * radius), (x + radius, y + step * radius)], ink, width + extra)


def draw_ring(image: Image.Image, point, colour: str, radius: int = 8, width: int = 3) -> None:
    """Draws a ring with a dark rim around a point [2]."""
    pen = ImageDraw.Draw(image)
    pen.circle(tuple(point), radius + 1, outline="black", width=width + 2)
    pen.circle(tuple(point), radius, outline=colour, width=width)


def lay_over(image: Image.Image, values, strength: float = 1.0, top: float | None = None) -> Image.Image:
    """Values [h, w] from 0, in magma's colours over the image in grey; the higher a value, the less shines through.

    ``top`` is the value of the brightest colour; without it the highest of them.
    """
    values = np.asarray(values, float)
    values = np.clip(values / max(values.max() if top is None else top, 1e-6), 0, 1)
    colours = Image.fromarray(matplotlib.colormaps["magma"](values, bytes=True)[..., :3])
    cover = Image.fromarray((255 * strength * values**0.5).astype(np.uint8))
    grey = image.convert("L").point(lambda v: 0.8 * v).convert("RGB")
    nearest = Image.Resampling.NEAREST
    grey.paste(colours.resize(image.size, nearest), mask=cover.resize(image.size, nearest))
    return grey


def side_by_side(*images: Image.Image, gap: int = 8) -> Image.Image:
    """Images of one height in a row, on white."""
    row = Image.new("RGB", (sum(i.width + gap for i in images) - gap, max(i.height for i in images)), "white")
    left = 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + gap
    return row


def save_learning(picture, heatmaps, file, seconds: float = 0.7) -> None:
    """Writes a moving GIF: the heatmaps [epochs, stacks, h, w] of a joint over a network's input, epoch after epoch.

    One panel a stack, all in the same colours; the last epoch stays twice as long as three others.
    """
    heatmaps = torch.as_tensor(heatmaps)
    image, top = to_image(picture).resize((192, 192)), max(0.3, float(heatmaps.max()))
    frames = []
    for epoch, stacks in enumerate(heatmaps, 1):
        panels = [image, *(lay_over(image, heatmap, top=top) for heatmap in stacks)]
        titles = [f"after epoch {epoch}", *(f"stack {stack}" for stack in range(1, len(panels)))]
        frames.append(side_by_side(*(titled(*pair) for pair in zip(panels, titles, strict=True))))
    lasting = [round(1000 * seconds)] * (len(frames) - 1) + [round(6000 * seconds)]
    with replacing(Path(file)) as temporary:
        frames[0].save(temporary, "GIF", save_all=True, append_images=frames[1:], duration=lasting, loop=0)


def titled(image: Image.Image, title: str) -> Image.Image:
    """The image under a line of text."""
    out = Image.new("RGB", (image.width, image.height + 22), "white")
    ImageDraw.Draw(out).text((4, 2), title, "black", font=ImageFont.load_default(14))
    out.paste(image, (0, 22))
    return out


def to_png(image: Image.Image) -> bytes:
    """An image as the bytes of a PNG file."""
    file = BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
