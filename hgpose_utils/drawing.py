"""How drawn people are painted: the parts of a body, their clothes, and the canvas.

Every part is the hull of a few balls, and the camera turns balls into discs; these are painted on a picture and,
in step, on a map of which part is where. Lengths are in statures, on the canvas in pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

OVERSAMPLING = 2  #: everything is drawn this many times larger, then averaged down


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
    neck = np.stack([points["collar"] - chest @ [0, 0.01, 0], points["upper_neck"] + head @ [0, 0.03, 0.004]])
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
