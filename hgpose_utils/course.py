"""Runs the notebooks from their scripts, top to bottom, and keeps what they show."""

import base64
import io
import os
import re
import shutil
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from PIL import Image
from tqdm import tqdm

from hgpose_utils.budget import ROOT, read_budget
from hgpose_utils.files import HgposeError, replacing
from hgpose_utils.synthetic import make_dataset

WIDGET = "application/vnd.jupyter.widget-view+json"


def run_course(out=None, in_place: bool = False, only: tuple[str, ...] = ()) -> None:
    """Runs every notebooks/[0-9]*.py and writes it to ``out`` as .ipynb and .html.

    ``in_place`` starts from nothing, runs the solutions and the app too, and renews notebooks/**/*.ipynb and
    results/figures/. ``only``: some notebooks, ("02", "solutions/03"). ``out`` is results/<budget> where it is not
    given. Raises `HgposeError` naming the notebook and the error.
    """
    budget = read_budget()
    out = Path(out) if out else budget.out
    folder = ROOT / "notebooks"
    scripts = sorted(folder.glob("[0-9]*.py"))
    scripts += [*sorted(folder.glob("solutions/*.py")), folder / "app.py"] if in_place else []
    scripts = [script for script in scripts if not only or str(script.relative_to(folder)).startswith(only)]
    print(f"{len(scripts)} notebooks at the {budget.name} budget; first the people to train on")
    make_dataset(budget.data, budget.people)
    if in_place and not only:
        shutil.rmtree(budget.out, ignore_errors=True)
    for script in scripts:
        notebook = run_notebook(script)
        target = out / script.relative_to(folder)
        with replacing(target.with_suffix(".html")) as file:
            file.write_text(HTMLExporter().from_notebook_node(notebook)[0])
        for path in [target, script] if in_place else [target]:
            with replacing(path.with_suffix(".ipynb")) as file:
                nbformat.write(notebook, file)
    if in_place and not only:
        for picture in [*budget.out.glob("*.png"), *budget.out.glob("*.gif")]:
            with replacing(ROOT / "results/figures" / picture.name) as file:
                file.write_bytes(slim(picture.read_bytes()) if picture.suffix == ".png" else picture.read_bytes())
    print(f"\nThe executed notebooks (.ipynb and .html), the accuracy tables and the plots are in {out}")


def run_notebook(script: Path) -> nbformat.NotebookNode:
    """A paired script as a notebook with the outputs of one clean run, and nothing that changes from run to run."""
    notebook = jupytext.read(script, fmt="py:percent")
    os.environ["TQDM_DISABLE"] = "1"  # in the kernel: a bar is for those who sit before it
    with tqdm(desc=script.stem, total=sum(c.cell_type == "code" for c in notebook.cells), mininterval=0) as bar:
        client = NotebookClient(
            notebook,
            timeout=None,
            extra_arguments=["--IPKernelApp.log_level=40"],
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(script.parent)}},
            on_cell_executed=lambda **_: bar.update(),
        )
        try:
            client.execute()
        except (CellExecutionError, DeadKernelError) as e:
            reason = re.sub("\x1b.*?m", "", str(e).strip().splitlines()[-1])  # colours are for terminals
            raise HgposeError(f"{script.name} stopped at cell {bar.n + 1}: {reason}; run it in JupyterLab") from e
    return clean(notebook)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leaves the static picture of each widget, small pictures, one kernel name, and ids that do not change."""
    notebook.metadata = {
        "jupytext": {"formats": "ipynb,py:percent", "notebook_metadata_filter": "-all", "cell_metadata_filter": "-all"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(WIDGET, None)
            if "image/png" in data:
                data["image/png"] = base64.b64encode(slim(base64.b64decode(data["image/png"]))).decode()
    return notebook


def slim(png: bytes) -> bytes:
    """A picture in 256 colours, dithered, if that makes it smaller (a third, as a rule): notebooks are to be cloned."""
    picture, small = Image.open(io.BytesIO(png)), io.BytesIO()
    if picture.mode == "P":  # it has been through here
        return png
    picture = picture.convert("RGB")
    palette = picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(small, "png", optimize=True)
    return min(png, small.getvalue(), key=len)
