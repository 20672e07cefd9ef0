"""The command line: ``hgpose COMMAND`` or ``python -m hgpose_utils COMMAND``. An error: one line and exit status 2."""

import math
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from hgpose_utils.files import HgposeError

app = typer.Typer(
    name="hgpose",
    help="Human pose estimation with stacked hourglass networks.",
    add_completion=False,
    rich_markup_mode=None,
)

STOPPED = 130  # typer's status after Ctrl-C
UsageError = typer.BadParameter.__base__  # typer exports the child alone

Data = Annotated[Path, typer.Option("--data", help="A dataset's folder or annotation file (data/README.md).")]
Datasets = Annotated[
    list[Path],
    typer.Option("--data", help="A dataset's folder or annotation file (data/README.md); repeat it to join several."),
]
Runs = Annotated[Path, typer.Option("--runs", help="Where the runs' folders lie.")]
People = Annotated[int | None, typer.Option(help="Train on this many people, evenly spread; all, if not given.")]
Precision = Annotated[
    str | None, typer.Option(help="bf16-mixed or 32-true; if not given, whichever the processor is fast at.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Train with torch.compile.")]
TensorBoard = Annotated[Path | None, typer.Option("--tensorboard", help="Also write the history for TensorBoard.")]
Size = Annotated[int, typer.Option("--size", help="Side of the network's input in pixels.")]


@app.command()
def synth(
    out: Path,
    people: Annotated[int, typer.Option(help="How many pictures, one person each.")] = 1200,
    seed: int = 0,
):
    """Draws people and writes them to OUT in MPII's own layout."""
    from hgpose_utils.synthetic import make_dataset

    make_dataset(out, people, seed)
    print(f"{people} pictures of people are in {out}")


data_app = typer.Typer(help="Looks at a dataset.", rich_markup_mode=None)
app.add_typer(data_app, name="data")


@data_app.command("check")
def check(dataset: Path):
    """Says what DATASET holds, what is missing or odd, and what to do next."""
    from hgpose_utils.annotations import check_people

    print(*check_people(dataset), sep="\n")


@data_app.command("stats")
def stats(
    dataset: Path,
    name: Annotated[str, typer.Option(help="What the tables are called.")],
    out: Annotated[Path, typer.Option(help="The folder for the tables.")] = Path("results/statistics"),
):
    """Writes what the people of DATASET are like: tables of their joints, sizes, kinds of poses; no picture."""
    from hgpose_utils.annotations import read_people
    from hgpose_utils.files import replacing
    from hgpose_utils.statistics import dataset_statistics

    for kind, table in dataset_statistics(read_people(dataset)).items():
        with replacing(out / f"{name}-{kind}.csv") as file:
            table.to_csv(file, float_format="%.4f")
        print(out / f"{name}-{kind}.csv")


@app.command()
def crop(dataset: Path, size: Size = 256):
    """Makes the crops of DATASET, once; training makes them too if they are not there."""
    from hgpose_utils.crops import make_crops

    crops = make_crops(dataset, size)
    print(f"{len(crops)} crops of {crops.side} × {crops.side} px are in {dataset}")


@app.command()
def train(
    data: Datasets,
    model: Annotated[str, typer.Option(help="hg, hru or new.")] = "hg",
    stacks: Annotated[int, typer.Option(help="How many hourglasses (the report: 1, 2, 8).")] = 1,
    epochs: int = 15,
    batch_size: int = 8,
    learning_rate: float = 2.5e-4,
    size: Size = 256,
    seed: int = 0,
    channels: Annotated[int, typer.Option(help="The network's width; 532 gives HG as many weights as New.")] = 256,
    people: People = None,
    occluded: Annotated[bool, typer.Option(help="Train on hidden joints too; PyTorch-Pose does not.")] = True,
    decay: Annotated[bool, typer.Option("--decay", help="Let the learning rate fall to nothing.")] = False,
    runs: Runs = Path("results/runs"),
    precision: Precision = None,
    compiled: Compile = False,
    tensorboard: TensorBoard = None,
):
    """Trains one network; run again, it goes on where it stopped."""
    from hgpose_utils.runs import Recipe

    rest = {"channels": channels, "people": people, "occluded": occluded, "decay": decay}
    recipe = Recipe(model, stacks, epochs, batch_size, learning_rate, size, seed, **rest)
    _train([recipe], data, runs, precision, compiled, tensorboard)


@app.command("report-runs")
def report_runs(
    data: Datasets,
    epochs: int = 15,
    batch_size: int = 8,
    size: Size = 256,
    seed: int = 0,
    people: People = None,
    minutes: Annotated[float, typer.Option(help="Stop within this time; run again to go on.")] = math.inf,
    runs: Runs = Path("results/runs"),
    precision: Precision = None,
    compiled: Compile = False,
    tensorboard: TensorBoard = None,
):
    """Trains the report's nine networks in order, smallest first, skipping what is done."""
    from hgpose_utils.models import NINE
    from hgpose_utils.runs import Recipe

    deadline = time.monotonic() + 60 * minutes
    recipes = [Recipe(m, s, epochs, batch_size, size=size, seed=seed, people=people) for m, s in NINE]
    _train(recipes, data, runs, precision, compiled, tensorboard, deadline)


def _train(recipes, data, runs, precision, compiled, tensorboard, deadline=math.inf):
    from hgpose_utils.crops import join, make_crops
    from hgpose_utils.runs import dataset_name, device_name, run_folder
    from hgpose_utils.train import is_late, make_fabric, train

    fabric = make_fabric(precision)
    fabric.launch()
    fabric.print(f"{device_name(fabric.device)}, {fabric.world_size} × {fabric._precision.precision}, channels-last")
    name = dataset_name(data, recipes[0].size)
    with fabric.rank_zero_first():
        crops = join([make_crops(some, recipes[0].size, progress=fabric.is_global_zero) for some in data])
    for recipe in recipes:
        folder = run_folder(runs, name, recipe)
        if tensorboard:
            fabric.loggers[:] = [_tensorboard(tensorboard, folder.relative_to(runs))]
        history = train(recipe, crops, folder, name, fabric, fabric.print, True, deadline, compiled)
        if len(history):
            fabric.print(f"{folder}: {len(history)} epochs, PCK {history.pck.iloc[-1]:.3f}")
        if fabric.is_global_zero and (folder / "last.pt").exists() and len(history) == recipe.epochs:
            _write_errors(folder, crops, fabric.device)
        if is_late(fabric, deadline) or len(history) < recipe.epochs:
            fabric.print("time is up: run it again to go on")
            break


def _write_errors(folder, crops, device):
    from hgpose_utils.files import replacing
    from hgpose_utils.predict import PosePredictor, heatmap_errors

    if not (folder / "errors.csv.gz").exists():
        table = heatmap_errors(PosePredictor.of_last_epoch(folder, device), crops.split("val"))
        with replacing(folder / "errors.csv.gz") as file:
            table.to_csv(file, index=False, float_format="%.4g", compression={"method": "gzip", "mtime": 0})


def _tensorboard(folder, run):
    from lightning.fabric.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(folder, name=str(run), version="")
    except ModuleNotFoundError as e:
        raise HgposeError("TensorBoard is not installed: pip install tensorboard, then run it again") from e


@app.command()
def evaluate(
    data: Data,
    checkpoint: Path,
    split: str = "val",
    out: Annotated[Path | None, typer.Option(help="Where the whole table goes, a .csv file.")] = None,
):
    """Scores a trained network (a .safetensors file) on a dataset's validation people, by every metric.

    With and without averaging over the mirrored picture (flip) and moving each joint by a quarter pixel (quarter).
    """
    from hgpose_utils.crops import make_crops
    from hgpose_utils.files import replacing
    from hgpose_utils.predict import PosePredictor, evaluation_table

    predictor = PosePredictor.load(checkpoint)
    table = evaluation_table(predictor, make_crops(data, predictor.size).split(split))
    by_setting = table.set_index(["metric", "flip", "quarter"])
    print("Mean over the joints:", by_setting["mean"].unstack(["flip", "quarter"]).round(4), sep="\n")
    print("\nWith flip and quarter:", by_setting.xs((True, True), level=(1, 2)).T.round(4), sep="\n")
    if out:
        with replacing(out) as file:
            table.to_csv(file, index=False, float_format="%.6f")


@app.command("release")
def release_network(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    data: Datasets,
    out: Annotated[Path | None, typer.Option(help="The .safetensors file; the course's own, if not given.")] = None,
):
    """Writes a run's network in half precision, and its recipe and its scores on each dataset beside it."""
    from hgpose_utils.predict import SHIPPED
    from hgpose_utils.release import release

    about = release(run, data, out or SHIPPED)
    print(f"{out or SHIPPED}: {about['bytes']} bytes", *about["validation"].items(), sep="\n")


@app.command("predict")
def predict_photos(
    photos: list[Path],
    checkpoint: Annotated[
        Path | None, typer.Option(help="A .safetensors file; the course's own, if not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the drawings and poses.json go.")] = Path("poses"),
    coco: Annotated[bool, typer.Option("--coco", help="Write poses.json in COCO's keypoint layout.")] = False,
):
    """Finds the pose of the one person in each photo, draws it, and writes the joints to poses.json.

    Photos that cannot be read are named and left out; the exit status is then 2.
    """
    from hgpose_utils.photos import write_poses
    from hgpose_utils.predict import SHIPPED, PosePredictor

    problems = write_poses(PosePredictor.load(checkpoint or SHIPPED), photos, out, coco)
    print(f"{len(photos) - len(problems)} poses are in {out}")
    for problem in problems:
        print(f"hgpose: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(2)


@app.command()
def bench(
    model: str = "hg",
    stacks: int = 1,
    size: Size = 256,
    batch_size: int = 8,
    nine: Annotated[bool, typer.Option("--nine", help="Measure all nine networks, our way.")] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Measure all nine networks in every way, at batch 8 and 32, but what is there yet."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the machine's table goes.")] = Path("results/bench"),
):
    """Measures a network's speed on this machine, from the peers' way to ours, step by step."""
    from hgpose_utils import bench as speed
    from hgpose_utils.models import NINE

    file = out / f"{speed.machine()}.csv"
    rows = speed.bench(
        networks=NINE if nine or everything else [(model, stacks)],
        size=size,
        batch_sizes=(8, 32) if everything else (batch_size,),
        ways=[speed.OURS[speed.DEVICE]] if nine and not everything else None,
        done=set(speed.measured(file)[speed.KEY].itertuples(index=False, name=None)) if everything else (),
    )
    for row in rows:
        speed.keep(file, row)
        print("  ".join(f"{name} {v:.3g}" if isinstance(v, float) else str(v) for name, v in list(row.items())[:-4]))
    print(f"all speeds of this machine are in {file}")


@app.command()
def field(
    checkpoint: Path,
    data: Data,
    people: Annotated[int, typer.Option(help="How many validation people to average over.")] = 64,
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = Path("results/effective_field"),
):
    """Measures how far a trained network looks: the gradient of its middle pixel, before and after training."""
    from hgpose_utils.crops import make_crops
    from hgpose_utils.files import replacing
    from hgpose_utils.predict import PosePredictor, influence_of_training
    from hgpose_utils.runs import dataset_name

    predictor = PosePredictor.load(checkpoint)
    table = influence_of_training(predictor, make_crops(data, predictor.size).split("val"), people)
    name = f"{dataset_name([data], predictor.size)}-{predictor.name}"
    print(f"{name}: 95 % of the gradient within", table.attrs["effective"])
    with replacing(out / f"{name}.csv") as file:
        table.to_csv(file, float_format="%.4f")


@app.command()
def report():
    """Makes the pages' tables anew from results/."""
    from hgpose_utils.files import replacing
    from hgpose_utils.results import PAGES, write_tables

    for page in PAGES:
        with replacing(page) as file:
            file.write_text(write_tables(page.read_text()))


@app.command()
def course(
    only: Annotated[list[str] | None, typer.Argument(help="Some notebooks: 02 solutions/03. All, if none.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the executed notebooks go.")] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Also renew notebooks/*.ipynb.")] = False,
):
    """Runs the notebooks top to bottom at the budget of HGPOSE_BUDGET."""
    from hgpose_utils.course import run_course

    run_course(out, in_place, tuple(only or ()))


@app.command("app")
def serve_app(
    host: Annotated[
        str, typer.Option(help="The address to listen on; this one is open to this machine alone.")
    ] = "127.0.0.1",
    port: int = 8866,
):
    """Shows the explorers as a web page, until Ctrl-C."""
    from hgpose_utils.app import serve

    serve(host, port)


def main():
    """Runs the command line, turning every expected error into one line on stderr and exit status 2."""
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if status == STOPPED:
            raise KeyboardInterrupt
    except (HgposeError, UsageError) as e:
        message = e.format_message() if isinstance(e, UsageError) else str(e)
        print(f"hgpose: {message}", file=sys.stderr)
        status = 2
    except (typer.Abort, KeyboardInterrupt):
        print("hgpose: stopped; what is done is kept", file=sys.stderr)
        status = STOPPED
    sys.exit(status)
