"""People made here: the embedded default dataset of the course, written in MPII's own layout.

`body` poses people and sees them through a camera, `drawing` paints them, `scene` puts them into a picture and says
where their joints are; here pictures become a dataset.
"""

import json
import multiprocessing
import os
import shutil
import signal
import uuid
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np

from hgpose_utils.files import HgposeError
from hgpose_utils.scene import render_person

VERSION = 2  #: raised when the same seed no longer gives the same annotations
CHUNK = 20  #: pictures a worker makes between two signs of life
VALIDATION_EVERY = 5


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
