"""How much work the notebooks do: one switch, the environment variable HGPOSE_BUDGET, and the same code."""

import os
from dataclasses import dataclass
from pathlib import Path

from hgpose_utils.files import HgposeError

#: The repository's top, where data/ and results/ lie.
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Budget:
    """What the notebooks train, and on how many people."""

    name: str
    people: int  # pictures in the embedded dataset
    size: int  # side of the network's input in pixels
    stacks: int
    epochs: int
    batch_size: int
    pck_range: tuple[float, float]  # where training in notebook 04 must end

    @property
    def data(self) -> Path:
        """The embedded dataset's folder."""
        return ROOT / "data" / ("synthetic" if self.name == "course" else f"synthetic-{self.name}")

    @property
    def out(self) -> Path:
        """Where the notebooks leave what they make; not in git."""
        return ROOT / "results" / self.name


BUDGETS = {
    "fast": Budget("fast", people=60, size=64, stacks=2, epochs=1, batch_size=8, pck_range=(0, 1)),
    "course": Budget("course", people=1200, size=128, stacks=2, epochs=8, batch_size=8, pck_range=(0.2, 0.6)),
    "full": Budget("full", people=25204, size=256, stacks=8, epochs=15, batch_size=8, pck_range=(0.5, 1)),
}


def read_budget() -> Budget:
    """The budget that HGPOSE_BUDGET names: fast (seconds), course (the default: minutes), or full (a GPU).

    Raises `HgposeError` for any other value.
    """
    name = os.environ.get("HGPOSE_BUDGET") or "course"
    if name not in BUDGETS:
        raise HgposeError(f"HGPOSE_BUDGET is {name!r}: set it to one of {', '.join(BUDGETS)}")
    return BUDGETS[name]
