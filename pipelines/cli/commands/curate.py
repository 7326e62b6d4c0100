"""`reel curate`, `reel failures`, `reel report`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelwright import interrupts
from reelwright.errors import UserError
from reelwright.pipelines.cli.app import StoreOption, app, printable, say
from reelwright.pipelines.cli.commands.annotate import failed_before_in_words, postponed_lines, unmeasured_lines

if TYPE_CHECKING:
    from collections.abc import Collection

    from reelwright.curation.ingest.inputs import Inputs, Skipped
    from reelwright.pipelines.annotate.context import Report
    from reelwright.pipelines.curate.sources import Summary
    from reelwright.pipelines.recipes.curation import CurateRecipe

RECIPE_SUFFIXES = {".yaml", ".yml"}


@app.command(epilog="Example:  reel curate FOOTAGE/ --store STORE --set clips.max_s=10")
def curate(
    inputs: Annotated[list[str], typer.Argument(help="Folders, files, globs, manifests, URIs, or one YAML recipe.")],
    store: Annotated[str, typer.Option("--store", "-s", envvar="REEL_STORE", help="Store folder or URI.")] = "",
    recipe: Annotated[Path | None, typer.Option("--recipe", "-r", help="YAML recipe; see `reel recipe`.")] = None,
    profile: Annotated[str | None, typer.Option(help="Annotators: cpu (no download), full (asks models).")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe; repeatable.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show counts, hours and expected cost; write nothing.")] = False,
    prices: Annotated[
        Path | None, typer.Option(help="With --plan: YAML file of rates; show a table of the cost, by stage.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    recut: Annotated[bool, typer.Option("--recut", help="Re-cut clips whose cutting settings changed.")] = False,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Fetch http(s) inputs.")] = False,
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster; default: this machine.")] = None,
    list_skipped: Annotated[
        bool, typer.Option("--list-skipped", help="Print each file that is skipped, with the reason, one per line.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if any file failed.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the summary.")] = False,
) -> None:
    """Turn footage into clips with scores in a store. Run it again at any time: only missing work is done."""
    from reelwright.curation.credentials import use
    from reelwright.pipelines.recipes.prices import load_prices
    from reelwright.pipelines.runtime.cluster import cluster

    if prices and not plan:
        raise UserError("--prices only prices a plan: add --plan")
    rates = load_prices(prices) if prices else None
    full = _recipe(inputs, store, recipe, settings or [], allow_http, profile)
    use(full.credentials)
    found = _found(full, list_skipped)
    if plan:
        with cluster(address):
            from reelwright.pipelines.curate.plan import make_plan

            say(make_plan(full, found, quiet=quiet, prices=rates))
        return
    summary = _run(full, found, address, retry_failed, recut, quiet)
    if not summary.adds_up:
        raise RuntimeError(f"counts do not add up: {summary}; this is a bug, please report it")
    if strict and summary.failed:
        raise typer.Exit(3)


def _found(recipe: "CurateRecipe", list_skipped: bool) -> "Inputs":
    """List the inputs that the recipe names; with `list_skipped`, print the skipped files."""
    from reelwright.curation.ingest.resolve import NothingFound, list_inputs

    try:
        found = list_inputs(
            recipe.inputs, allow_http=recipe.allow_http, manifests=recipe.manifests, images=recipe.images
        )
    except NothingFound as nothing:
        _say_skipped(nothing.skipped, list_skipped)
        raise
    _say_skipped(found.skipped, list_skipped)
    return found


def _say_skipped(skipped: "Collection[Skipped]", wanted: bool) -> None:
    for one in skipped if wanted else ():
        say(f"{printable(one.path)}\t{one.reason}")


def _run(
    recipe: "CurateRecipe", found: "Inputs", address: str | None, retry_failed: bool, recut: bool, quiet: bool
) -> "Summary":
    from reelwright.curation.ingest.resolve import inputs_in_words
    from reelwright.curation.store import Store
    from reelwright.pipelines.annotate.load import load_annotators
    from reelwright.pipelines.curate.run import run_all

    load_annotators(recipe)  # a mistake in their names must not leave an empty store
    if not quiet and (lines := inputs_in_words(found, recipe.manifests)):
        say(*map(printable, lines))
    opened = Store.open(recipe.store, create=True)
    interrupts.leaves(interrupts.COMMITTED)
    with opened.committing():
        summary, report = run_all(
            opened, recipe, found, address=address, retry_failed=retry_failed, recut=recut, quiet=quiet
        )
    say(_summary_text(summary, report, recipe.store))
    return summary


def _recipe(
    inputs: list[str], store: str, path: Path | None, settings: list[str], allow_http: bool, profile: str | None
) -> "CurateRecipe":
    """Return the recipe that the arguments describe; a single YAML file among the inputs is the recipe itself."""
    from reelwright.pipelines.recipes.curation import load_recipe, parse_overrides

    overrides: dict[str, Any] = parse_overrides(settings)
    if len(inputs) == 1 and Path(inputs[0]).suffix.lower() in RECIPE_SUFFIXES and path is None:
        path = Path(inputs[0])
    else:
        overrides["inputs"] = inputs
    if store:
        overrides["store"] = store
    if profile:
        overrides["profile"] = profile
    if allow_http:
        overrides["allow_http"] = True
    full = load_recipe(path, overrides)
    if not full.store:
        raise UserError("no store was named; add --store FOLDER (or set REEL_STORE, or 'store:' in the recipe)")
    if not full.inputs:
        raise UserError(f"the recipe {path} names no inputs; add 'inputs: [FOLDER]' to it")
    return full


def _summary_text(summary: "Summary", report: "Report", store: str) -> str:
    caught_up = len(report.clips)
    new = summary.inputs - summary.done_before
    lines = [
        f"{summary.inputs} inputs = {summary.ok} ok + {summary.duplicate} duplicate + {summary.failed} failed"
        + (f"   ({summary.done_before} were done before)" if summary.done_before else ""),
    ]
    if summary.same_id:
        ids = ", ".join(f"{printable(name)} ({count})" for name, count in list(summary.same_id.items())[:5])
        more = f" and {len(summary.same_id) - 5} more ids" if len(summary.same_id) > 5 else ""
        lines.append(
            f"{sum(summary.same_id.values())} of the duplicates are so by their source_id alone, their bytes differ: "
            f"{ids}{more}; --set manifests.repeated_ids=keep takes each as a video of its own"
        )
    if summary.no_clip:
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(summary.no_clip.items(), key=lambda p: -p[1]))
        lines.append(f"{sum(summary.no_clip.values())} of the ok sources gave no clip: {reasons}")
    if summary.cut_otherwise:
        lines.append(f"{summary.cut_otherwise} of them keep clips cut under other settings; --recut cuts them again")
    if summary.moved:
        lines.append(f"{summary.moved} sources moved: their files are gone, and the same bytes are at a new address")
    if summary.recaptioned:
        lines.append(f"{summary.recaptioned} of them have new captions from the manifest; no clip was cut again for it")
    if not new and not caught_up and not report.done and not report.failed and not report.postponed:
        return "\n".join([*lines, _nothing_new(summary, report, store)])
    rate = summary.clips / summary.seconds if summary.seconds else 0
    lines.append(
        f"{summary.clips} clips added, {summary.clip_bytes / 1e6:.1f} MB, {summary.seconds:.0f} s ({rate:.1f} clips/s)"
        + (f"; {caught_up} stored clips annotated" if caught_up else "")
    )
    if summary.remote_requests:
        mb = summary.remote_bytes / 1e6
        lines.append(f"{mb:,.1f} MB of remote inputs were read by {summary.remote_requests:,} requests")
    if frames := summary.frames_in_shots + summary.frames_in_transitions + summary.frames_dropped:
        parts = f"{summary.frames_in_shots:,} in shots + {summary.frames_in_transitions:,} in transitions"
        dropped = f" + {summary.frames_dropped:,} dropped" if summary.frames_dropped else ""
        lines.append(f"{frames:,} frames = {parts}{dropped}")
    annotations_failed = summary.annotations_failed + sum(report.failed.values())
    if summary.clips_failed or annotations_failed:
        lines.append(f"{summary.clips_failed} clips could not be cut, {annotations_failed} annotations failed")
    lines += unmeasured_lines(Counter(summary.unmeasured) + report.unmeasured,
                              report.why_unmeasured | summary.why_unmeasured)  # fmt: skip
    lines += postponed_lines(report)
    if summary.failed or summary.clips_failed or annotations_failed:
        lines.append(f"what failed:   reel failures --store {store}")
    lines.append(f"look at it:    reel report --store {store}")
    return "\n".join(lines)


def _nothing_new(summary: "Summary", report: "Report", store: str) -> str:
    """Nothing is current that has failed."""
    counts = {
        "source": summary.failed,
        "cut": summary.clips_failed_before,
        "annotation": report.failed_before,
    }
    if any(counts.values()):
        return f"nothing new; {failed_before_in_words(counts, store)}"
    return "nothing to do" if summary.cut_otherwise else "nothing to do: every source and every score is current"


@app.command(epilog="Example:  reel failures --store STORE --stage scan")
def failures(
    store: StoreOption,
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    detail: Annotated[bool, typer.Option("--detail", help="Show what the decoder printed.")] = False,
) -> None:
    """List failures that no later attempt resolved: the newest attempt of each file, clip and stage."""
    from reelwright.curation.store import Store
    from reelwright.curation.store.failures import unresolved

    count = 0
    for batch in unresolved(Store.open(store), stage):
        for row in batch.to_pylist():
            count += 1
            clip = f"   clip {row['clip_id']}" if row["clip_id"] else ""
            when = f"attempt {row['attempts']}, {row['at']:%Y-%m-%d %H:%M}"
            say(printable(row["uri"] or row["source_md5"] or "") + clip)
            say(f"    {row['stage']}: {printable(row['error'])}   ({when})")
            if detail and row["detail"]:
                say(*(f"        {printable(line)}" for line in row["detail"].splitlines()))
    again = f"try again with  reel curate (or precompute) … --store {store} --retry-failed"
    say("", f"{count} failed; {again}" if count else "nothing failed")


@app.command(epilog="Example:  reel report --store STORE --out report.html")
def report(
    store: StoreOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
    where: Annotated[str | None, typer.Option(help="SQL condition on clips.")] = None,
    app_address: Annotated[str, typer.Option("--app", help="Address of a reel app: the page links into it.")] = "",
) -> None:
    """Write an HTML page: the funnel, a histogram of each score, contact sheets of best and worst, failures."""
    from reelwright.curation.store import Store
    from reelwright.pipelines.browse.report import write_report
    from reelwright.pipelines.browse.report.links import AppLinks

    links = AppLinks.to(app_address) if app_address else None
    say(f"wrote {write_report(Store.open(store), out, where=where, links=links)}")
