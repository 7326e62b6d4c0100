"""`reel annotate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelwright import interrupts
from reelwright.pipelines.cli.app import StoreOption, app, printable, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reelwright.annotate import Computes
    from reelwright.curation.store import Store
    from reelwright.pipelines.annotate.context import Report
    from reelwright.pipelines.recipes.curation import CurateRecipe


@app.command(epilog="Example:  reel annotate --store STORE --only camera_motion --where 'duration_s > 2'")
def annotate(
    store: StoreOption,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this annotator; repeatable.")] = None,
    where: Annotated[str | None, typer.Option(help="SQL condition on clips.")] = None,
    profile: Annotated[str | None, typer.Option(help="cpu (no download) or full (asks models).")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", "-r", help="YAML recipe; see `reel recipe`.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe; repeatable.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show rows and cost of each annotator; write nothing.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster; default: this machine.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if anything failed.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the summary.")] = False,
) -> None:
    """Compute annotators' values that are missing or stale. Run it again at any time.

    Exits with 4 where clips are left for another run: a server was away, or a limit on cost or time was reached.
    """
    from reelwright.curation.credentials import use
    from reelwright.curation.store import Store
    from reelwright.pipelines.annotate.load import load_annotators
    from reelwright.pipelines.annotate.pinning import pin_models
    from reelwright.pipelines.browse.balance.conditions import validate_where

    full = pin_models(_recipe(recipe, settings or [], profile).naming(only or ()), only or ())
    use(full.credentials)
    annotators = load_annotators(full, only or ())
    opened = Store.open(store)
    where = validate_where(opened, where)
    if plan:
        from reelwright.pipelines.annotate.plan import journaled_results, make_plan, plan_lines

        planned = make_plan(opened, annotators, retry_failed=retry_failed, where=where)
        say(*plan_lines(planned, journaled_results(opened)))
        return
    report = _run(opened, full, annotators, address, retry_failed, where, quiet)
    say(*_summary(report, store))
    if report.postponed:
        raise typer.Exit(4)
    if strict and report.failed:
        raise typer.Exit(3)


def _recipe(path: Path | None, settings: list[str], profile: str | None) -> "CurateRecipe":
    from reelwright.pipelines.recipes.curation import load_recipe, parse_overrides

    overrides: dict[str, Any] = parse_overrides(settings)
    if profile:
        overrides["profile"] = profile
    return load_recipe(path, overrides)


def _run(
    store: "Store",
    recipe: "CurateRecipe",
    annotators: "dict[str, Computes]",
    address: str | None,
    retry_failed: bool,
    where: str | None,
    quiet: bool,
) -> "Report":
    from reelwright.annotate.keys import keys_of
    from reelwright.curation.store import Store
    from reelwright.pipelines.annotate.context import Report
    from reelwright.pipelines.annotate.load import prepare_columns
    from reelwright.pipelines.annotate.run import annotate_and_record, failed_before, is_current
    from reelwright.pipelines.runtime.cluster import cluster
    from reelwright.pipelines.runtime.progress import Progress

    opened = Store.open(store.uri, create=True)  # adds tables that a store of an earlier version lacks
    interrupts.leaves(interrupts.COMMITTED)
    with opened.committing():
        prepare_columns(opened, annotators)
        if is_current(opened, annotators, retry_failed=retry_failed, where=where):
            return Report(failed_before=failed_before(opened, annotators, where=where))
        keys_of(annotators)
        with cluster(address), Progress("annotate", quiet=quiet) as progress:
            return annotate_and_record(opened, recipe, annotators, progress, retry_failed=retry_failed, where=where)


def _summary(report: "Report", store: str) -> list[str]:
    if not report.done and not report.failed and not report.postponed:
        if report.failed_before:
            return [f"nothing new; {failed_before_in_words({'annotation': report.failed_before}, store)}"]
        return ["nothing to do: every annotation is current"]
    from reelwright.pipelines.annotate.spending import format_usage

    names = list(dict.fromkeys([*report.done, *report.failed, *report.postponed]))
    width = max(map(len, names))
    lines = []
    for name in names:
        failed, left = report.failed[name], report.postponed[name]
        more = (f", {failed:,} failed" if failed else "") + (f", {left:,} left for another run" if left else "")
        used = format_usage(report.usage.get(name, {}))
        cost = f"{report.seconds[name]:.1f} worker seconds{', ' if used else ''}{used}"
        lines.append(f"{name:{width}}  {report.done[name]:,} clips{more}   ({cost})")
    lines += unmeasured_lines(report.unmeasured, report.why_unmeasured)
    lines += postponed_lines(report)
    if report.failed:
        lines.append(f"what failed:   reel failures --store {store}")
    return [*lines, f"look at it:    reel report --store {store}"]


def unmeasured_lines(unmeasured: "Mapping[str, int]", why: "Mapping[str, str]") -> list[str]:
    """Return how many clips have nothing to measure, by annotator. why: the reason of one of them."""
    return [
        f"{count:,} {'clip' if count == 1 else 'clips'} could not be measured by {name} ({printable(why[name])})"
        for name, count in unmeasured.items()
    ]


def failed_before_in_words(counts: "Mapping[str, int]", store: str) -> str:
    """Say which clips failed in earlier runs and stay so, and how to retry them. counts: by kind, in the singular."""
    some = [f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count]
    return f"{' and '.join(some)} failed before (reel failures --store {store}; --retry-failed tries them again)"


def postponed_lines(report: "Report") -> list[str]:
    """Return why clips were left for another run."""
    return [f"{name} stopped early: {why}; the same command goes on" for name, why in report.why_postponed.items()]
