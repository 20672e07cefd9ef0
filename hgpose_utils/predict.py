"""From a photo to a pose, with a trained network."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError, safe_open
from torch import nn

from hgpose_utils.augment import no_jitter, warp
from hgpose_utils.crops import MARGIN, Crops, crop_box, crop_to_photo, cut, photo_to_crop, read_photo
from hgpose_utils.files import HgposeError, replacing
from hgpose_utils.heatmaps import STRIDE, average_flipped, decode, nearest_pixel
from hgpose_utils.metrics import score_people
from hgpose_utils.models import VARIANTS, build_model
from hgpose_utils.plots import show_person
from hgpose_utils.receptive_field import effective_field, gradient_map, influence
from hgpose_utils.runs import Recipe
from hgpose_utils.skeleton import JOINTS

#: How joints are read off the heatmaps, plainest first: with the mirrored input's heatmaps averaged in or not (flip),
#: moved by a quarter pixel or not (quarter).
SETTINGS = tuple((flip, quarter) for flip in (False, True) for quarter in (False, True))


@dataclass
class PosePredictor:
    """A trained network, ready for photos. Make one with `PosePredictor.load`."""

    model: nn.Module
    size: int  # side of the network's input in pixels
    name: str = ""

    @classmethod
    def load(cls, checkpoint, device: str | None = None) -> "PosePredictor":
        """Reads a ``.safetensors`` file as training writes it, onto ``device`` or, if there is one, the GPU.

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

    @torch.inference_mode()
    def __call__(self, image, center=None, scale=None) -> tuple[np.ndarray, np.ndarray]:
        """A photo -> joints [16, 2] in its own pixels and confidences [16].

        ``image`` is a path, a PIL image, an array [H, W, 3] or a tensor [3, H, W], uint8. ``center`` [2] and ``scale``
        say where the person is, as MPII means them (see `annotations`); without them it is the whole picture.
        """
        photo = read_photo(image, upright=True)
        box = person_box(photo, center, scale)
        joints, confidence = decode(self.heatmaps(self.prepare(photo, box))[-1], quarter=True)
        in_photo = input_to_photo(joints[0].cpu().numpy().astype(float), box, self.size)
        return in_photo, confidence[0].cpu().numpy()

    def prepare(self, photo: torch.Tensor, box) -> torch.Tensor:
        """A photo uint8 [3, H, W] and its person's square (see `crops.crop_box`) -> an input [1, 3, size, size]."""
        return self.inputs(cut(photo, box, round(self.size * MARGIN))[None])

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


def person_box(photo: torch.Tensor, center=None, scale=None) -> np.ndarray:
    """The square to cut out: the person's, or the whole picture's where ``center`` or ``scale`` is not given."""
    if center is None or scale is None:
        height, width = photo.shape[-2:]
        scale = max(height, width) / 250
        center = np.array([width / 2 - 0.5, height / 2 - 0.5 - 15 * scale])
    return crop_box(center, scale)


def write_poses(predictor: PosePredictor, photos, out: Path) -> None:
    """Draws each photo as ``out``/NAME-pose.png and writes poses.json: path -> joint -> [x, y, confidence].

    Raises `HgposeError`, and writes nothing, where two photos have one name or one cannot be read.
    """
    targets = {path: Path(out) / f"{Path(path).stem}-pose.png" for path in photos}
    if len(set(targets.values())) < len(photos):
        raise HgposeError("two of the photos have the same name: predict them one by one, into different folders")
    opened = {path: read_photo(path, upright=True) for path in photos}
    poses = {}
    for path, photo in opened.items():
        joints, confidence = predictor(photo)
        poses[str(path)] = dict(zip(JOINTS, np.column_stack([joints, confidence]).round(2).tolist(), strict=True))
        figure = Figure((6, 6 * photo.shape[1] / photo.shape[2]), layout="constrained")
        axis = figure.subplots()
        show_person(axis, photo, joints)
        axis.axis("off")
        with replacing(targets[path]) as file:
            figure.savefig(file, format="png", dpi=100)
    with replacing(Path(out) / "poses.json") as file:
        file.write_text(json.dumps(poses, indent=1) + "\n")


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
