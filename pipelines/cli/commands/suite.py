"""`reel suite`."""

from pathlib import Path
from typing import Annotated

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import app, say


@app.command(
    epilog="Example:  reel suite mine/suite.yaml --prompts ours --picture photos/   then   "
    "reel evaluate RUN --prompts mine/suite.yaml --store STORE"
)
def suite(
    out: Annotated[Path, typer.Argument(help="File to write: .yaml.")],
    prompts: Annotated[list[str] | None, typer.Option("--prompts", help="A suite to take over; repeatable.")] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option("--picture", help="A picture, or a folder of some; NAME.txt beside one is its caption."),
    ] = None,
    clips: Annotated[
        str | None, typer.Option(help="SELECT of clip_id, and caption if wanted: their middle frames are pictures.")
    ] = None,
    store: Annotated[str, typer.Option("--store", "-s", envvar="REEL_STORE", help="Store of --clips.")] = "",
    name: Annotated[str, typer.Option(help="Of the suite.  [default: the file's]")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.")] = False,
) -> None:
    """Write a suite of prompts for reel evaluate: suites joined, and pictures with four prompts each.

    Of each picture: a prompt that says all, one that says little, one that says something else, and an empty one.
    """
    from reelwright.evaluation.suites.files import load_suite
    from reelwright.evaluation.suites.pictures import find_pictures, prompts_of
    from reelwright.evaluation.suites.suite import Suite
    from reelwright.evaluation.suites.writing import write_suite

    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"{out}: name a file ending in .yaml")
    if out.exists() and not force:
        raise UserError(f"{out} is there already; add --force to replace it")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    found = [prompt for one in prompts or [] for prompt in load_suite(one).prompts]
    shown = find_pictures(pictures or [])
    if clips is not None:
        if not store:
            raise UserError("--clips are of a store; add --store STORE")
        from reelwright.curation.store import Store
        from reelwright.pipelines.evaluate.clip_pictures import pictures_of_clips

        shown += pictures_of_clips(Store.open(store), clips, out.absolute().parent / f"{out.stem}-pictures")
    made = Suite(name or out.stem, [*found, *prompts_of(shown)])
    write_suite(out, made.name, made.prompts)
    say(
        f"{out}: {len(made.prompts):,} prompts, {len(shown):,} pictures",
        f"evaluate:  reel evaluate RUN --prompts {out} --store STORE",
    )
