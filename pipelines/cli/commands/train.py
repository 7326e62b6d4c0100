"""`reel train`: a recipe and a snapshot become a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelwright.pipelines.cli.app import app, say

if TYPE_CHECKING:
    from reelwright.pipelines.train.run import Job
    from reelwright.training.recipe import TrainRecipe

RecipeArgument = Annotated[Path, typer.Argument(help="YAML recipe, such as configs/train/mini/stage2-t2v.yaml.")]
Out = Annotated[str, typer.Option("--out", "-o", help="Folder of runs.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe; repeatable.")]

Snapshots = Annotated[
    list[str] | None,
    typer.Option("--snapshot", help="Snapshot to train on; NAME:SHARE of each of several, in place of data.mix."),
]
ResumeFrom = Annotated[
    str, typer.Option("--resume-from", help="Another run's checkpoint: begin with its weights, optimizer and step.")
]


@app.command(epilog="Example:  reel train configs/train/mini/stage2-t2v.yaml --snapshot first --store STORE --out runs")
def train(
    recipe: RecipeArgument,
    snapshot: Snapshots = None,
    store: Annotated[str, typer.Option("--store", "-s", envvar="REEL_STORE", help="Store folder or URI.")] = "",
    out: Out = "runs",
    settings: Settings = None,
    steps: Annotated[int | None, typer.Option(help="Steps, in place of the recipe's.")] = None,
    resume_from: ResumeFrom = "",
    workers: Annotated[int, typer.Option(help="Ray Train workers; 0: this process (or torchrun's).")] = 0,
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster; default: this machine.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show memory per rank, and --snapshot's captions.")] = False,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="With --plan: ranks to plan for.")] = 1,
    gpu_memory: Annotated[float | None, typer.Option(min=0.1, help="With --plan: GiB of a GPU.")] = None,
    peak_tflops: Annotated[float | None, typer.Option(min=0.1, help="With --plan: a GPU's dense peak.")] = None,
    mfu: Annotated[float | None, typer.Option(min=0.01, max=1, help="With --plan: to tell a step's time by.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.001, help="With --plan: a step's time, for its MFU.")] = None,
) -> None:
    """Train on a snapshot. The same command again resumes a stopped run; a finished run is left alone."""
    full = load_train_recipe(recipe, settings or [], steps)
    if plan:
        from reelwright.pipelines.train.memory_estimate import print_plan

        figures = {"gpu_memory_gb": gpu_memory, "peak_tflops": peak_tflops, "mfu": mfu, "seconds": seconds}
        print_plan(full, gpus=gpus, **figures, say=say)
        if store and (snapshot or full.data.mix):
            say_captions(full, snapshot or [], store)
        return
    job = make_job(full, recipe, snapshot or [], store, out, resume_from)
    raise typer.Exit(start(job, workers=workers, address=address))


def say_captions(recipe: "TrainRecipe", snapshots: Sequence[str], store: str) -> None:
    """Print the limits of the captions that would be trained on."""
    from reelwright.curation.store import Store
    from reelwright.pipelines.recipes.snapshots import choose_snapshots
    from reelwright.training.data.mix_rows import training_rows
    from reelwright.training.data.rows import caption_note

    recipe, snapshot = choose_snapshots(recipe, snapshots)
    rows = training_rows(Store.open(store), snapshot, recipe.data)
    say(caption_note(rows) or f"captions      all {len(rows):,} clips have one")


def load_train_recipe(path: Path, settings: list[str], steps: int | None = None) -> "TrainRecipe":
    """Read a training recipe.

    Raises:
        RecipeError: it is not valid.
    """
    from reelwright.recipe_files import parse_overrides
    from reelwright.training.recipe_file import load_recipe

    overrides: dict[str, Any] = parse_overrides(settings, example="optim.lr=1e-4")
    if steps is not None:
        overrides["steps"] = steps
    return load_recipe(path, overrides)


def make_job(
    recipe: "TrainRecipe", path: Path, snapshots: Sequence[str], store: str, out: str, resume_from: str = ""
) -> "Job":
    """Paths are made absolute: a job travels. Raises UserError where something was not said."""
    from reelwright.errors import UserError
    from reelwright.pipelines.recipes.locations import with_absolute_paths
    from reelwright.pipelines.recipes.snapshots import choose_snapshots
    from reelwright.pipelines.train.run import Job

    recipe, snapshot = choose_snapshots(recipe, snapshots)
    if not store:
        raise UserError("no store was named; add --store FOLDER (or set REEL_STORE)")
    store_uri = store if "://" in store else str(Path(store).expanduser().absolute())
    begins = str(Path(resume_from).expanduser().absolute()) if resume_from else ""
    return Job(with_absolute_paths(recipe), path.stem, snapshot, store_uri, out, str(path), begins)


def start(job: "Job", *, workers: int = 0, address: str | None = None) -> int:
    """Run a job here, under torchrun or on Ray; returns the exit code."""
    if workers or address:
        from reelwright.pipelines.train.on_ray import run_on_ray

        return run_on_ray(job, workers=max(1, workers), address=address, say=say)
    from reelwright.pipelines.train.run import run_here

    return run_here(job, say=say)
