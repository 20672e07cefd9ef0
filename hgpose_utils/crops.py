"""From people to crops: each person's square, cut out of the photo and resized once, and kept.

A crop covers `MARGIN` times the person's box, so that the augmentation can rotate and zoom inside it. All crops of a
dataset lie in one uint8 array [N, 3, S, S] that is mapped into memory, not read into it.

One pixel convention everywhere: (0, 0) is the centre of the top left pixel, so that a picture of width W spans
-0.5 … W - 0.5.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from hgpose_utils.annotations import read_people, stored_bytes
from hgpose_utils.files import HgposeError, naming, replacing

MARGIN = 1.5
LARGEST = 80_000_000  # pixels of a photo: more is a mistake, or an attack on the memory
UNREADABLE = (RuntimeError, OSError, LookupError, ValueError, SyntaxError, BadZipFile, Image.DecompressionBombError)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # they are refused, see LARGEST
BLOCK = 500  # crops between two notes of how far their making has come
VERSION = 1  # goes up when the pixels that this file makes change: older caches are then made anew


@dataclass
class Crops:
    """The crops of N people, of which ``rows`` says where their pixels lie in ``store`` [M, 3, S, S] (uint8)."""

    people: pd.DataFrame
    boxes: np.ndarray
    store: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.people)

    @property
    def side(self) -> int:
        """S, the crops' side in pixels."""
        return self.store.shape[-1]

    @property
    def digest(self) -> str:
        """Changes when other people, or other splits, are behind the same name."""
        names = (
            f"{Path(image).name} {split}" for image, split in zip(self.people.image, self.people.split, strict=True)
        )
        return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]

    @property
    def joints(self) -> np.ndarray:
        """[N, 16, 2] in pixels of the crop, NaN: not annotated."""
        return photo_to_crop(np.stack(self.people.joints), self.boxes[:, None], self.side)

    def images(self, indices) -> torch.Tensor:
        """The crops of some people, uint8 [B, 3, S, S]."""
        return torch.as_tensor(self.store[self.rows[indices]])

    def stream(self, indices, batch_size: int, device):
        """Yields the crops of some people, uint8 [B, 3, S, S] on ``device``, batch by batch."""
        if isinstance(self.store, torch.Tensor):
            rows = torch.as_tensor(self.rows[indices]).to(device)
            yield from (self.store[some] for some in rows.split(batch_size))
        else:
            parts = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
            ahead = torch.device(device).type == "cuda"
            fetched = (
                one_ahead(lambda some: self.images(some).pin_memory(), parts) if ahead else map(self.images, parts)
            )
            yield from (pixels.to(device, non_blocking=True) for pixels in fetched)

    def to(self, device) -> "Crops":
        """With all pixels on the device, if it is a GPU and they take at most half of its free memory."""
        bytes_needed = len(self) * 3 * self.side**2
        if torch.device(device).type != "cuda" or bytes_needed > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return self.loaded(device)

    def loaded(self, device) -> "Crops":
        """With all pixels in the device's memory."""
        store = torch.empty((len(self), 3, self.side, self.side), dtype=torch.uint8, device=device)
        for start in range(0, len(self), BLOCK):
            store[start : start + BLOCK] = self.images(np.arange(start, min(start + BLOCK, len(self)))).to(device)
        return replace(self, store=store, rows=np.arange(len(self)))

    def without_hidden(self) -> "Crops":
        """With hidden joints as if nobody had annotated them."""
        joints = np.where(np.stack(self.people.visible)[..., None], np.stack(self.people.joints), np.nan)
        return replace(self, people=self.people.assign(joints=list(joints)))

    def take(self, chosen) -> "Crops":
        """Some of the people, by a boolean mask or by numbers."""
        chosen = np.arange(len(self))[chosen]
        return Crops(self.people.iloc[chosen].reset_index(drop=True), self.boxes[chosen], self.store, self.rows[chosen])

    def split(self, name: str) -> "Crops":
        """The people of one split, "train" or "val"; `HgposeError` if there are none."""
        chosen = (self.people.split == name).to_numpy()
        if not chosen.any():
            raise HgposeError(f"the dataset has no {name} people: it needs both splits to train and to validate")
        return self.take(chosen)


def join(parts: list[Crops]) -> Crops:
    """The people of several datasets as one; their pixels then lie in memory."""
    if len(parts) == 1:
        return parts[0]
    people = pd.concat([part.people for part in parts], ignore_index=True)
    boxes = np.concatenate([part.boxes for part in parts])
    store = np.concatenate([part.store[part.rows] for part in parts])
    return Crops(people, boxes, store, np.arange(len(people)))


def one_ahead(function, items):
    """Like ``map``, but while one result is used, the next is made in a thread."""
    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for item in items:
            result, ahead = ahead, pool.submit(function, item)
            if result:
                yield result.result()
        if ahead:
            yield ahead.result()


def crop_box(center, scale) -> np.ndarray:
    """The squares to cut out for people at ``center`` [N, 2], ``scale`` [N]: [N, 3], left, top, side in whole pixels.

    MPII's box is 200 · 1.25 · scale pixels wide, its centre 15 · scale pixels below ``center``; the crop is `MARGIN`
    times as wide.
    """
    center, scale = np.asarray(center, float), np.asarray(scale, float)
    side = np.maximum(np.round(250 * scale * MARGIN), 1)
    middle = center + np.stack([0 * scale, 15 * scale], axis=-1)
    corner = np.round(middle - (side[..., None] - 1) / 2)
    return np.concatenate([corner, side[..., None]], axis=-1).astype(int)


def photo_to_crop(points, boxes, side: int) -> np.ndarray:
    """Points [..., 2] in pixels of the photo -> in pixels of the crop. ``boxes`` [..., 3] as from `crop_box`."""
    return (points - boxes[..., :2] + 0.5) * (side / boxes[..., 2:]) - 0.5


def crop_to_photo(points, boxes, side: int) -> np.ndarray:
    """The inverse of `photo_to_crop`."""
    return (points + 0.5) * (boxes[..., 2:] / side) - 0.5 + boxes[..., :2]


def read_photo(image, upright: bool = False) -> torch.Tensor:
    """A path, a file's bytes, a PIL image, an array [H, W, 3] or a tensor [3, H, W] -> uint8 [3, H, W].

    A path may lead into a zip file (``lsp.zip/images/im0001.jpg``). Grey, CMYK, transparent and 16-bit pictures become
    RGB, of a moving one the first frame is taken. ``upright`` turns a photo as its camera noted (EXIF); annotations
    refer to the pixels as they are stored. Raises `HgposeError` for what is no photo.
    """
    if isinstance(image, str | Path | bytes):
        try:
            return _decode(image if isinstance(image, bytes) else stored_bytes(image), upright)
        except UNREADABLE as e:
            name = "" if isinstance(image, bytes) else f" {image}"
            raise HgposeError(f"cannot read the photo{name}: {_reason(e)}; give another file or leave it out") from e
    if isinstance(image, Image.Image):
        return transforms.pil_to_tensor((ImageOps.exif_transpose(image) if upright else image).convert("RGB"))
    photo = torch.from_numpy(image).movedim(-1, 0) if isinstance(image, np.ndarray) else image
    if photo.dtype != torch.uint8 or photo.ndim != 3 or photo.shape[0] != 3:
        raise HgposeError(f"a photo must be uint8 with three channels, not {photo.dtype} {list(photo.shape)}")
    return photo


def _reason(error: Exception) -> str:
    """What is wrong with a file, without the places in other people's code that some errors begin with."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture"
    lines = str(getattr(error, "strerror", None) or error).splitlines() or [type(error).__name__]
    return re.sub(r"^.*\.cpp:\d+, ", "", lines[0])


def _decode(content: bytes, upright: bool) -> torch.Tensor:
    picture = Image.open(BytesIO(content))  # reads the header only
    if picture.width * picture.height > LARGEST:
        raise ValueError(f"{picture.width} × {picture.height} px are too many (at most {LARGEST // 10**6} million)")
    if picture.format in ("JPEG", "PNG") and picture.mode in ("RGB", "L"):  # several times as fast as Pillow
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return decode_image(data, ImageReadMode.RGB, apply_exif_orientation=upright)
    if picture.mode.startswith("I"):  # 16 bits a pixel: Pillow would cut off what is above 255
        picture = Image.fromarray((np.asarray(picture).astype(float) / 257).round().astype(np.uint8))
    return read_photo(picture, upright)


def cut(photo: torch.Tensor, box, side: int) -> torch.Tensor:
    """A square of a photo, uint8 [3, H, W] -> [3, side, side], antialiased; black where it leaves the photo."""
    left, top, width = (int(v) for v in box)
    if left + width <= 0 or top + width <= 0:  # beyond the photo, where torchvision would count from its other end
        return torch.zeros(3, side, side, dtype=torch.uint8)
    return transforms.resize(transforms.crop(photo, top, left, width, width), [side, side], antialias=True)


def make_crops(dataset, size: int = 256, progress: bool = True) -> Crops:
    """The crops of a dataset (anything that `read_people` reads) for networks with inputs of ``size`` pixels.

    Made once and kept in the dataset's ``crops`` folder, under a name that depends on the annotations, the size and
    the code's version; interrupted, the next call goes on where this one stopped. A person whose photo cannot be read
    is left out, with a warning that names the photo.
    Raises `HgposeError` where no photo can be read, the crops cannot be written, or the size does not suit a network.
    """
    check_size(size)
    people = read_people(dataset)
    side = round(size * MARGIN)
    folder = Path(dataset if Path(dataset).is_dir() else Path(dataset).parent) / "crops"
    pixels, notes = (folder / f"{side}px-{_key(people)}.{kind}" for kind in ("npy", "json"))
    boxes = crop_box(np.stack(people.center), people.scale.to_numpy())
    unreadable = _read_notes(notes, people) if pixels.exists() else None
    if unreadable is None:
        unreadable = _write_crops(people, boxes, side, pixels, notes, progress)
    if unreadable:
        names = sorted(Path(people.image[i]).name for i in unreadable)
        named = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        warnings.warn(f"{len(unreadable)} people left out, photo missing or unreadable: {named}", stacklevel=2)
    if len(unreadable) == len(people):
        raise HgposeError(f"none of the {len(people)} photos in {folder.parent} can be read: are they unpacked there?")
    crops = Crops(people, boxes, np.load(pixels, mmap_mode="r"), np.arange(len(people)))
    return crops.take([i for i in range(len(people)) if i not in unreadable]) if unreadable else crops


def check_size(size: int) -> None:
    """Raises `HgposeError` for an input size that the networks cannot take."""
    if size < 64 or size % 64:
        raise HgposeError(f"size is {size}: it must be divisible by 64 (say 128 or 256)")


def _read_notes(notes: Path, people) -> set[int] | None:
    """The people whose photo could not be read; None if that is not known, or one of the photos has changed since."""
    try:
        sizes = {int(i): size for i, size in json.loads(notes.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return None
    return set(sizes) if all(_bytes(people.image[i]) == size for i, size in sizes.items()) else None


def _bytes(photo: str) -> int | None:
    try:
        return len(stored_bytes(photo))
    except (OSError, KeyError):
        return None


def _key(people: pd.DataFrame) -> str:
    digest = hashlib.sha256(str(VERSION).encode())
    digest.update("".join(Path(image).name for image in people.image).encode())
    for column in ("center", "scale"):
        digest.update(np.stack(people[column]).astype("<f8").tobytes())
    return digest.hexdigest()[:8]


def _write_crops(people, boxes, side, pixels: Path, notes: Path, progress) -> set[int]:
    """Writes the array and the notes, and returns the numbers of the people whose photo could not be read.

    Of two programs that need the same crops, the second waits for the first.
    """
    part, so_far = pixels.with_suffix(".part"), pixels.with_suffix(".part.json")
    with naming(pixels), FileLock(pixels.with_suffix(".lock")):
        if pixels.exists() and (known := _read_notes(notes, people)) is not None:
            return known
        try:
            unreadable = _fill(part, so_far, people, boxes, side, progress)
            os.replace(part, pixels)
            with replacing(notes) as temporary:
                temporary.write_text(json.dumps(unreadable))
        except Exception:
            part.unlink(missing_ok=True)
            raise
        so_far.unlink()
    return set(unreadable)


def _fill(part: Path, so_far: Path, people, boxes, side, progress) -> dict[int, int | None]:
    """Makes the crops that ``part`` lacks; after each block ``so_far`` says how many it has, for whoever goes on."""
    shape = (len(people), 3, side, side)
    made, unreadable = _read_so_far(so_far) if part.exists() else (0, {})
    if shutil.disk_usage(part.parent).free < (1.01 - made / len(people)) * np.prod(shape, dtype=float):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a map of a full disk would end in a bus error
    if not made:
        so_far.unlink(missing_ok=True)
    store = np.lib.format.open_memmap(part, "r+" if made else "w+", np.uint8, shape)

    def one(i):
        try:
            store[i] = cut(read_photo(people.image[i]), boxes[i], side).numpy()
        except HgposeError:
            unreadable[i] = _bytes(people.image[i])
        bar.update()

    bar = tqdm(None, "crops", len(people), initial=made, disable=None if progress else True)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(made, len(people), BLOCK):
            stop = min(start + BLOCK, len(people))
            list(pool.map(one, range(start, stop)))
            store.flush()
            with replacing(so_far) as temporary:
                temporary.write_text(json.dumps([stop, unreadable]))
    return unreadable


def _read_so_far(so_far: Path) -> tuple[int, dict[int, int | None]]:
    try:
        made, unreadable = json.loads(so_far.read_text())
        return made, {int(i): size for i, size in unreadable.items()}
    except (OSError, ValueError, AttributeError):
        return 0, {}
