"""People made here: the embedded default dataset of the course, drawn and annotated by this file alone.

A body is a tree of angles turned into 3-D points; every part of it is the hull of a few balls; a pinhole camera turns
balls into discs; the parts are painted from far to near, on a picture and, in step, on a map of which part is where.
The map is what says which joints are visible. Lengths are in statures (the height of the person drawn is 1).
"""

import json
import math
import multiprocessing
import os
import shutil
import signal
import uuid
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from hgpose_utils.files import HgposeError
from hgpose_utils.skeleton import JOINTS

VERSION = 1  #: raised when the same seed no longer gives the same annotations
OVERSAMPLING = 2  #: everything is drawn this many times larger, then averaged down
CHUNK = 20  #: pictures a worker makes between two signs of life
VALIDATION_EVERY = 5

# ---------------------------------------------------------------------------------------------------------- the pose

# fmt: off
#: angle in degrees -> (usual mean, spread, least, most); the arm and the leg of each side have their own
TRUNK_ANGLES = {
    "lean": (2, 5, -25, 80), "bend": (3, 6, -20, 50), "side": (0, 5, -25, 25), "twist": (0, 10, -40, 40),
    "nod": (4, 9, -35, 40), "turn": (0, 18, -65, 65), "tip": (0, 5, -25, 25),
}
LIMB_ANGLES = {
    "arm": (3, 14, -50, 175), "out": (9, 7, 4, 160), "inward": (20, 18, -80, 90), "elbow": (22, 16, 2, 145),
    "hip": (0, 6, -30, 120), "spread": (4, 4, -4, 55), "turnout": (8, 7, -20, 40), "knee": (5, 6, 0, 140),
    "foot": (0, 6, -20, 45),
}

#: activity -> (how often, angles of the trunk and of both sides, of one side, of the other)
ACTIVITIES = {
    "standing": (5, {}, {}, {}),
    "at ease": (2, {}, {"hip": 8, "knee": 14, "spread": 8}, {"out": 42, "inward": 78, "elbow": 95, "arm": -8}),
    "hands on hips": (1, {"out": 42, "inward": 78, "elbow": 95, "arm": -8, "spread": 9}, {}, {}),
    "arms crossed": (1, {"arm": 32, "inward": 62, "elbow": 100, "out": 12}, {}, {}),
    "walking": (5, {"lean": 5}, {"hip": 25, "knee": 10, "arm": -20}, {"hip": -16, "knee": 26, "arm": 24, "foot": 20}),
    "running": (4, {"lean": 14, "elbow": 92, "inward": 25},
                {"hip": 65, "knee": 85, "arm": -38}, {"hip": -20, "knee": 30, "arm": 38, "foot": 28}),
    "sitting": (4, {"hip": 86, "knee": 84, "arm": 34, "elbow": 48, "spread": 9}, {}, {}),
    "jumping": (2, {"out": 125, "arm": 15, "knee": 48, "hip": 28, "spread": 12, "foot": 30}, {}, {"hip": 45}),
    "star": (1, {"out": 108, "spread": 28, "inward": 0, "elbow": 12}, {}, {}),
    "reaching": (3, {}, {"arm": 140, "elbow": 15, "out": 14}, {"hip": 8, "knee": 12}),
    "waving": (2, {}, {"out": 95, "inward": -78, "elbow": 85, "arm": 8}, {}),
    "throwing": (2, {"twist": 18, "lean": 10},
                 {"out": 92, "inward": -60, "elbow": 80, "hip": -15}, {"arm": 62, "hip": 32, "knee": 30}),
    "kicking": (2, {"lean": -6, "out": 38}, {"hip": 72, "knee": 18, "foot": 24}, {"hip": -4, "knee": 14}),
    "squatting": (2, {"hip": 96, "knee": 116, "lean": 28, "arm": 62, "elbow": 35, "spread": 16, "foot": -16}, {}, {}),
    "lunging": (2, {"lean": 6}, {"hip": 72, "knee": 80, "arm": 20}, {"hip": -22, "knee": 32, "foot": 30}),
    "bending": (2, {"lean": 48, "bend": 26, "arm": 62, "hip": 4, "knee": 14}, {}, {}),
}
# fmt: on


def sample_angles(rng, activity):
    """The trunk's angles, and the limbs' of the right and of the left side, each a dict of degrees."""
    _, both, one, other = ACTIVITIES[activity]
    right, left = (one, other) if rng.random() < 0.5 else (other, one)

    def draw(table, wanted):
        rows = ((name, wanted.get(name, usual), *limits) for name, (usual, *limits) in table.items())
        return {name: min(max(rng.normal(mean, spread), least), most) for name, mean, spread, least, most in rows}

    return draw(TRUNK_ANGLES, both), draw(LIMB_ANGLES, both | right), draw(LIMB_ANGLES, both | left)


def turn(axis, degrees):
    """Rotation matrix [3,3] about x (to the person's left), y (up) or z (forwards), right-handed."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = {"x": ((1, 0, 0), (0, c, -s), (0, s, c)), "y": ((c, 0, s), (0, 1, 0), (-s, 0, c))}
    return np.array(rows.get(axis, ((c, -s, 0), (s, c, 0), (0, 0, 1))), float)


#: what tells one body from another: half widths of the trunk in statures, and factors
BUILD = {"shoulders": (0.094, 0.112), "hips": (0.052, 0.062), "waist": (0.022, 0.036)}
BUILD |= {"legs": (0.96, 1.04), "head": (0.96, 1.14), "girth": (0.85, 1.25)}


def body_points(trunk, right, left, build):
    """Points of the body, a dict of name -> [3], the pelvis at the origin, and the frames of hips, chest and head."""
    pelvis = turn("x", trunk["lean"])
    chest = pelvis @ turn("x", trunk["bend"]) @ turn("z", trunk["side"]) @ turn("y", trunk["twist"])
    head = chest @ turn("y", trunk["turn"]) @ turn("x", trunk["nod"]) @ turn("z", trunk["tip"])
    points = {"pelvis": np.zeros(3), "waist": pelvis @ [0, 0.12, 0]}
    points["thorax"] = points["waist"] + chest @ [0, 0.18, 0]
    points["upper_neck"] = points["thorax"] + chest @ [0, 0.022, 0.006] + head @ [0, 0.018, 0.002]
    points["head_top"] = points["upper_neck"] + head @ [0, 0.142 * build["head"], 0]
    for side, sign, angles in (("r", -1, right), ("l", 1, left)):
        limb = {}
        raised = turn("x", -angles["arm"]) @ turn("z", sign * angles["out"])
        upper = chest @ raised @ turn("y", -sign * angles["inward"])
        lower = upper @ turn("x", -angles["elbow"])
        shrug = 0.02 * (1 - raised[1, 1])  # a raised arm takes the shoulder along
        limb["shoulder"] = points["thorax"] + chest @ [sign * (build["shoulders"] - shrug / 3), shrug - 0.022, 0]
        limb["elbow"] = limb["shoulder"] + upper @ [0, -0.17, 0]
        limb["wrist"] = limb["elbow"] + lower @ [0, -0.145, 0]
        limb["hand"] = limb["wrist"] + lower @ [0, -0.05, 0.004]
        thigh = turn("x", -angles["hip"]) @ turn("z", sign * angles["spread"]) @ turn("y", sign * angles["turnout"])
        shin = thigh @ turn("x", angles["knee"])
        foot = shin @ turn("x", angles["foot"])
        limb["hip"] = pelvis @ [sign * build["hips"], 0, 0]
        limb["knee"] = limb["hip"] + thigh @ [0, -0.245 * build["legs"], 0]
        limb["ankle"] = limb["knee"] + shin @ [0, -0.235 * build["legs"], 0]
        limb["heel"] = limb["ankle"] + foot @ [0, -0.022, -0.018]
        limb["toe"] = limb["ankle"] + foot @ [0, -0.03, 0.085]
        points |= {f"{side}_{name}": point for name, point in limb.items()}
    return points, pelvis, chest, head


# ---------------------------------------------------------------------------------------------------------- the parts


@dataclass
class Part:
    """Hulls of balls, shaded as one. A piece is (centres [n,3], radii [n], colour [3]); `nearer` corrects the order."""

    name: str
    pieces: list
    nearer: float = 0.0
    flat: bool = False


SKINS = ((255, 224, 196), (241, 194, 150), (224, 172, 105), (198, 134, 66), (141, 85, 36), (90, 56, 37))
HAIRS = ((35, 25, 20), (70, 45, 28), (120, 80, 45), (190, 150, 85), (150, 70, 35), (150, 150, 150), (20, 20, 22))


def sample_colour(rng):
    """A colour [3], seldom a loud one."""
    grey, vivid = rng.uniform(25, 235), rng.uniform(15, 245, 3)
    return grey + (vivid - grey) * rng.uniform(0.1, 0.9)


def sample_clothes(rng):
    """Colours [3], lengths of sleeves and trousers (0 to 1 of the arm and of the leg), and the pattern of the top."""
    skin = np.array(SKINS[rng.integers(len(SKINS))]) + rng.normal(0, 6, 3)
    dull = rng.uniform(25, 110) * rng.uniform(0.8, 1.2, 3)
    return {
        "skin": skin,
        "hair": np.array(HAIRS[rng.integers(len(HAIRS))]) + rng.normal(0, 6, 3),
        "top": sample_colour(rng),
        "second": sample_colour(rng),
        "trousers": dull if rng.random() < 0.6 else sample_colour(rng),
        "shoes": sample_colour(rng) if rng.random() < 0.5 else np.full(3, rng.uniform(20, 235)),
        "sleeve": rng.choice([0.0, 0.28, 0.34, 0.95, 0.95]),
        "leg": rng.choice([0.28, 0.42, 0.95, 0.95, 0.95]),
        "pattern": rng.choice(["plain", "plain", "plain", "stripes", "two-tone"]),
        "long_hair": rng.random() < 0.35,
    }


def limb_pieces(chain, radii, covered, cloth, skin):
    """Pieces of the two bones of a chain [3,3]: cloth up to the fraction `covered` of the chain, skin beyond it."""
    pieces = []
    for i in range(2):
        cut = float(np.clip(2 * covered - i, 0, 1))

        def along(*at, i=i):
            at = np.array(at)
            return chain[i] + at[:, None] * (chain[i + 1] - chain[i]), radii[i] + at * (radii[i + 1] - radii[i])

        bone = [(*along(max(cut - 0.04, 0), 1), skin)] if cut < 1 else []
        if cut > 0:
            ends, widths = along(0, cut)
            bone.append((ends, widths * 1.14, cloth))  # cloth is looser than skin
        pieces.append(bone)
    return pieces


def torso_parts(pelvis, waist, chest, build, clothes):
    """Hips and top, as slices between pairs of balls, so that there are a waist, a hem and, if need be, stripes."""
    g, w = math.sqrt(build["girth"]), build["shoulders"]
    sections = [  # the middle of a pair of balls, its frame, half the distance between the balls, their radius
        (pelvis @ [0, -0.025, 0], pelvis, build["hips"] - 0.014, 0.05 * g),
        (pelvis @ [0, 0.02, 0], pelvis, build["hips"] - 0.011, 0.053 * g),
        (waist, pelvis, build["waist"], 0.05 * g),
        (waist + chest @ [0, 0.09, 0.004], chest, w - 0.052, 0.055 * g),
        (waist + chest @ [0, 0.145, 0], chest, w - 0.026, 0.037),
        (waist + chest @ [0, 0.178, 0], chest, 0.03, 0.026),
    ]
    balls = np.stack([[c - f @ [half, 0, 0], c + f @ [half, 0, 0]] for c, f, half, _ in sections])
    radii = np.array([[radius] * 2 for *_, radius in sections])
    pieces = []
    for i in range(1, len(sections) - 1):
        for h in (0, 0.5):
            t = np.array([h, h + 0.5])[:, None, None]
            centres = (balls[i] * (1 - t) + balls[i + 1] * t).reshape(4, 3)
            widths = (radii[i] * (1 - t[..., 0]) + radii[i + 1] * t[..., 0]).ravel()
            second = {"plain": False, "stripes": h > 0, "two-tone": i >= 3}[clothes["pattern"]]
            pieces.append((centres, widths, clothes["second" if second else "top"]))
    hips = (balls[:2].reshape(4, 3), radii[:2].ravel(), clothes["trousers"])
    return [Part("torso", [hips], nearer=-0.01), Part("torso", pieces, nearer=0.03)]


def head_parts(neck, head, size, clothes, to_camera):
    """Skull, hair and, where the camera can see it, the face; `to_camera` [3] is the direction to the camera."""
    skin, hair = clothes["skin"], clothes["hair"]
    parts = []

    def facing(x, y, z):
        return float(head @ [x, y, z] @ to_camera) / math.hypot(x, y, z)

    def add(nearer, colour, *balls, flat=False):
        balls = np.array(balls) * size  # rows of x, y, z from the neck and a radius
        parts.append(Part("head", [(neck + balls[:, :3] @ head.T, balls[:, 3], colour)], nearer, flat))

    front = facing(0, 0.25, 1)
    add(0.03, skin, (0, 0.092, 0.01, 0.045), (0, 0.065, 0.016, 0.045), (0, 0.026, 0.028, 0.03))
    crown = (0, 0.096, -0.014, 0.049), (0, 0.07, -0.026, 0.044), (0, 0.112, 0.012, 0.036)
    add(0.03 + math.copysign(0.012, 0.3 - front), hair, *crown)
    add(0.045, hair, (-0.02, 0.114, 0.016, 0.024), (0.02, 0.114, 0.016, 0.024), (0, 0.112, -0.02, 0.032))
    if clothes["long_hair"]:
        lock = (0, 0.07, -0.03, 0.046), (0.014, -0.005, -0.04, 0.035), (-0.014, -0.005, -0.04, 0.035)
        add(0.04 if front < 0 else 0.01, hair, *lock)
    for x in (-1, 1):
        if facing(x, 0, 0.1) > 0.1:
            add(0.05, skin * 0.92, (x * 0.045, 0.062, 0, 0.011), (x * 0.044, 0.05, 0.003, 0.008))
        if facing(x * 0.45, 0, 1) > 0.2:
            add(0.06, np.full(3, 240.0), (x * 0.0185, 0.066, 0.056, 0.0075), flat=True)
            add(0.061, np.full(3, 25.0), (x * 0.0185, 0.066, 0.0575, 0.0048), flat=True)
            add(0.06, hair * 0.8, (x * 0.028, 0.08, 0.052, 0.003), (x * 0.01, 0.085, 0.056, 0.003), flat=True)
    if front > 0.1:
        lips = (-0.014, 0.033, 0.05, 0.003), (0.014, 0.033, 0.05, 0.003), (0, 0.028, 0.056, 0.003)
        add(0.06, skin * [0.75, 0.42, 0.42], *lips, flat=True)
    if front > -0.1:
        add(0.07, skin * 0.88, (0, 0.06, 0.06, 0.006), (0, 0.046, 0.066, 0.009), flat=True)
    return parts


def body_parts(points, pelvis, chest, head, build, clothes, to_camera):
    """All parts of a person, in no order."""
    skin, shoes = clothes["skin"], clothes["shoes"]
    arm_radii, leg_radii = build["girth"] * np.array([(0.028, 0.023, 0.017), (0.054, 0.036, 0.022)])
    neck = np.stack([points["thorax"] - chest @ [0, 0.01, 0], points["upper_neck"] + head @ [0, 0.03, 0.004]])
    parts = [Part("neck", [(neck, np.array([0.03, 0.027]), skin * 0.93)])]
    parts += torso_parts(pelvis, points["waist"], chest, build, clothes)
    parts += head_parts(points["upper_neck"], head, build["head"], clothes, to_camera)
    for side in "rl":
        at = {name[2:]: point for name, point in points.items() if name.startswith(f"{side}_")}
        arm, leg = np.stack([at["shoulder"], at["elbow"], at["wrist"]]), np.stack([at["hip"], at["knee"], at["ankle"]])
        upper_arm, forearm = limb_pieces(arm, arm_radii, clothes["sleeve"], clothes["top"], skin)
        thigh, shin = limb_pieces(leg, leg_radii, clothes["leg"], clothes["trousers"], skin)
        hand = [(np.stack([at["wrist"], at["hand"]]), np.array([0.017, 0.022]), skin)]
        foot = [(np.stack([at["heel"], at["toe"]]), np.array([0.026, 0.019]), shoes)]
        pieces_of = dict(upper_arm=upper_arm, forearm=forearm, hand=hand, thigh=thigh, shin=shin, foot=foot)
        parts += [Part(f"{side}_{name}", pieces) for name, pieces in pieces_of.items()]
    return parts


def stool_part(rng, pelvis):
    """A box under the hips, for those who sit."""
    w, top, colour = rng.uniform(0.1, 0.16), -0.07, rng.uniform(40, 200, 3)
    seat = np.array([(x, y, z) for x in (-w, w) for y in (top, top - 0.03) for z in (-0.13, 0.14)])
    legs = np.array([(x * 0.9, y, z) for x in (-w, w) for y in (top - 0.03, -0.27) for z in (-0.1, 0.11)])
    pieces = [(legs, np.full(8, 0.005), colour * 0.6), (seat, np.full(8, 0.006), colour)]
    return Part("stool", pieces, nearer=-0.06, flat=True)


# --------------------------------------------------------------------------------------------------- camera and paint


@dataclass
class Camera:
    """A pinhole: turned by `rotation` [3,3], `distance` statures away, `stature` pixels a stature at the pelvis."""

    rotation: np.ndarray
    distance: float
    stature: float
    origin: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def project(self, points):
        """Pixels [n,2], distance from the camera [n] and pixels a stature [n] of points [n,3]."""
        turned = points @ self.rotation.T
        depth = np.maximum(self.distance - turned[:, 2], 0.2)
        zoom = self.stature * self.distance / depth
        return self.origin + turned[:, :2] * [1, -1] * zoom[:, None], depth, zoom


#: (how bright, how much smaller, how far towards the light) of the layers that give a part its roundness
SHADES = ((0.58, 1, 0), (0.72, 0.9, 0.1), (0.84, 0.76, 0.2), (0.93, 0.6, 0.3), (1, 0.4, 0.35), (1.06, 0.2, 0.4))
LIT = 235  # the light that leaves a colour as it is: brighter is possible
CIRCLE = np.linspace(0, 2 * np.pi, 32, endpoint=False)
DIRECTIONS = np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], 1)


def outline(centres, radii):
    """The convex hull [32,2] of discs, centres [n,2] and radii [n]: the farthest point in each direction."""
    farthest = np.argmax(centres @ DIRECTIONS.T + radii[:, None], 0)
    return centres[farthest] + radii[farthest, None] * DIRECTIONS


def stretched(centres, by):
    """The two ends [2,2] of a limb moved apart by `by` [2] pixels, so that no dark ring marks where limbs meet."""
    if len(centres) != 2:
        return centres
    axis = centres[1] - centres[0]
    axis = axis / (np.hypot(*axis) + 4 * by.max() + 1e-9)  # less so when seen end on
    return centres + axis * by[:, None] * [[-1], [1]]


class Canvas:
    """A picture in flat colours, the light on it, and a map of the parts on top: 0, or 1 + an index of `painted`."""

    def __init__(self, background):
        self.size = background.width
        larger = (self.size * OVERSAMPLING,) * 2
        self.picture = background.resize(larger, Image.Resampling.NEAREST)
        self.light, self.map = Image.new("L", larger, LIT), Image.new("L", larger)
        self.draw, self.draw_light, self.draw_map = map(ImageDraw.Draw, (self.picture, self.light, self.map))
        self.painted = []

    def paint(self, owner, name, pieces, light, flat=False):
        """Paint pieces (centres [n,2] and radii [n] in pixels, colour [3]) over all: part `name` of `owner`."""
        self.painted.append((owner, name))
        for centres, radii, colour in pieces:
            polygon = self.polygon(centres, radii)
            self.draw.polygon(polygon, fill=tuple(np.clip(colour, 0, 255).astype(int).tolist()))
            self.draw_map.polygon(polygon, fill=len(self.painted))
        for brightness, size, shift in ((1, 1, 0),) if flat else SHADES:
            for centres, radii, _ in pieces:
                moved = stretched(centres, radii * (1 - size)) + light * (shift * radii)[:, None]
                self.draw_light.polygon(self.polygon(moved, radii * size), fill=round(LIT * brightness))

    @staticmethod
    def polygon(centres, radii):
        """The outline of discs, in the enlarged picture, as Pillow wants it."""
        return (outline(centres, radii) * OVERSAMPLING + (OVERSAMPLING - 1) / 2).ravel().tolist()

    def shadow(self, centres, brightness):
        """Darken the hull of points [n,2]."""
        self.draw_light.polygon(self.polygon(centres, np.ones(len(centres))), fill=round(LIT * brightness))

    def part_at(self, xy):
        """The (owner, name) of the part seen at a pixel (x, y), or None where the background is."""
        last = self.size * OVERSAMPLING - 1
        x, y = (int(np.clip(round(float(v) * OVERSAMPLING + (OVERSAMPLING - 1) / 2), 0, last)) for v in xy)
        number = self.map.getpixel((x, y))
        return self.painted[number - 1] if number else None

    def finished(self):
        """The picture under its light, averaged down to its size; values [size,size,3] from 0 to a little over 255."""
        colours, light = self.picture.reduce(OVERSAMPLING), self.light.reduce(OVERSAMPLING)
        light = np.asarray(light.filter(ImageFilter.BoxBlur(0.7)), np.float32) / np.float32(LIT)
        return np.asarray(colours) * light[..., None]


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


# ---------------------------------------------------------------------------------------------------------- the scene

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


# -------------------------------------------------------------------------------------------------------- the dataset


def record(fields):
    """A MATLAB struct, 1 x 1, of a dict; or a struct array, 1 x n, of a list of dicts of the same keys."""
    rows = fields if isinstance(fields, list) else [fields]
    array = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        for name, value in row.items():
            array[0, i][name] = value
    return array


def annorect(person):
    """MPII's annorect: pixels count from 1, joints outside are left out, neck and head top have no visibility."""
    seen = [np.zeros((0, 0)) if i in (8, 9) else np.uint8(v) for i, v in enumerate(person["visible"])]
    joints = [{"x": x + 1, "y": y + 1, "id": i} for i, (x, y) in enumerate(person["joints"].tolist()) if x == x]
    x1, y1, x2, y2 = (value + 1 for value in person["head_box"])
    x, y = person["center"] + 1
    return {
        **{"x1": x1, "y1": y1, "x2": x2, "y2": y2, "scale": person["scale"], "objpos": record({"x": x, "y": y})},
        "annopoints": record({"point": record([joint | {"is_visible": seen[joint["id"]]} for joint in joints])}),
    }


def release(people_of):
    """MPII's RELEASE of one list of people a picture."""
    training = np.array([i % VALIDATION_EVERY != VALIDATION_EVERY - 1 for i in range(len(people_of))], np.uint8)
    single = np.empty((len(people_of), 1), object)
    single[:] = [[np.array([[1]], np.uint8)]]
    annolist = [
        {"image": record({"name": picture_name(i)}), "annorect": record([annorect(p) for p in people])}
        for i, people in enumerate(people_of)
    ]
    fields = {"annolist": record(annolist), "img_train": training[None], "single_person": single}
    return record(fields | {"version": f"hgpose synthetic {VERSION}"})


def picture_name(index):
    return f"{index:06d}.jpg"


def make_pictures(folder, seed, size, indices):
    """Write the pictures with these indices into a folder; their people, one list a picture."""
    people_of = []
    for index in indices:
        rng = np.random.default_rng([seed, index])
        picture, people = render_person(int(rng.integers(2**53)), size)
        picture.save(folder / picture_name(index), quality=int(rng.integers(70, 96)))
        people_of.append(people)
    return people_of


def make_all(folder, people, seed, size, workers, progress):
    """make_pictures for every index, over processes; the people in the order of the pictures."""
    from tqdm import tqdm

    chunks = [range(start, min(start + CHUNK, people)) for start in range(0, people, CHUNK)]
    workers = min(workers or os.cpu_count() or 1, len(chunks))
    ignore_interrupt = (signal.signal, (signal.SIGINT, signal.SIG_IGN))  # it is for the parent to end the workers
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads (torch's) may hang
    pool = ProcessPoolExecutor(workers, spawn, *ignore_interrupt) if workers > 1 else None
    people_of = []
    try:
        with tqdm(total=people, desc="people", disable=not progress, mininterval=0.5) as bar:
            for made in (pool.map if pool else map)(partial(make_pictures, folder, seed, size), chunks):
                people_of += made
                bar.update(len(made))
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
    return people_of


def make_dataset(
    out, people: int, seed: int = 0, size: int = 320, workers: int | None = None, progress: bool = True
) -> Path:
    """Make a dataset of people in MPII's own layout: out/images/000000.jpg ... and out/annotations.mat.

    Every fifth picture is validation. The same people, seed and size give the same annotations, whatever the workers.

    Parameters
    ----------
    out : the folder to make. It appears all at once, when it is complete.
    people : number of main persons, one a picture; some pictures have a second person in the background.
    seed, size : of the whole dataset; the side of a picture in pixels.
    workers : processes; None takes one for each core.
    progress : show a progress bar.

    Returns
    -------
    `out` as a Path. Nothing is done where the same dataset is there already.

    Raises
    ------
    HgposeError : `out` is something else, cannot be written, or `people` is below 1.
    """
    out = Path(out)
    recipe = {"people": people, "seed": seed, "size": size, "version": VERSION}
    if people < 1:
        raise HgposeError(f"a dataset of {people} people for {out}: ask for at least 1")
    if seed < 0:
        raise HgposeError(f"seed is {seed}: it must be a whole number from 0")
    if os.path.lexists(out):
        return same_dataset(out, recipe)
    from scipy.io import savemat

    unfinished = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        (unfinished / "images").mkdir(parents=True)
        people_of = make_all(unfinished / "images", people, seed, size, workers, progress)
        savemat(unfinished / "annotations.mat", {"RELEASE": release(people_of)}, do_compression=True)
        (unfinished / "synthetic.json").write_text(json.dumps(recipe) + "\n")
        try:
            unfinished.rename(out)
        except OSError:
            if not os.path.lexists(out):
                raise
            return same_dataset(out, recipe)
    except OSError as error:
        raise HgposeError(f"cannot write {out} ({error.strerror or error}): choose another place") from error
    except BrokenProcessPool as error:
        raise HgposeError(
            f"the workers making {out} died: call under `if __name__ == '__main__':` or with workers=1"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return out


def same_dataset(out, recipe):
    """`out` where it was made by this recipe, else an HgposeError."""
    try:
        found = json.loads((out / "synthetic.json").read_text())
    except (OSError, ValueError):
        found = None
    if found != recipe:
        raise HgposeError(f"{out} exists and is not the dataset asked for, {recipe}: delete it or choose another")
    return out
