"""A person's body for the drawn people: its pose, its points in space, and the camera that sees them.

A body is a tree of angles turned into 3-D points. Lengths are in statures (the height of the person drawn is 1).
"""

import math
from dataclasses import dataclass, field

import numpy as np

# fmt: off
#: angle in degrees -> (usual mean, spread, least, most); the arm and the leg of each side have their own
TRUNK_ANGLES = {
    "lean": (2, 5, -25, 80), "bend": (3, 6, -20, 50), "side": (0, 5, -25, 25), "twist": (0, 10, -40, 40),
    "nod": (4, 15, -50, 40), "turn": (0, 18, -65, 65), "tip": (0, 5, -25, 25),
}
LIMB_ANGLES = {
    "arm": (8, 16, -50, 175), "out": (9, 7, 4, 160), "inward": (22, 20, -80, 90), "elbow": (40, 32, 2, 145),
    "hip": (0, 6, -30, 120), "spread": (4, 4, -4, 55), "turnout": (8, 7, -20, 40), "knee": (7, 9, 0, 140),
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
    "hands busy": (5, {"arm": 32, "inward": 38, "elbow": 85, "bend": 9, "nod": 14}, {}, {"hip": 8, "knee": 14}),
    "sitting": (8, {"hip": 86, "knee": 84, "arm": 34, "elbow": 48, "spread": 9}, {}, {}),
    "jumping": (1, {"out": 105, "arm": 15, "knee": 48, "hip": 28, "spread": 12, "foot": 30}, {}, {"hip": 45}),
    "star": (1, {"out": 108, "spread": 28, "inward": 0, "elbow": 12}, {}, {}),
    "reaching": (2, {}, {"arm": 125, "elbow": 15, "out": 14}, {"hip": 8, "knee": 12}),
    "waving": (1, {}, {"out": 95, "inward": -78, "elbow": 85, "arm": 8}, {}),
    "throwing": (1, {"twist": 18, "lean": 10},
                 {"out": 92, "inward": -60, "elbow": 80, "hip": -15}, {"arm": 62, "hip": 32, "knee": 30}),
    "kicking": (2, {"lean": -6, "out": 38}, {"hip": 72, "knee": 18, "foot": 24}, {"hip": -4, "knee": 14}),
    "squatting": (3, {"hip": 96, "knee": 116, "lean": 28, "arm": 62, "elbow": 35, "spread": 16, "foot": -16}, {}, {}),
    "lunging": (2, {"lean": 6}, {"hip": 72, "knee": 80, "arm": 20}, {"hip": -22, "knee": 32, "foot": 30}),
    "bending": (3, {"lean": 48, "bend": 26, "arm": 62, "hip": 4, "knee": 14}, {}, {}),
    "kneeling": (2, {"hip": 22, "knee": 112, "lean": 12, "arm": 30, "elbow": 50, "foot": 35, "spread": 9},
                 {}, {"hip": 60}),
    "cross-legged": (3, {"hip": 88, "knee": 128, "spread": 42, "turnout": 32, "arm": 26, "elbow": 62}, {}, {}),
    "cycling": (3, {"lean": 38, "bend": 14, "arm": 72, "out": 14, "elbow": 20},
                {"hip": 92, "knee": 98}, {"hip": 48, "knee": 50}),
    "crawling": (1, {"lean": 76, "bend": 6, "arm": 84, "elbow": 10, "knee": 88, "foot": 35}, {"hip": 26}, {"hip": -4}),
    "climbing": (1, {"lean": 8}, {"arm": 130, "elbow": 40, "hip": 12, "knee": 30},
                 {"arm": 95, "elbow": 75, "hip": 82, "knee": 92}),
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


#: what tells one body from another, children too: half widths of the trunk in statures, and factors
BUILD = {"shoulders": (0.091, 0.108), "hips": (0.052, 0.062), "waist": (0.022, 0.036)}
BUILD |= {"legs": (0.94, 1.06), "head": (0.92, 1.32), "girth": (0.85, 1.25)}
GAZE = 0.5  #: the share of the trunk's leaning that the head makes good, to look ahead


def body_points(trunk, right, left, build):
    """Points of the body, a dict of name -> [3], the pelvis at the origin, and the frames of hips, chest and head."""
    pelvis = turn("x", trunk["lean"])
    chest = pelvis @ turn("x", trunk["bend"]) @ turn("z", trunk["side"]) @ turn("y", trunk["twist"])
    nod = np.clip(trunk["nod"] - GAZE * (trunk["lean"] + trunk["bend"]), *TRUNK_ANGLES["nod"][2:])
    head = chest @ turn("y", trunk["turn"]) @ turn("x", nod) @ turn("z", trunk["tip"])
    points = {"pelvis": np.zeros(3), "waist": pelvis @ [0, 0.116, 0]}
    points["collar"] = points["waist"] + chest @ [0, 0.176, 0]
    points["upper_neck"] = points["collar"] + chest @ [0, 0.008, 0.006] + head @ [0, 0.018, 0.002]
    points["head_top"] = points["upper_neck"] + head @ [0, 0.142 * build["head"], 0]
    for side, sign, angles in (("r", -1, right), ("l", 1, left)):
        limb = {}
        raised = turn("x", -angles["arm"]) @ turn("z", sign * angles["out"])
        upper = chest @ raised @ turn("y", -sign * angles["inward"])
        lower = upper @ turn("x", -angles["elbow"])
        shrug = 0.02 * (1 - raised[1, 1])  # a raised arm takes the shoulder along
        limb["shoulder"] = points["collar"] + chest @ [sign * (build["shoulders"] - shrug / 3), shrug - 0.016, 0]
        limb["elbow"] = limb["shoulder"] + upper @ [0, -0.158, 0]
        limb["wrist"] = limb["elbow"] + lower @ [0, -0.135, 0]
        limb["hand"] = limb["wrist"] + lower @ [0, -0.05, 0.004]
        thigh = turn("x", -angles["hip"]) @ turn("z", sign * angles["spread"]) @ turn("y", sign * angles["turnout"])
        shin = thigh @ turn("x", angles["knee"])
        foot = shin @ turn("x", angles["foot"])
        limb["hip"] = pelvis @ [sign * build["hips"], 0, 0]
        limb["knee"] = limb["hip"] + thigh @ [0, -0.234 * build["legs"], 0]
        limb["ankle"] = limb["knee"] + shin @ [0, -0.224 * build["legs"], 0]
        limb["heel"] = limb["ankle"] + foot @ [0, -0.022, -0.018]
        limb["toe"] = limb["ankle"] + foot @ [0, -0.03, 0.085]
        points |= {f"{side}_{name}": point for name, point in limb.items()}
    points["thorax"] = (points["r_shoulder"] + points["l_shoulder"]) / 2  # as MPII has it
    return points, pelvis, chest, head


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
