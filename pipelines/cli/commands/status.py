"""`reel status`: what runs are doing, asked from another terminal."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from reelwright.pipelines.cli.app import StoreOption, app, printable, say

SHOWN = 5
WATCH_S = 5.0


@app.command(epilog="Example:  reel status --store STORE --watch")
def status(
    store: StoreOption,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 5 s until no run is left.")] = False,
    all_runs: Annotated[bool, typer.Option("--all", help="Show runs that ended, too.")] = False,
) -> None:
    """Show what the runs of a store are doing: how far they are, time left, and what each stage takes."""
    from reelwright.curation.records.status import RUNNING, read
    from reelwright.curation.store import Store

    uri = Store.open(store).uri
    while True:
        found = read(uri)
        running = [facts for facts in found if facts["state"] == RUNNING]
        shown = found[: SHOWN * 4] if all_runs else running or found[:1]
        say(*(line for facts in shown for line in lines(facts)) if shown else ["no run has told of itself"])
        if not watch or not running:
            return
        time.sleep(WATCH_S)
        say("")


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines about one run."""
    from reelwright.curation.records.status import LOST, RUNNING, SILENT_S
    from reelwright.pipelines.runtime.progress import left_in_words, span

    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["began"]))
    state = facts["state"]
    if state == LOST:
        state = "lost: it was killed, and goes on when the same command is run again"
    elif facts["silent_s"] > SILENT_S:
        state = f"silent for {span(facts['silent_s'])}: killed, or its machine stands still"
    where = printable(f"process {facts['owner'].get('pid')} on {facts['owner'].get('host')}")
    yield f"{facts['command']}, begun {began} by {where}: {state}"
    if "total" in facts:
        counted = {name: count for name, count in facts.get("counts", {}).items() if isinstance(count, int)}
        counts = "".join(f", {count:,} {name}" for name, count in counted.items())
        clips, elapsed_s = facts.get("counts", {}).get("clips"), facts.get("elapsed_s", 0)
        rate = f" ({clips / elapsed_s:.2f} clips/s)" if clips and elapsed_s else ""
        far = f"{facts['done']:,} of {facts['total']:,}{counts}{rate}"
        yield f"  {printable(str(facts.get('what')))}: {far}, {span(elapsed_s)}"
    if (left := left_in_words(facts)) and facts["state"] == RUNNING:
        weighed = ", films weighed by their length and size" if facts["command"] == "curate" else ""
        yield f"  {printable(left)} at this pace{weighed}"
    if facts.get("stages"):
        yield "  stage        tasks  queued  running   seconds     CPU s    wait s  peak MiB    read MB"
    for name, stage in facts.get("stages", {}).items():
        yield (
            f"  {printable(name):9} {stage['tasks']:8,} {stage['queued']:7,} {stage['in_flight']:8,} "
            f"{stage['seconds']:9,.1f} {stage['cpu_s']:9,.1f} {stage['wait_s']:9,.1f} "
            f"{stage['peak_bytes'] / 2**20:9,.0f} {stage['bytes_in'] / 1e6:10,.1f}"
        )
