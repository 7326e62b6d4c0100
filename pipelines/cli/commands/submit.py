"""`reel submit …`: the same run on a Ray cluster, as a job."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from reelwright.pipelines.cli.app import app
from reelwright.pipelines.cli.commands.train import Out, RecipeArgument, ResumeFrom, Settings, Snapshots

submit = typer.Typer(help="Run a command as a job on a Ray cluster.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(submit, name="submit")


Address = Annotated[str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The job server.")]
WorkingDir = Annotated[
    str | None, typer.Option("--working-dir", help="Folder sent along, where reelwright is not installed there.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return once the job is accepted.")]


@submit.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example:  reel submit curate --address http://head:8265 recipe.yaml",
)
def curate(context: typer.Context, address: Address, working_dir: WorkingDir = None, no_wait: NoWait = False) -> None:
    """Submit `reel curate …` with the same arguments; follow its log; fail if it fails."""
    from reelwright.pipelines.runtime.jobs import run_job

    sys.exit(run_job(["curate", *context.args], address=address, working_dir=working_dir, wait=not no_wait))


@submit.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example:  reel submit annotate --address http://head:8265 --store s3://bucket/store --profile full",
)
def annotate(context: typer.Context, address: Address, working_dir: WorkingDir = None, no_wait: NoWait = False) -> None:
    """Submit `reel annotate …` with the same arguments; follow its log; fail if it fails."""
    from reelwright.pipelines.runtime.jobs import run_job

    sys.exit(run_job(["annotate", *context.args], address=address, working_dir=working_dir, wait=not no_wait))


@submit.command(
    epilog="Example:  reel submit train --address http://head:8265 recipe.yaml --snapshot first -s s3://bucket/store"
)
def train(
    address: Address,
    recipe: RecipeArgument,
    store: Annotated[str, typer.Option("--store", "-s", help="Store, as the cluster sees it.")],
    snapshot: Snapshots = None,
    out: Out = "runs",
    settings: Settings = None,
    steps: Annotated[int | None, typer.Option(help="Steps, in place of the recipe's.")] = None,
    resume_from: ResumeFrom = "",
    workers: Annotated[int, typer.Option(help="Ray Train workers.")] = 1,
    working_dir: WorkingDir = None,
    no_wait: NoWait = False,
) -> None:
    """Submit `reel train …`, once per recipe and snapshot.

    Where a job of the same recipe on the same snapshot waits or runs, it is named; after one that has ended, training
    resumes. The recipe is read here, to recognise it later, and on the cluster: as a path that both see, or within
    --working-dir.
    """
    from reelwright.pipelines.cli.commands.train import load_train_recipe
    from reelwright.pipelines.recipes.snapshots import choose_snapshots
    from reelwright.pipelines.runtime.jobs import run_job, train_job_id
    from reelwright.training.mix import label, options

    here = Path(working_dir) / recipe if working_dir and not recipe.is_absolute() else recipe
    full, name = choose_snapshots(load_train_recipe(here, settings or [], steps), snapshot or [])
    mix = full.data.mix
    arguments = ["train", str(recipe), *options(name, mix).split(), "--store", store, "--out", out]
    arguments += ["--workers", str(workers)]
    arguments += [word for one in settings or [] for word in ("--set", one)]
    arguments += ["--steps", str(steps)] if steps is not None else []
    arguments += ["--resume-from", resume_from] if resume_from else []
    wanted, names = f"{full.fingerprint} {full.steps} {resume_from}", label(name, mix).replace("+", "-")
    job_id = train_job_id(recipe.stem, wanted, names, store)
    sys.exit(run_job(arguments, address=address, working_dir=working_dir, wait=not no_wait, job_id=job_id))
