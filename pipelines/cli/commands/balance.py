"""`reel balance`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import StoreOption, app, printable, say

if TYPE_CHECKING:
    from reelwright.pipelines.browse.balance.measure import BalanceReport, Category, ColumnBalance

ENDS = 20  # categories shown at either end of a longer list
MAX_NAME = 60  # characters of a category's name in a sentence


@app.command(epilog="Example:  reel balance --store STORE --by cluster_name,camera_motion --where 'duration_s > 2'")
def balance(
    store: StoreOption,
    by: Annotated[str, typer.Option(help="Columns, with commas; default: clusters and cinematography.")] = "",
    where: Annotated[str | None, typer.Option(help="A SQL condition over clips_full.")] = None,
    snapshot: Annotated[str | None, typer.Option(help="A snapshot's clips, with its weights.")] = None,
    target: Annotated[
        str, typer.Option(metavar="uniform|FILE", help="YAML or JSON {column: {category: part}}.")
    ] = "uniform",
    cap: Annotated[float, typer.Option(help="Largest weight, the mean being 1.")] = 10.0,
    alpha: Annotated[float, typer.Option(help="Weights to this power; 1 evens out fully.")] = 1.0,
    weak: Annotated[
        str, typer.Option(metavar="EVALUATION", help="Say what the model of an evaluation lacks, by name or id.")
    ] = "",
    measure: Annotated[
        str, typer.Option(help="With --weak: column of generations, or mos:DIMENSION; -COLUMN: lower is better.")
    ] = "",
    model: Annotated[str, typer.Option(help="With --weak: the model, where several are compared.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="With --weak: file of weights.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a line a category as CSV.")] = False,
) -> None:
    """Show how evenly clips cover their categories: shares, over- and under-represented groups, clips to collect.

    A category is over-represented where its share is more than 2 times its target, under-represented below 0.5 times.
    "by density" and "by cluster" are the shares that `reel snapshot create --balance` would give; density is the
    store's, as with `--balance-within store`.

    With --weak it begins at an evaluation: categories that lie below the others, the clusters near their prompts, clips
    to collect, and weights for `reel snapshot create --weights FILE`.
    """
    from reelwright.curation.store import Store
    from reelwright.curation.store.weighting import COLUMN, Balance
    from reelwright.pipelines.browse.balance.rows import balance_report, read_targets
    from reelwright.pipelines.browse.standins import cluster_note

    if where is not None and snapshot is not None:
        raise UserError("--where chooses clips and so does --snapshot; leave one out")
    if as_json and as_csv:
        raise UserError("--json and --csv are two formats; leave one out")
    if not weak and (measure or model or out):
        raise UserError("--measure, --model and --out belong to --weak EVALUATION; add it, or leave them out")
    if weak:
        _weak(weak, store, {"measure": measure, "model": model}, Clips(where, snapshot, cap), out, as_json)
        return
    columns = list(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    targets = None if target == "uniform" else read_targets(Path(target), columns)
    opened = Store.open(store)
    balances = [Balance(way, cap, alpha) for way in COLUMN]
    found = balance_report(opened, columns, where=where, snapshot=snapshot, targets=targets, balances=balances)
    if as_json or as_csv:
        _write_for_machines(found, as_json)
        return
    _show(found, cap, targets or {})
    if any(column.column == "cluster_name" for column in found.columns) and (note := cluster_note(opened)):
        say("", note)
    if found.weightings and snapshot is None:
        way = found.weightings[0].name
        say("", f'freeze one:  reel snapshot create NAME --store {store} --balance {way} --sql "…"')


class Clips(NamedTuple):
    """The clips that an evaluation is compared with, and the largest weight."""

    where: str | None
    snapshot: str | None
    cap: float


def _weak(wanted: str, store: str, asked: dict[str, str], clips: Clips, out: Path | None, as_json: bool) -> None:
    from reelwright.curation.store import Store
    from reelwright.pipelines.browse.balance import weak_words
    from reelwright.pipelines.browse.balance.evaluated import read_evaluated
    from reelwright.pipelines.browse.balance.weak import advise
    from reelwright.pipelines.browse.sheets import write_whole

    opened = Store.open(store)
    found = advise(
        opened, read_evaluated(opened, wanted, **asked), where=clips.where, snapshot=clips.snapshot, cap=clips.cap
    )
    if out is not None and found.weights is not None:
        write_whole(out, found.weights.to_json().encode())
    if as_json:
        say(json.dumps(weak_words.as_json(found), indent=1, ensure_ascii=False))
        return
    say(*map(printable, weak_words.words(found)))
    if found.weights is None:
        return
    file = out or "weights.json"
    said = f"weights are in {out}; freeze them" if out else "write them with --out weights.json, then freeze them"
    say(f'{said}:  reel snapshot create NAME --store {store} --weights {file} --sql "select clip_id from clips"')


def _write_for_machines(found: "BalanceReport", as_json: bool) -> None:
    from reelwright.curation.store.results import finite, write_result

    if as_json:
        say(json.dumps(finite(asdict(found)), indent=1, ensure_ascii=False, allow_nan=False))
        return
    import pyarrow as pa

    rows = [{"column": column.column, **_flat(c)} for column in found.columns for c in column.categories]
    write_result(pa.Table.from_pylist(rows), "csv")


def _flat(c: "Category") -> dict[str, Any]:
    facts = asdict(c)
    weighted = {f"share_by_{key}": value for key, value in facts.pop("weighted").items()}
    return facts | weighted


def _show(found: "BalanceReport", cap: float, targets: dict[str, Any]) -> None:
    say(f"{found.clips:,} clips, {found.hours:,.2f} h")
    for one in found.weightings:
        name = "the snapshot's weights" if one.name == "snapshot" else f"weighted by {one.name}"
        at = f"; {one.at_cap:,} clips at the cap of {cap:g}" if one.at_cap else ""
        none = f"; {one.without_value:,} clips without a value weigh 1" if one.without_value else ""
        say(f"{name}: as good as {one.effective_size:,.0f} clips of equal weight{at}{none}")
    for column in found.columns:
        say("", *_head(column, column.column in targets))
        _table(column)
        say(*_advice(column))
    if found.absent:
        say("", f"without a value in these clips, so not shown: {', '.join(found.absent)}; reel annotate fills them")


def _head(column: "ColumnBalance", has_target: bool) -> list[str]:
    none = f" ({column.without_value:,} without one)" if column.without_value else ""
    after = ", ".join(f"{_label(key)} as {value:.1f}" for key, value in column.effective.items() if key != "none")
    target = "the file's" if has_target else f"uniform, {1 / max(len(column.categories), 1):.1%} each"
    kinds = f"{len(column.categories):,} categories in {column.clips:,} clips{none}"
    lines = [
        f"{column.column}: {kinds}; target {target}",
        f"as even as {column.effective['none']:.1f} categories of equal size{'; ' if after else ''}{after}",
    ]
    if column.too_few:
        lines.append("few clips for so many categories: much of what follows may be chance")
    return lines


def _label(weighting: str) -> str:
    return "weighted" if weighting == "snapshot" else f"by {weighting}"


def _table(column: "ColumnBalance") -> None:
    import pyarrow as pa

    from reelwright.curation.store import write_result

    rows = column.categories
    left_out = len(rows) - 2 * ENDS
    has_density = any(c.density is not None for c in rows)
    parts = [rows] if left_out <= 1 else [rows[:ENDS], rows[-ENDS:]]
    for number, part in enumerate(parts):
        if number:
            say(f"… {left_out:,} more between; --csv has all")
        sys.stdout.flush()
        write_result(pa.Table.from_pylist([_row(c, has_density) for c in part]), "table")


def _row(c: "Category", has_density: bool) -> dict[str, str]:
    facts = {"category": c.name, "clips": f"{c.clips:,}", "hours": f"{c.hours:.3g}", "share": f"{c.share:.1%}"}
    if has_density:
        facts["density"] = "" if c.density is None else f"{c.density:.3g}"
    facts["of target"] = f"{c.ratio:.2f} x" if c.target else "not wanted"
    facts[" "] = c.verdict
    facts |= {_label(key): f"{share:.1%}" for key, share in c.weighted.items()}
    return facts | {"collect": f"+{c.more_clips:,} clips, {c.more_hours:.3g} h" if c.more_clips else ""}


def _advice(column: "ColumnBalance") -> list[str]:
    over = [c for c in column.categories if c.verdict == "over"]
    under = sorted((c for c in column.categories if c.verdict == "under"), key=lambda c: c.ratio)
    lines = [f"{len(over):,} over-represented (more than 2 x target), {len(under):,} under-represented (below 0.5 x)"]
    clips, hours = sum(c.more_clips for c in under), sum(c.more_hours for c in under)
    if clips:
        lines.append(f"{clips:,} more clips, {hours:.3g} h, bring the under-represented to their targets together")
    return lines + [f"{_name(c.name)} is nearest to {', '.join(map(_name, c.near))}" for c in under[:ENDS] if c.near]


def _name(text: str) -> str:
    """Write a category as it stands in a sentence."""
    shown = printable(text)
    return f'"{shown if len(shown) <= MAX_NAME else shown[: MAX_NAME - 1] + "…"}"'
