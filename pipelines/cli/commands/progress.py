"""`reel progress`: a page of a training run's curves and samples."""

from pathlib import Path
from typing import Annotated

import typer

from reelwright.pipelines.cli.app import app, say


@app.command(epilog="Example:  reel progress runs/mini/grpo-first-1f2e3d4c")
def progress(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File; default: RUN/progress.html.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the sheet of samples as a PNG too.")] = None,
) -> None:
    """Draw a run's rewards, meters and losses, and its samples: a row per prompt, a column per step."""
    from reelwright.errors import UserError
    from reelwright.pipelines.browse.progress import write_progress
    from reelwright.pipelines.browse.sheets import samples_sheet, write_whole

    say(f"page: {write_progress(run, out)}")
    if sheet:
        picture = samples_sheet(run)
        if picture is None:
            raise UserError(f"{run} has no samples; set samples.every and samples.prompts in its recipe")
        write_whole(sheet, picture)
        say(f"sheet: {sheet}")
