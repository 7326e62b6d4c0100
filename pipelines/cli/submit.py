"""`reel submit …`: the same run on a Ray cluster, as a job."""

import sys
from typing import Annotated

import typer

from pipelines.cli.app import app

submit = typer.Typer(help="Run a command as a job on a Ray cluster.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(submit, name="submit")


@submit.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example:  reel submit curate --address http://head:8265 recipe.yaml",
)
def curate(
    context: typer.Context,
    address: Annotated[str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The job server.")],
    working_dir: Annotated[
        str | None, typer.Option("--working-dir", help="Folder sent along, where reelwright is not installed there.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once the job is accepted.")] = False,
) -> None:
    """Submit `reel curate …` with the same arguments; follow its log; fail if it fails."""
    from pipelines.jobs import run_job

    sys.exit(run_job(["curate", *context.args], address=address, working_dir=working_dir, wait=not no_wait))
