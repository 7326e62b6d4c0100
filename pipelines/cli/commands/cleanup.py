"""`reel cleanup`."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from reelwright.pipelines.cli.app import StoreOption, app, say

if TYPE_CHECKING:
    from reelwright.curation.store.maintenance import CleanupReport


@app.command(epilog="Example:  reel cleanup --store STORE")
def cleanup(
    store: StoreOption,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="What was the newest version in these last hours stays, for those who read it.")
    ] = 24.0,
) -> None:
    """Merge small files; delete old versions that no snapshot pins, and leftovers of killed runs.

    Readers may continue meanwhile; the command refuses while a process writes to the store.
    """
    from reelwright.curation.store import Store

    done = Store.open(store).cleanup(timedelta(hours=keep_hours))
    say(*filter(None, map(_line, done)), f"freed {sum(t.freed for t in done) / 1e6:,.1f} MB")
    if any(t.kept for t in done):
        say(f"old versions that a reader may have open stay for {keep_hours:g} hours; "
            "when nobody reads, `--keep-hours 0` drops them too")  # fmt: skip


def _line(done: "CleanupReport") -> str:
    """Of a table to which something was done."""
    before, after = done.files
    if before == after and not done.dropped and not done.kept:
        return ""
    files = f"{before:,} -> {after:,}" if before != after else f"{after:,}"
    versions = f"{done.dropped:,} dropped, {done.kept:,} kept, {done.pinned:,} pinned"
    return f"{done.table:16} files: {files:14} versions: {versions}"
