"""The repository holds together: one list of dependencies, one direction of imports, notebooks that were really run."""

import ast
import base64
import io
import json
import re
import statistics
import subprocess
import sys
import tomllib
from itertools import pairwise

import jupytext
import nbformat
import numpy as np
import pytest
import yaml
from PIL import Image

from hgpose_utils.budget import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
LESSONS = [file for file in NOTEBOOKS if file.parent.name == "notebooks" and file.stem != "app"]
FLOW = [
    "annotations",
    "crops",
    "augment",
    "heatmaps",
    "models",
    "metrics",
    "runs",
    "train",
    "results",
    "plots",
    "predict",
]


def normal(name):
    return re.split(r"[<>=!\[; ]", name.strip())[0].lower().replace("_", "-")


def test_the_three_lists_of_dependencies_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {normal(line) for line in project["dependencies"]}
    exact = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    exact = {normal(name): version for name, version in exact.items()}
    extras = [line for group in project["optional-dependencies"].values() for line in group]
    assert wanted | {normal(line) for line in extras} <= exact.keys()
    text = (ROOT / "environment.yml").read_text()
    (pip,) = [entry["pip"] for entry in yaml.safe_load(text)["dependencies"] if isinstance(entry, dict)]
    conda = dict(line.split("==") for line in pip if "==" in line)
    assert {normal(name) for name in conda} == wanted
    assert all(exact[normal(name)] == version for name, version in conda.items())
    uncommented = [line for line in text.splitlines() if "==" in line and "#" not in line]
    assert not uncommented
    assert (exact["torch"], exact["torchvision"]) == ("2.15.0", "0.29.2")


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {normal(line) for line in project["dependencies"]}
    names = {"PIL": "pillow", "IPython": "jupyterlab", "nbclient": "nbconvert", "nbformat": "nbconvert"}
    names["traitlets"] = "voila"
    for file in (ROOT / "hgpose_utils").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {m.split(".")[0] for m in modules} - set(sys.stdlib_module_names):
                assert top == "hgpose_utils" or normal(names.get(top, top)) in wanted, f"{file.name} imports {top}"


def test_nothing_imports_what_comes_after_it_in_the_flow():
    for place, name in enumerate(FLOW):
        for node in ast.walk(ast.parse((ROOT / f"hgpose_utils/{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hgpose_utils."):
                other = node.module.split(".")[1]
                assert other not in FLOW[place:], f"{name} imports {other}"


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
class TestNotebook:
    def test_it_equals_its_script(self, file):
        assert jupytext.writes(nbformat.read(file, 4), "py:percent") == file.with_suffix(".py").read_text()

    def test_it_was_run_once_top_to_bottom_without_error(self, file):
        cells = [c for c in nbformat.read(file, 4).cells if c.cell_type == "code"]
        assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
        assert not [o for c in cells for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"]

    def test_it_holds_no_widget_state_no_path_and_at_most_3_mb(self, file):
        text = file.read_text()
        notebook = json.loads(text)
        assert "widgets" not in notebook["metadata"] and "widget-view" not in text
        assert not re.search(r"(?<![\w.])/(home|root|Users|work|tmp|usr|opt)/|[A-Z]:\\\\", text)
        assert file.stat().st_size < 3_000_000

    def test_its_cells_are_short_and_its_figures_described(self, file):
        cells = nbformat.read(file, 4).cells
        lines = [len(c.source.splitlines()) for c in cells if c.cell_type == "code"]
        assert max(lines) <= 40 and statistics.median(lines) <= 8
        for cell, after in pairwise(cells):
            if any("image/png" in o.get("data", {}) for o in cell.get("outputs", [])):
                assert "**Figure:**" in after.source, cell.source

    def test_it_says_what_it_teaches_and_how_long_it_takes(self, file):
        cells = nbformat.read(file, 4).cells
        if file in LESSONS:
            first, whole = cells[0].source, "\n".join(c.source for c in cells)
            assert first.startswith("# ") and "**You will learn**" in first and "**Time:**" in first
            assert "## Summary" in whole and "## References" in whole


def test_the_front_pages_figures_are_those_that_the_notebooks_show():
    """So that none of them can be left from a run on other people's photos, which must stay out."""

    def small(png):
        return np.asarray(Image.open(io.BytesIO(png)).convert("L").resize((96, 64)), float)

    outputs = [o for f in NOTEBOOKS for c in nbformat.read(f, 4).cells for o in c.get("outputs", [])]
    shown = [small(base64.b64decode(o.data["image/png"])) for o in outputs if "image/png" in o.get("data", {})]
    figures = sorted((ROOT / "results/figures").glob("*.png"))
    assert len(figures) > 10
    for figure in figures:
        unlike = min(np.abs(small(figure.read_bytes()) - picture).mean() for picture in shown)
        assert unlike < 20, f"no notebook shows {figure.name} ({unlike:.0f} of 255 off): run `hgpose course --in-place`"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_what_git_holds_stays_small():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert sum((ROOT / name).stat().st_size for name in names.split("\0") if (ROOT / name).is_file()) < 12_000_000


def test_there_are_five_notebooks():
    assert [f.stem[:2] for f in LESSONS] == ["01", "02", "03", "04", "05"]


def test_every_exercise_has_its_solution():
    for file in NOTEBOOKS:
        if file.parent.name == "solutions":
            questions = (file.parent.parent / f"{file.stem}.py").read_text().split("## Exercises")[1]
            asked = len(re.findall(r"^# \d\. ", questions.split("Solutions")[0], re.M))
            answers = file.with_suffix(".py").read_text()
            assert len(re.findall(r"^# ## Exercise \d", answers, re.M)) == asked
