"""`reel search`, `reel similar`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from reelwright.pipelines.cli.app import StoreOption, app, say

if TYPE_CHECKING:
    from reelwright.pipelines.browse.search import Found

TAIL = 56  # characters of an address; its end says more than its beginning

Count = Annotated[int, typer.Option("--count", "-n", min=1, max=1_000, help="Clips to find.")]
Where = Annotated[str | None, typer.Option(help="SQL condition on columns of clips, applied before the search.")]
Visual = Annotated[bool, typer.Option("--visual", help="By visual_embedding (CLIP), not by the captions.")]
Format = Annotated[str, typer.Option("--format", "-f", help="table, csv, json or jsonl.")]


@app.command(epilog='Example:  reel search "a dog on a beach" -s STORE --where "duration_s > 2"')
def search(
    text: Annotated[str, typer.Argument(help="What to look for, in words.")],
    store: StoreOption,
    count: Count = 10,
    where: Where = None,
    visual: Visual = False,
    model: Annotated[str, typer.Option(help="Folder of the column's model, if it has moved.")] = "",
    format: Format = "table",
) -> None:
    """Find clips with captions close in meaning to a text. score: cosine, 1 is the same."""
    from reelwright.curation.store import Store
    from reelwright.pipelines.browse.search import CAPTION, VISUAL
    from reelwright.pipelines.browse.search import search as find

    column = VISUAL if visual else CAPTION
    _print(find(Store.open(store), text, count, column=column, where=where, model=model), format, store)


@app.command(epilog="Example:  reel similar 3f2a -s STORE")
def similar(
    clip: Annotated[str, typer.Argument(help="Clip id, or the beginning of one.")],
    store: StoreOption,
    count: Count = 10,
    where: Where = None,
    visual: Visual = False,
    format: Format = "table",
) -> None:
    """Find clips with captions close in meaning to a clip's, or that look like it. score: cosine, 1 is the same."""
    from reelwright.curation.store import Store
    from reelwright.pipelines.browse.search import CAPTION, VISUAL
    from reelwright.pipelines.browse.search import similar as find
    from reelwright.pipelines.browse.sheets import find_clip

    opened = Store.open(store)
    found = find(opened, find_clip(opened, clip), count, column=VISUAL if visual else CAPTION, where=where)
    _print(found, format, store)


def _print(found: "Found", format: str, store: str) -> None:
    import pyarrow as pa

    from reelwright.curation.store import write_result

    rows = found.rows
    if format == "table":
        short = [uri and (uri if len(uri) <= TAIL else f"…{uri[1 - TAIL :]}") for uri in rows["source"].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index("source"), "source", pa.array(short, pa.string()))
    write_result(rows, format)
    if found.note:
        print(found.note, file=sys.stderr)
    if format == "table" and rows.num_rows:
        say(f"look at one:  reel show CLIP_ID --store {store}")
