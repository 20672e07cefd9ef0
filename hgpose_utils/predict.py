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
from hgpose_utils.crops import MARGIN, Crops, crop_box, crop_to_photo, cut, read_photo
from hgpose_utils.files import HgposeError, replacing
from hgpose_utils.heatmaps import STRIDE, decode, encode
from hgpose_utils.metrics import PCK, ReportPCK, TorsoPCK
from hgpose_utils.models import VARIANTS, build_model
from hgpose_utils.plots import show_person
from hgpose_utils.receptive_field import effective_field, gradient_map, influence
from hgpose_utils.runs import Recipe
from hgpose_utils.skeleton import JOINTS, PCKH_JOINTS


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

    @torch.inference_mode()
    def __call__(self, image, center=None, scale=None) -> tuple[np.ndarray, np.ndarray]:
        """A photo -> joints [16, 2] in its own pixels and confidences [16].

        ``image`` is a path, a PIL image, an array [H, W, 3] or a tensor [3, H, W], uint8. ``center`` [2] and ``scale``
        say where the person is, as MPII means them (see `annotations`); without them it is the whole picture.
        """
        photo = read_photo(image, upright=True)
        box = person_box(photo, center, scale)
        joints, confidence = decode(self.heatmaps(self.prepare(photo, box))[-1], quarter=True)
        side = self.size * MARGIN
        in_crop = joints[0].cpu().numpy().astype(float) + (side - self.size) / 2
        return crop_to_photo(in_crop, box, side), confidence[0].cpu().numpy()

    def prepare(self, photo: torch.Tensor, box) -> torch.Tensor:
        """A photo uint8 [3, H, W] and its person's square (see `crops.crop_box`) -> an input [1, 3, size, size]."""
        crop = cut(photo, box, round(self.size * MARGIN))[None]
        return warp(crop, torch.zeros(1, 16, 2), no_jitter(1), self.size)[0]

    @torch.inference_mode()
    def heatmaps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Inputs [B, 3, size, size] -> one [B, 16, size/4, size/4] a stack."""
        device = next(self.model.parameters()).device
        return [h.float() for h in self.model(images.to(device, memory_format=torch.channels_last))]


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
def evaluate(predictor: PosePredictor, crops: Crops, batch_size: int = 32, quarter: bool = False) -> dict[str, float]:
    """The report's PCK, PCK@0.2 of the torso and, where head sizes are known, PCKh@0.5, over the people."""
    report, torso, pckh = ReportPCK(), TorsoPCK(), PCK(PCKH_JOINTS, 0.5)
    joints = torch.from_numpy(crops.joints).float()
    box = crops.people.scale.to_numpy() * 250
    head_size = torch.from_numpy(crops.people.head_size.to_numpy(float) * predictor.size / box).float()
    for rows in np.array_split(np.arange(len(crops)), -(-len(crops) // batch_size)):
        images, truth = warp(crops.images(rows), joints[rows], no_jitter(len(rows)), predictor.size)
        heatmaps = predictor.heatmaps(images)[-1].cpu()
        targets, weights = encode(truth, predictor.size // STRIDE)
        report.update(heatmaps, targets, weights)
        pred = decode(heatmaps, quarter)[0]
        torso.update(pred, truth)
        pckh.update(pred, truth, head_size[rows])
    scores = {"pck": report, "pck_torso": torso, "pckh": pckh}
    return {name: float(metric.compute()) for name, metric in scores.items() if metric.annotated.sum()}


def influence_of_training(predictor: PosePredictor, crops: Crops, people: int = 64) -> pd.DataFrame:
    """How far a network looks, on real inputs: the share of its middle pixel's gradient within each square around it.

    Columns: the same network with random weights, and trained; index: the square's side in input pixels. The sides
    that hold 95 % are in ``attrs["effective"]``.
    """
    rows = np.arange(min(people, len(crops)))
    joints = torch.zeros(len(rows), 16, 2)
    images, _ = warp(crops.images(rows), joints, no_jitter(len(rows)), predictor.size)
    torch.manual_seed(0)
    model, stacks = predictor.name.split("-s")
    networks = {"random": build_model(model, int(stacks)), "trained": predictor.model}
    maps = {name: sum(gradient_map(network, batch) for batch in images.split(8)) for name, network in networks.items()}
    table = pd.DataFrame({name: influence(gradient) for name, gradient in maps.items()})
    table.attrs["effective"] = {name: effective_field(gradient) for name, gradient in maps.items()}
    return table
