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
HOME = {"upper_neck": "neck head", "head_top": "head"}
for _side in "rl":
    HOME |= {f"{_side}_ankle": f"{_side}_shin {_side}_foot", f"{_side}_knee": f"{_side}_thigh {_side}_shin"}
    HOME |= {f"{_side}_hip": f"{_side}_thigh", f"{_side}_shoulder": f"{_side}_upper_arm"}
    HOME |= {f"{_side}_wrist": f"{_side}_forearm {_side}_hand", f"{_side}_elbow": f"{_side}_upper_arm {_side}_forearm"}
#: MPII derives the pelvis and the thorax from the hips and the shoulders: the middle of two, known where both are
#: known and seen where both are seen.
ENDS_OF = {"pelvis": ("r_hip", "l_hip"), "thorax": ("r_shoulder", "l_shoulder")}
OPPOSITE = {a: b for ends in ENDS_OF.values() for a, b in (ends, ends[::-1])}
#: A hip or shoulder is behind the trunk where the line to it from its opposite is this steep: the sine of the turn at
#: which MPII's annotators begin to call it hidden.
SIDEWAYS = {"hip": 0.9, "shoulder": 0.82}
HEAD_BREADTH = 0.6  #: in lengths of the head
CENTER_SPREAD = 0.043  #: of MPII's centres round the middle of the annotated joints, in heights
HEADS_TALL = 6  #: MPII's scale is that of somebody this many heads tall, whatever of the body is to be seen


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
        upright = rng.random() > 0.1
        roll = rng.normal(0, 4 if upright else 60)
        elevation = float(np.clip(rng.normal(8, 18), -25, 60))
        azimuth = rng.normal(0, 40) if rng.random() < 0.45 else rng.uniform(0, 360)  # many face their photographer
        rotation = turn("z", roll) @ turn("x", elevation) @ turn("y", azimuth)
        camera = Camera(rotation, rng.uniform(2.2, 5.5), stature)
        parts = body_parts(points, pelvis, chest, head, build, sample_clothes(look), rotation[2])
        if activity == "sitting" and upright:
            parts.append(stool_part(look, pelvis))
        return cls(points, parts, camera, upright)

    def bounds(self):
        """Corners (left, top), (right, bottom) of the person in pixels."""
        xy, _, zoom = self.camera.project(np.stack(list(self.points.values())))
        return (xy - 0.02 * zoom[:, None]).min(0), (xy + 0.02 * zoom[:, None]).max(0)

    def place(self, rng, size, below=0.0, aside=0.0, floor=None):
        """Move the person into a picture, whole where it fits, to the lowest pixel `floor` if there is one.

        The shares `below` and `aside` of the person's height and breadth are left outside, beyond the lower border
        and beyond the left or the right one.
        """
        low, high = self.bounds()
        free = size - 1 - (high - low)
        target = free * np.where(free > 0, rng.uniform(0, 1, 2), rng.uniform(0.4, 0.6, 2))
        if below:
            target[1] = free[1] + below * (high - low)[1]
        if aside:
            over = aside * (high - low)[0]
            target[0] = -over if rng.random() < 0.5 else free[0] + over
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
        across = self.points[joint] - self.points[OPPOSITE[joint]]
        return self.camera.rotation[2] @ across < -SIDEWAYS[joint[2:]] * np.linalg.norm(across)

    def visible(self, canvas, owner, joint, xy):
        """Whether nothing nearer than the parts it lies in is painted over a joint, at the pixel `xy`."""
        part = canvas.part_at(xy)
        own = HOME[joint].split()
        if joint in OPPOSITE and not self.behind_trunk(joint):
            own.append("torso")
        return part is None or (part[0] == owner and part[1] in own)

    def head_length(self):
        """Pixels from the upper neck to the top of the head: no head looks shorter than it is broad."""
        ends = np.stack([self.points["upper_neck"], self.points["head_top"]])
        xy, _, zoom = self.camera.project(ends)
        return max(np.linalg.norm(xy[1] - xy[0]), HEAD_BREADTH * np.linalg.norm(ends[1] - ends[0]) * zoom.mean())

    def annotation(self, canvas, owner, jitter):
        """What render_person says of a person, once all is painted."""
        xy = dict(zip(JOINTS, self.camera.project(np.stack([self.points[name] for name in JOINTS]))[0], strict=True))
        known = {name: bool(((at >= 0) & (at <= canvas.size - 1)).all()) for name, at in xy.items()}
        seen = {name: known[name] and self.visible(canvas, owner, name, xy[name]) for name in HOME}
        for middle, ends in ENDS_OF.items():
            known[middle], seen[middle] = (all(flags[end] for end in ends) for flags in (known, seen))
        joints = np.stack([xy[name] if known[name] else np.full(2, np.nan) for name in JOINTS])
        height = HEADS_TALL * self.head_length()
        return {
            "joints": joints,
            "visible": np.array([seen[name] for name in JOINTS]),
            "center": np.nanmean(joints, 0) + jitter * height,
            "scale": float(height / 200),
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


def ledge(rng, low, high):
    """Pieces of a bench, a wall or a hedge in front of the legs of somebody between `low` [2] and `high` [2]."""
    reach, colour = (high - low).max(), rng.uniform(20, 235, 3)
    left, right = rng.uniform(low[0], high[0]) + reach * rng.uniform(0.3, 0.8) * np.array([-1, 1])
    top, bottom = high[1] - (high[1] - low[1]) * rng.uniform(0.05, 0.5), high[1] + 0.04 * reach
    rim = np.array([(left, top), (right, top)])
    front = np.concatenate([rim, rim + np.array([0, bottom - top])])
    lid = np.concatenate([rim, rim + 0.04 * reach * np.array([(1, -1), (-1, -1)])])
    return [(front, np.full(4, 1.5), colour * 0.8), (lid, np.full(4, 1.5), colour)]


def develop(rng, pixels):
    """A camera's touch on pixels [size,size,3]: another exposure, now and then some noise and some blur."""
    pixels = pixels * rng.uniform(0.85, 1.12, 3).astype(np.float32)
    if rng.random() < 0.5:
        pixels += rng.standard_normal((*pixels.shape[:2], 1), np.float32) * np.float32(rng.uniform(1, 7))
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9))) if rng.random() < 0.35 else picture


def sample_people(rng, look, size):
    """The main person, often cut off by the picture's lower border and seldom by another, and now and then a second."""
    below = rng.uniform(0.1, 0.52) if rng.random() < 0.45 else 0
    aside = rng.uniform(0.1, 0.3) if not below and rng.random() < 0.06 else 0
    main = Person.sample(rng, look, size * rng.uniform(0.38, 0.85) / (1 - below))
    main.place(rng, size, below, aside)
    if rng.random() > 0.35:
        return [main]
    other = Person.sample(rng, look, main.camera.stature * rng.uniform(0.4, 0.75))
    (_, top), (_, bottom) = main.bounds()
    other.place(rng, size, floor=bottom - rng.uniform(0, 0.3) * (bottom - top))  # farther is higher
    return [main, other]


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
        center [2] in pixels, near the middle of the joints; scale, six times the head's length in pixels / 200;
        head_box (x1, y1, x2, y2) in pixels.
    """
    pose, look, scene = (np.random.default_rng([seed, stream]) for stream in range(3))
    light = np.array([scene.choice([-1, 1]) * scene.uniform(0.2, 0.8), -0.6])
    people = sample_people(pose, look, size)
    canvas = Canvas(background(scene, size))
    for owner in reversed(range(len(people))):
        people[owner].paint(canvas, owner, light)
    for often, thing in (0.22, front_object), (0.16, ledge):
        if pose.random() < often:
            canvas.paint(None, "front", thing(pose, *people[0].bounds()), light)
    annotations = [p.annotation(canvas, i, pose.normal(0, CENTER_SPREAD, 2)) for i, p in enumerate(people)]
    return develop(scene, canvas.finished()), annotations
