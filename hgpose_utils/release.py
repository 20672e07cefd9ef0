"""The network that comes with the course: a run's last epoch in half precision, with what is to be known about it."""

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch

from hgpose_utils.crops import make_crops
from hgpose_utils.files import HgposeError, replacing
from hgpose_utils.predict import SHIPPED, PosePredictor, evaluation_table
from hgpose_utils.runs import dataset_name

LARGEST = 8_000_000  # bytes


def release(folder, datasets, out=SHIPPED) -> dict:
    """Writes the network of a run's last epoch to ``out`` in half precision, and beside it, as .json, all about it.

    The recipe, data and machine of the run's config.json, the file's size and SHA-256, and the scores of what was
    written on the validation people of each of ``datasets`` (with flip and quarter, see `evaluation_table`).
    Raises `HgposeError` if the run is not over, or the file would be larger than 8 MB.
    """
    folder, out = Path(folder), Path(out)
    try:
        saved = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
        about = json.loads((folder / "config.json").read_text())
    except OSError as e:
        raise HgposeError(f"cannot read the run {folder}: {e.strerror}; give a folder with last.pt, config.json") from e
    recipe, epochs = saved["recipe"], len(saved["history"])
    if epochs < recipe["epochs"]:
        raise HgposeError(f"{folder} has {epochs} of {recipe['epochs']} epochs: train it to the end first")
    weights = {name: (w.half() if w.is_floating_point() else w).contiguous() for name, w in saved["model"].items()}
    content = safetensors.torch.save(weights, {name: str(value) for name, value in recipe.items()})
    if len(content) > LARGEST:
        raise HgposeError(
            f"{folder}: {len(content)} bytes in half precision, more than {LARGEST}: release a smaller one"
        )
    with replacing(out) as file:
        file.write_bytes(content)
    predictor = PosePredictor.load(out, "cpu")
    about |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "validation": {}}
    for dataset in datasets:
        table = evaluation_table(predictor, make_crops(dataset, predictor.size).split("val"))
        scores = table[table.flip & table.quarter].set_index("metric")["mean"].round(4)
        about["validation"][dataset_name([dataset], predictor.size)] = scores.to_dict()
    with replacing(out.with_suffix(".json")) as file:
        file.write_text(json.dumps(about, indent=2) + "\n")
    return about
