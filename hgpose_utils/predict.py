"""From a photo to a pose, with a trained network."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from hgpose_utils.augment import no_jitter, warp
from hgpose_utils.budget import ROOT
from hgpose_utils.crops import MARGIN, Crops, crop_box, crop_to_photo, cut, photo_to_crop, read_photo
from hgpose_utils.files import HgposeError
from hgpose_utils.heatmaps import STRIDE, average_flipped, decode, nearest_pixel
from hgpose_utils.metrics import score_people
from hgpose_utils.models import VARIANTS, build_model
from hgpose_utils.receptive_field import effective_field, gradient_map, influence
from hgpose_utils.runs import Recipe
from hgpose_utils.skeleton import JOINTS
from hgpose_utils.train import computes_in_bfloat16

#: The network that comes with the course.
SHIPPED = ROOT / "results/checkpoints/hg-s1.safetensors"

#: The sizes that are tried where a person's is not known: how often her box is as wide as the picture's longer side.
ZOOMS = (1.25, 1.0, 0.8, 0.64)

#: How joints are read off the heatmaps, plainest first: with the mirrored input's heatmaps averaged in or not (flip),
#: moved by a quarter pixel or not (quarter).
SETTINGS = tuple((flip, quarter) for flip in (False, True) for quarter in (False, True))


@dataclass
class PosePredictor:
    """A trained network, ready for photos. Make one with `PosePredictor.load`."""

    model: nn.Module
    size: int  # side of the network's input in pixels
    name: str = ""
    flip: bool = True  # whether a photo's heatmaps are averaged with those of the mirrored photo; half as fast

    @classmethod
    def load(cls, checkpoint=SHIPPED, device: str | None = None) -> "PosePredictor":
        """Reads a ``.safetensors`` file as training writes it, onto ``device`` or, if there is one, the GPU.

        Without a file: the network that comes with the course.

        Raises `HgposeError` if it is not one of ours.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            with safe_open(checkpoint, "pt") as file:
                about = file.metadata() or {}
                weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as e:
            raise HgposeError(f"cannot read the checkpoint {checkpoint}: {e}; give a best.safetensors") from e
        numbers = [about.get(name, "256" if name == "channels" else "") for name in ("stacks", "size", "channels")]
        if about.get("model") not in VARIANTS or not all(number.isdecimal() for number in numbers):
            raise HgposeError(f"{checkpoint} does not say which network it is: give one that hgpose train wrote")
        stacks, size, channels = map(int, numbers)
        recipe = Recipe(about["model"], stacks, size=size, channels=channels)
        model = build_model(recipe.model, stacks, channels=channels)
        try:
            model.load_state_dict(weights)
        except RuntimeError as e:
            raise HgposeError(f"{checkpoint} calls itself {recipe.network} but holds another network's weights") from e
        model = model.to(device, memory_format=torch.channels_last).eval()
        return cls(model, size, recipe.network)

    @classmethod
    def of_last_epoch(cls, folder, device="cpu") -> "PosePredictor":
        """The network as it was after the last epoch of a run, from the run folder's ``last.pt``."""
        saved = torch.load(Path(folder) / "last.pt", map_location=device, weights_only=True)
        recipe = Recipe(**saved["recipe"])
        model = build_model(recipe.model, recipe.stacks, channels=recipe.channels)
        model.load_state_dict(saved["model"])
        return cls(model.to(device, memory_format=torch.channels_last).eval(), recipe.size, recipe.network)

    def __call__(self, image, center=None, scale=None) -> tuple[np.ndarray, np.ndarray]:
        """A photo -> joints [16, 2] in its own pixels and confidences [16].

        ``image`` is a path, a PIL image, an array [H, W, 3] or a tensor [3, H, W], uint8. ``center`` [2] and ``scale``
        say where the person is, as MPII means them (see `annotations`). Without them it is the middle of the picture,
        and several sizes are tried, then a square around the joints found; the most confident pose is kept.
        Raises `HgposeError` for what is no photo.
        """
        _, joints, confidence = self.find([image], [center], [scale])
        return joints[0], confidence[0]

    def batch(self, images, centers=None, scales=None, batch_size: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """N photos -> joints [N, 16, 2], each in its photo's own pixels, and confidences [N, 16].

        ``images``, ``centers`` and ``scales`` hold N of what `__call__` takes.
        """
        return self.find(images, centers, scales, batch_size)[1:]

    @torch.inference_mode()
    def find(self, images, centers=None, scales=None, batch_size: int = 32):
        """As `batch`, but returns first the squares [N, 3] (see `crops.crop_box`) that the people were found in.

        Joints are moved by a quarter heatmap pixel.
        """
        nothing = [None] * len(images)
        photos = [read_photo(image, upright=True) for image in images]
        places = zip(
            photos, nothing if centers is None else centers, nothing if scales is None else scales, strict=True
        )
        candidates = [person_boxes(*place) for place in places]
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=computes_in_bfloat16(device)):
            boxes, inputs, heatmaps = self._surest(photos, candidates, batch_size)
            if max(map(len, candidates)) > 1:  # a second look, at what the joints say
                first = zip(candidates, boxes, *self._in_photo(heatmaps, boxes), strict=True)
                second = [
                    some if len(some) == 1 else np.stack([box, box_around(joints, sure)])
                    for some, box, joints, sure in first
                ]
                boxes, inputs, heatmaps = self._surest(photos, second, batch_size)
            if self.flip:
                heatmaps = average_flipped(heatmaps, self._draw(inputs.flip(-1), batch_size))
        return boxes, *self._in_photo(heatmaps, boxes)

    def _surest(self, photos, candidates, batch_size):
        """Of each photo's squares the one with the most confident pose, its input and its heatmaps."""
        owner = np.repeat(np.arange(len(photos)), [len(some) for some in candidates])
        with ThreadPoolExecutor() as pool:
            inputs = torch.cat(list(pool.map(self.prepare, photos, candidates)))
        heatmaps = self._draw(inputs, batch_size)
        sure = pd.Series(heatmaps.amax((-1, -2)).mean(1).cpu())
        surest = sure.groupby(owner).idxmax().tolist()
        return np.concatenate(candidates)[surest], inputs[surest], heatmaps[surest]

    def _draw(self, inputs, batch_size):
        return torch.cat([self.heatmaps(part)[-1] for part in inputs.split(batch_size)])

    def _in_photo(self, heatmaps, boxes):
        joints, confidence = (part.cpu().numpy() for part in decode(heatmaps, quarter=True))
        return input_to_photo(joints.astype(float), boxes[:, None], self.size), confidence

    def prepare(self, photo: torch.Tensor, boxes) -> torch.Tensor:
        """A photo uint8 [3, H, W] and squares [K, 3] (see `crops.crop_box`) -> inputs [K, 3, size, size]."""
        return self.inputs(torch.stack([cut(photo, box, round(self.size * MARGIN)) for box in boxes]))

    def inputs(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops uint8 [B, 3, S, S] -> the network's inputs [B, 3, size, size], as validation has them."""
        return warp(crops, torch.zeros(len(crops), 16, 2), no_jitter(len(crops)), self.size)[0]

    @torch.inference_mode()
    def heatmaps(self, images: torch.Tensor, flip: bool = False) -> list[torch.Tensor]:
        """Inputs [B, 3, size, size] -> one [B, 16, size/4, size/4] a stack; ``flip``: see `average_flipped`."""
        if flip:
            of_mirrored = self.heatmaps(images.flip(-1))
            return [average_flipped(*pair) for pair in zip(self.heatmaps(images), of_mirrored, strict=True)]
        device = next(self.model.parameters()).device
        return [h.float() for h in self.model(images.to(device, memory_format=torch.channels_last))]


def photo_to_input(points, boxes, size: int) -> np.ndarray:
    """Points [..., 2] in pixels of the photo -> in the network's input. ``boxes`` [..., 3] as from `crop_box`."""
    side = size * MARGIN
    return photo_to_crop(points, boxes, side) - (side - size) / 2


def input_to_photo(points, boxes, size: int) -> np.ndarray:
    """The inverse of `photo_to_input`."""
    side = size * MARGIN
    return crop_to_photo(points + (side - size) / 2, boxes, side)


def person_boxes(photo: torch.Tensor, center=None, scale=None) -> np.ndarray:
    """The squares that a person may fill, [K, 3] as from `crop_box`: one where ``scale`` is given, else several.

    ``center`` is the middle of the picture where it is not given. Raises `HgposeError` for a place that is none.
    """
    height, width = photo.shape[-2:]
    scales = np.array(ZOOMS) * max(height, width) / 250 if scale is None else np.array([scale], float)
    middle = np.array([width, height]) / 2 - 0.5 - np.stack([0 * scales, 15 * scales], -1)
    centers = middle if center is None else np.broadcast_to(np.asarray(center, float), (len(scales), 2))
    if not (np.isfinite(centers).all() and np.isfinite(scales).all() and (scales > 0).all()):
        raise HgposeError(
            f"center {center}, scale {scale} is no place in a photo: give x, y in pixels and height / 200"
        )
    return crop_box(centers, scales)


def box_around(joints: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """The square [3] of a person whose joints [16, 2] are here, by those at least half as sure as the surest.

    Her box is 1.6 times as wide as they reach, as joints that are not sure may lie outside.
    """
    sure = joints[confidence >= confidence.max() / 2]
    low, high = sure.min(0), sure.max(0)
    scale = 1.6 * (high - low).max() / 250
    return crop_box((low + high) / 2 - [0, 15 * scale], scale)


@torch.inference_mode()
def predict_settings(predictor: PosePredictor, crops: Crops, settings=SETTINGS, batch_size: int = 32) -> dict:
    """The joints of all people, read off in several ways: (flip, quarter) -> what `predict_people` returns.

    The network runs once a person, and once more on the mirrored input if any of the settings needs it.
    """
    people = len(crops)
    poses = {setting: (np.empty((people, 16, 2)), np.empty((people, 16))) for setting in settings}
    for start in range(0, people, batch_size):
        rows = slice(start, start + batch_size)
        images = predictor.inputs(crops.images(rows))
        heatmaps = {False: predictor.heatmaps(images)[-1]}
        if any(flip for flip, _ in settings):
            heatmaps[True] = average_flipped(heatmaps[False], predictor.heatmaps(images.flip(-1))[-1])
        for (flip, quarter), (joints, confidence) in poses.items():
            found, peak = decode(heatmaps[flip], quarter)
            joints[rows], confidence[rows] = found.cpu(), peak.cpu()
    return poses


def predict_people(
    predictor: PosePredictor, crops: Crops, flip: bool = False, quarter: bool = False, batch_size: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """The joints [N, 16, 2] of all people, in pixels of the network's input, and their confidences [N, 16].

    ``flip`` averages in the mirrored input's heatmaps, ``quarter`` moves each joint by a quarter heatmap pixel.
    """
    return predict_settings(predictor, crops, [(flip, quarter)], batch_size)[flip, quarter]


def true_people(crops: Crops, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The annotated joints [N, 16, 2] and head sizes [N] of people, in pixels of a network's input of ``size`` px."""
    joints = photo_to_input(np.stack(crops.people.joints), crops.boxes[:, None], size)
    return joints, crops.people.head_size.to_numpy(float) * size * MARGIN / crops.boxes[:, 2]


def heatmap_errors(predictor: PosePredictor, crops: Crops) -> pd.DataFrame:
    """How far each person's joints are off, as the report's PCK measures it: from highest pixel to highest pixel.

    One row per person, one column per joint, in pixels of the heatmap; NaN for a joint that is not annotated.
    """
    pred, _ = predict_people(predictor, crops)
    truth = nearest_pixel(torch.from_numpy(true_people(crops, predictor.size)[0]), predictor.size).numpy()
    return pd.DataFrame(np.linalg.norm(pred - truth, axis=-1) / STRIDE, columns=JOINTS)


def evaluate(
    predictor: PosePredictor, crops: Crops, batch_size: int = 32, quarter: bool = False, flip: bool = False
) -> dict[str, float]:
    """Every metric's mean over the joints (see `metrics`); PCKh's where head sizes are known. Arguments as above."""
    pred, _ = predict_people(predictor, crops, flip, quarter, batch_size)
    scores = score_people(pred, *true_people(crops, predictor.size), predictor.size)
    return {name: float(metric.compute()) for name, metric in scores.items()}


def evaluation_table(predictor: PosePredictor, crops: Crops, batch_size: int = 32) -> pd.DataFrame:
    """One row per metric, flip and quarter: its mean over the joints, its total (see `metrics`), and each joint's.

    Columns: metric, flip, quarter, mean, total and the 16 joints' names, NaN for a joint that the metric does not count
    or that nobody has annotated. Metrics that count nobody, as PCKh without head sizes, have no row.
    """
    truth, rows = true_people(crops, predictor.size), []
    for (flip, quarter), (pred, _) in predict_settings(predictor, crops, batch_size=batch_size).items():
        for name, metric in score_people(pred, *truth, predictor.size).items():
            joints = metric.per_joint().tolist()
            row = {"metric": name, "flip": flip, "quarter": quarter}
            row |= {"mean": float(metric.compute()), "total": float(metric.total())}
            rows.append(row | {joint: joints[i] if i in metric.joints else np.nan for i, joint in enumerate(JOINTS)})
    return pd.DataFrame(rows).sort_values("metric", kind="stable", ignore_index=True)


def influence_of_training(predictor: PosePredictor, crops: Crops, people: int = 64) -> pd.DataFrame:
    """How far a network looks, on real inputs: the share of its middle pixel's gradient within each square around it.

    Columns: the same network with random weights, and trained; index: the square's side in input pixels. The sides
    that hold 95 % are in ``attrs["effective"]``.
    """
    rows = np.arange(min(people, len(crops)))
    images = predictor.inputs(crops.images(rows))
    torch.manual_seed(0)
    model, stacks = predictor.name.split("-s")
    networks = {"random": build_model(model, int(stacks)), "trained": predictor.model}
    maps = {name: sum(gradient_map(network, batch) for batch in images.split(8)) for name, network in networks.items()}
    table = pd.DataFrame({name: influence(gradient) for name, gradient in maps.items()})
    table.attrs["effective"] = {name: effective_field(gradient) for name, gradient in maps.items()}
    return table
