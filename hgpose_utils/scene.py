"""A picture of drawn people and what there is to know of them.

The parts of people are painted from far to near; the map of what is painted where says which joints are visible.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from hgpose_utils.body import ACTIVITIES, BUILD, Camera, body_points, sample_angles, turn
from hgpose_utils.drawing import DIRECTIONS, Canvas, body_parts, sample_clothes, sample_colour, stool_part
from hgpose_utils.skeleton import JOINTS

#: The parts that a joint lies in, which therefore never hide it.
HOME = {"pelvis": "torso r_thigh l_thigh", "thorax": "torso neck", "upper_neck": "neck head", "head_top": "head"}
for _side in "rl":
    HOME |= {f"{_side}_ankle": f"{_side}_shin {_side}_foot", f"{_side}_knee": f"{_side}_thigh {_side}_shin"}
    HOME |= {f"{_side}_hip": f"{_side}_thigh", f"{_side}_shoulder": f"{_side}_upper_arm"}
    HOME |= {f"{_side}_wrist": f"{_side}_forearm {_side}_hand", f"{_side}_elbow": f"{_side}_upper_arm {_side}_forearm"}
MIDDLE_OF = {"r_hip": "pelvis", "l_hip": "pelvis", "r_shoulder": "thorax", "l_shoulder": "thorax"}
SIDEWAYS = 0.6  #: a hip or shoulder is behind the trunk where the line from the trunk's middle to it is this steep


@dataclass
class Person:
    """A body before a camera, upright or tumbling."""

    points: dict
    parts: list
    camera: Camera
    upright: bool

    @classmethod
    def sample(cls, rng, look, stature):
        """Someone of random pose and build, seen from anywhere (`rng`), in random clothes (`look`), at pixel (0, 0)."""
        weights = np.array([often for often, *_ in ACTIVITIES.values()], float)
        activity = list(ACTIVITIES)[rng.choice(len(weights), p=weights / weights.sum())]
        build = {name: rng.uniform(*limits) for name, limits in BUILD.items()}
        points, pelvis, chest, head = body_points(*sample_angles(rng, activity), build)
        upright = rng.random() > 0.07
        roll = rng.normal(0, 4) if upright else rng.uniform(-180, 180)
        elevation = float(np.clip(rng.normal(6, 9), -15, 35))
        rotation = turn("z", roll) @ turn("x", elevation) @ turn("y", rng.uniform(0, 360))
        camera = Camera(rotation, rng.uniform(2.2, 5.5), stature)
        parts = body_parts(points, pelvis, chest, head, build, sample_clothes(look), rotation[2])
        if activity == "sitting" and upright:
            parts.append(stool_part(look, pelvis))
        return cls(points, parts, camera, upright)

    def bounds(self):
        """Corners (left, top), (right, bottom) of the person in pixels."""
        xy, _, zoom = self.camera.project(np.stack(list(self.points.values())))
        return (xy - 0.02 * zoom[:, None]).min(0), (xy + 0.02 * zoom[:, None]).max(0)

    def place(self, rng, size, cut=False, floor=None):
        """Move the person into a picture, whole where it fits or, if `cut`, over a border; lowest pixel `floor`."""
        low, high = self.bounds()
        free = size - 1 - (high - low)
        target = free * np.where(free > 0, rng.uniform(0, 1, 2), rng.uniform(0.4, 0.6, 2))
        if cut:
            over = rng.uniform(0.08, 0.3) * (high - low)
            side = rng.integers(4)
            target[side // 2] = -over[side // 2] if side % 2 else free[side // 2] + over[side // 2]
        if floor is not None:
            target[1] = np.clip(floor - (high - low)[1], 0, max(free[1], 0))
        self.camera.origin = self.camera.origin + target - low

    def paint(self, canvas, owner, light):
        """Paint the shadow on the ground, then the parts from far to near."""
        ground = min(point[1] for point in self.points.values()) - 0.01
        for radius, brightness in ((0.24, 0.9), (0.19, 0.8), (0.14, 0.7)) if self.upright else ():
            ring = np.insert(DIRECTIONS * radius, 1, ground, axis=1)
            canvas.shadow(self.camera.project(ring)[0], brightness)
        seen = []
        for part in self.parts:
            pieces, depths = [], []
            for centres, radii, colour in part.pieces:
                xy, depth, zoom = self.camera.project(centres)
                pieces.append((xy, radii * zoom, colour))
                depths.append(depth.mean())
            seen.append((np.mean(depths) - part.nearer, part, pieces))
        for _, part, pieces in sorted(seen, key=lambda row: -row[0]):
            canvas.paint(owner, part.name, pieces, light, part.flat)

    def head_box(self):
        """The box (x1, y1, x2, y2) around skull and hair, in pixels."""
        skull, cap = [part.pieces[0] for part in self.parts if part.name == "head"][:2]
        xy, _, zoom = self.camera.project(np.concatenate([skull[0], cap[0]]))
        radii = (np.concatenate([skull[1], cap[1]]) * zoom)[:, None]
        return (*(xy - radii).min(0).tolist(), *(xy + radii).max(0).tolist())

    def behind_trunk(self, joint):
        """Whether a hip or shoulder is on the far side of a trunk that is seen from the side."""
        across = self.points[joint] - self.points[MIDDLE_OF[joint]]
        return self.camera.rotation[2] @ across < -SIDEWAYS * np.linalg.norm(across)

    def visible(self, canvas, owner, joint, xy):
        """Whether nothing nearer than the parts it lies in is painted over a joint, at the pixel `xy`."""
        part = canvas.part_at(xy)
        own = HOME[joint].split()
        if joint in MIDDLE_OF and not self.behind_trunk(joint):
            own.append("torso")
        return part is None or (part[0] == owner and part[1] in own)

    def annotation(self, canvas, owner, jitter):
        """What render_person says of a person, once all is painted."""
        xy, _, _ = self.camera.project(np.stack([self.points[name] for name in JOINTS]))
        inside = ((xy >= 0) & (xy <= canvas.size - 1)).all(1)
        visible = [bool(i) and self.visible(canvas, owner, *at) for i, *at in zip(inside, JOINTS, xy, strict=True)]
        low, high = self.bounds()
        scale = self.camera.stature / 200
        return {
            "joints": np.where(inside[:, None], xy, np.nan),
            "visible": np.array(visible),
            "center": (low + high) / 2 + jitter * scale,
            "scale": scale,
            "head_box": self.head_box(),
        }


PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg", "brick.png", "grass.png", "gravel.png", "coins.png")  # no people


@lru_cache(1)
def photos():
    """The pictures without people that scikit-image carries inside its package; none if they are not there."""
    package = find_spec("skimage")
    folder = Path(package.origin).parent / "data" if package and package.origin else Path()
    return [Image.open(folder / name).convert("RGB") for name in PHOTOS if (folder / name).is_file()]


def gradient(rng, size):
    corners = np.stack([sample_colour(rng) for _ in range(4)]).reshape(2, 2, 3).astype(np.uint8)
    return Image.fromarray(corners).resize((size, size), Image.Resampling.BICUBIC)


def noise(rng, size):
    picture = gradient(rng, size)
    for cells in (5, 20, 80):
        values = rng.uniform(0, 255, (cells, cells, 1)) + rng.normal(0, 25, (cells, cells, 3))
        layer = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        picture = Image.blend(picture, layer.resize((size, size), Image.Resampling.BICUBIC), rng.uniform(0.05, 0.3))
    return picture


def clutter(rng, size):
    picture = gradient(rng, size)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(5, 30)):
        colour, corner = tuple(sample_colour(rng).astype(int).tolist()), rng.uniform(-0.2, 1, 2) * size
        box = [*corner, *(corner + rng.uniform(0.03, 0.45, 2) * size)]
        shape = rng.integers(3)
        if shape == 2:
            draw.line(box, fill=colour, width=int(rng.integers(1, 14)))
        else:
            (draw.rectangle, draw.ellipse)[shape](box, fill=colour)
    return picture


def room(rng, size):
    """A wall and a floor."""
    wall, floor = gradient(rng, size), noise(rng, size)
    horizon = int(size * rng.uniform(0.25, 0.7))
    wall.paste(floor.crop((0, horizon, size, size)), (0, horizon))
    return wall


def photo(rng, size):
    """A tinted crop of a picture that comes with scikit-image."""
    if not photos():
        return gradient(rng, size)
    picture = photos()[rng.integers(len(photos()))]
    side = int(rng.uniform(0.45, 1) * min(picture.size))
    x, y = (int(rng.integers(0, length - side + 1)) for length in picture.size)
    crop = picture.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
    return Image.blend(crop, gradient(rng, size), rng.uniform(0, 0.5))


def background(rng, size):
    kinds = (gradient, noise, clutter, room, photo)
    return kinds[rng.choice(5, p=(0.1, 0.2, 0.2, 0.2, 0.3))](rng, size)


def front_object(rng, low, high):
    """Pieces of a disc, a pillar or a box that covers part of the rectangle from `low` [2] to `high` [2]."""
    extent = (high - low).max()
    middle, colour = rng.uniform(low, high), rng.uniform(20, 235, 3)
    kind = rng.integers(3)
    if kind == 0:
        return [(middle[None], np.array([extent * rng.uniform(0.07, 0.16)]), colour)]
    if kind == 1:
        ends = middle + np.array([(rng.normal(0, 0.06) * extent, -9 * extent), (0, 9 * extent)])
        return [(ends, np.full(2, extent * rng.uniform(0.03, 0.07)), colour)]
    half = extent * rng.uniform(0.08, 0.2, 2)
    corners = middle + half * [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    lid = np.concatenate([corners[:2], corners[:2] + half * [(0.25, -0.25), (-0.25, -0.25)]])
    return [(corners, np.full(4, 1.5), colour * 0.8), (lid, np.full(4, 1.5), colour)]


def develop(rng, pixels):
    """A camera's touch on pixels [size,size,3]: another exposure, now and then some noise and some blur."""
    pixels = pixels * rng.uniform(0.85, 1.12, 3).astype(np.float32)
    if rng.random() < 0.5:
        pixels += rng.standard_normal((*pixels.shape[:2], 1), np.float32) * np.float32(rng.uniform(1, 7))
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9))) if rng.random() < 0.35 else picture


def render_person(seed: int, size: int = 320) -> tuple[Image.Image, list[dict]]:
    """A picture of a person made here, sometimes with a second one behind, and what there is to know about them.

    Parameters
    ----------
    seed : the same seed gives the same people everywhere.
    size : side of the picture in pixels.

    Returns
    -------
    picture : PIL image, RGB, size x size.
    people : a dict for each person, the main one first:
        joints [16,2] in pixels, (0, 0) the centre of the top left pixel, NaN outside the picture;
        visible [16] bool, False where something nearer covers the joint or it is outside the picture;
        center [2] in pixels; scale, the stature in pixels / 200; head_box (x1, y1, x2, y2) in pixels.
    """
    pose, look, scene = (np.random.default_rng([seed, stream]) for stream in range(3))
    light = np.array([scene.choice([-1, 1]) * scene.uniform(0.2, 0.8), -0.6])
    main = Person.sample(pose, look, size * pose.uniform(0.38, 0.85))
    main.place(pose, size, cut=pose.random() < 0.15)
    people = [main]
    if pose.random() < 0.2:
        other = Person.sample(pose, look, main.camera.stature * pose.uniform(0.4, 0.75))
        (_, top), (_, bottom) = main.bounds()
        other.place(pose, size, floor=bottom - pose.uniform(0, 0.3) * (bottom - top))  # farther is higher
        people.append(other)
    canvas = Canvas(background(scene, size))
    for owner in reversed(range(len(people))):
        people[owner].paint(canvas, owner, light)
    if pose.random() < 0.25:
        canvas.paint(None, "front", front_object(pose, *main.bounds()), light)
    annotations = [p.annotation(canvas, i, pose.normal((0, -6), 5)) for i, p in enumerate(people)]
    return develop(scene, canvas.finished()), annotations
