"""`reel compare`: what differs between two runs."""

from pathlib import Path
from typing import Annotated

import typer

from reelwright.pipelines.cli.app import app, printable, say

MAX_CELL = 60  # characters of a value in the table


@app.command(epilog="Example:  reel compare runs/base-1f2e runs/tuned-9a3c -o compare.html")
def compare(
    first: Annotated[str, typer.Argument(help="A training run's folder; with --store, a run's id.")],
    second: Annotated[str, typer.Argument(help="The other run.")],
    store: Annotated[str, typer.Option("--store", "-s", help="Store with the runs of curation.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML page, with curves and samples.")] = None,
) -> None:
    """Show what differs between two runs of curation, training or tuning: recipe, counts, figures, samples."""
    from reelwright.curation.store import Store
    from reelwright.pipelines.evaluate.compare import compare as differences
    from reelwright.pipelines.evaluate.compare import read_run, shown, write_comparison

    opened = Store.open(store) if store else None
    a, b = read_run(first, opened), read_run(second, opened)
    found = differences(a, b)
    for title, rows in found.items():
        if rows:
            say("", f"{title}:")
        for row in rows:
            cells = [_cut(printable(shown(value))) for value in (row.first, row.second)]
            say(f"  {printable(row.name):<32} {cells[0]:>24}  {cells[1]:>24}{_ratio(row.ratio)}")
    if not any(found.values()):
        say("nothing differs")
    if out:
        say("", f"page: {write_comparison(a, b, out)}")


def _ratio(ratio: float | None) -> str:
    return f"  x {ratio:.3g}" if ratio is not None else ""


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"
