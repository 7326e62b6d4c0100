"""`reel trace`: from one generation to the training clips nearest to it."""

from pathlib import Path
from typing import Annotated

import typer

from reelwright.pipelines.cli.app import StoreOption, app, printable, say


@app.command(epilog="Example:  reel trace 3f2a --store STORE -o page.html")
def trace(
    generation: Annotated[str, typer.Argument(help="generation_id, or the beginning of one.")],
    store: StoreOption,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Page with pictures; a file or a folder.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="Clips of each list.")] = 8,
    model: Annotated[str, typer.Option(help="Folder of the model of caption_embedding, if it has moved.")] = "",
) -> None:
    """List the training clips nearest to one generation, in caption and in picture.

    Each has its source, its weight in the snapshot, annotators' scores and what it cost the training, where the run
    kept that (log.clip_loss_bands).
    """
    from reelwright.curation.store import Store
    from reelwright.pipelines.browse.trace.find import trace as find
    from reelwright.pipelines.browse.trace.page import write_page
    from reelwright.pipelines.browse.trace.words import words

    opened = Store.open(store)
    found = find(opened, generation, count=count, model=model)
    say(*map(printable, words(found)))
    if out is not None:
        say(f"page:  {write_page(opened, found, out)}")
