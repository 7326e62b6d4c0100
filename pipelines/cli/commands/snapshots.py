"""`reel snapshot …`: frozen, named sets of clips."""

import json
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import StoreOption, app, printable, say

if TYPE_CHECKING:
    from reelwright.curation.store import Snapshot, Store
    from reelwright.curation.store.given_weights import GivenWeights
    from reelwright.curation.store.snapshots import Snapshots
    from reelwright.curation.store.weighting import Balance
    from reelwright.pipelines.train.run import Job

snapshot = typer.Typer(help="Freeze sets of clips under a name.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(snapshot, name="snapshot")

FEW = 3  # runs that a sentence names
CAPTION = 100  # characters shown of one
Name = Annotated[str, typer.Argument(help="Snapshot name.")]


@snapshot.command(
    epilog='Example:  reel snapshot create train-v1 --sql "select clip_id from clips where blur_score > 100"'
)
def create(
    name: Name,
    store: StoreOption,
    sql: Annotated[str, typer.Option(help="A SELECT that returns clip_id.")],
    limit: Annotated[int | None, typer.Option(help="Draw this many of the clips.")] = None,
    limit_per: Annotated[
        tuple[str, int] | None,
        typer.Option(metavar="COLUMN N", help="Draw at most N clips per value of a column of the query or of clips."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    weights: Annotated[
        str | None,
        typer.Option(metavar="COLUMN|FILE", help="Column of the query with weights, or a file of reel balance --weak."),
    ] = None,
    balance: Annotated[
        str | None, typer.Option(metavar="density|cluster", help="Weigh clips inversely to this; see `reel balance`.")
    ] = None,
    balance_cap: Annotated[
        float | None, typer.Option(help="With --balance: largest weight, the mean being 1.  [default: 10]")
    ] = None,
    balance_alpha: Annotated[
        float | None, typer.Option(help="With --balance: weights to this power; 1 evens out fully.  [default: 1]")
    ] = None,
    balance_within: Annotated[
        str | None,
        typer.Option(metavar="snapshot|store", help="With --balance density: measured among.  [default: snapshot]"),
    ] = None,
    distinct: Annotated[bool, typer.Option("--distinct", help="Take one clip of each near_duplicate_group.")] = False,
    heaviest: Annotated[int, typer.Option(min=0, help="Weighed clips to print with their captions.")] = 10,
    train: Annotated[Path | None, typer.Option(help="Recipe to train on the snapshot, once it is made.")] = None,
    out: Annotated[str, typer.Option(help="With --train: folder of runs.")] = "runs",
) -> None:
    """Freeze the clips that a query returns. Later curation, compaction and clean-up cannot change them.

    With --train, `reel train RECIPE --snapshot NAME` follows; the same command again finds the snapshot and the run.
    """
    from reelwright.curation.store import Store
    from reelwright.curation.store.snapshot_query import LimitPer

    opened = Store.open(store)
    asked: dict[str, Any] = {
        "limit": limit,
        "seed": seed,
        "weights": _weights(weights, balance, {"cap": balance_cap, "alpha": balance_alpha, "within": balance_within}),
        "limit_per": LimitPer(*limit_per) if limit_per else None,
        "distinct": distinct,
    }
    job = _job(train, name, store, out) if train else None  # a mistake in the recipe must not leave a snapshot
    made = _same(opened, name, sql, asked) if job else None
    if made is None:
        made = opened.snapshots.create(name, sql, **asked)
    say(*_described(made), *_review(opened, name, heaviest))
    if job is None:
        say(f"next: reel export OUT/ --snapshot {name} --store {store}")
        return
    from reelwright.pipelines.cli.commands.train import start

    raise typer.Exit(start(job))


def _job(recipe: Path, name: str, store: str, out: str) -> "Job":
    from reelwright.pipelines.cli.commands.train import load_train_recipe, make_job

    return make_job(load_train_recipe(recipe, []), recipe, [name], store, out)


def _weights(column: str | None, by: str | None, options: dict[str, Any]) -> "str | Balance | GivenWeights | None":
    """Return the weights that the options ask for; options not given are the defaults of `Balance`."""
    from reelwright.curation.store.given_weights import SUFFIX, read_weights
    from reelwright.curation.store.weighting import Balance

    given = {name: value for name, value in options.items() if value is not None}
    if by is None and given:
        raise UserError(f"--balance-{next(iter(given))} says how to balance; add --balance density or cluster")
    if by is not None and column is not None:
        raise UserError(f"weights come from {column} or from --balance {by}, not from both; leave one out")
    if column and column.endswith(SUFFIX):
        return read_weights(Path(column))
    return Balance(by, **given) if by is not None else column


def _described(made: "Snapshot") -> list[str]:
    """Say what was frozen, and by which weights; `_review` has their effective size."""
    lines = [f"{made.name}: {made.num_clips:,} clips, {made.content_hash[:16]}"]
    if made.distinct:
        lines.append(_distinct_text(made.distinct))
    if made.balance:
        lines.append(_balance_text(made.balance, effective=False))
    return lines


def _balance_text(about: dict[str, Any], *, effective: bool = True) -> str:
    from reelwright.curation.store.weighting import describe

    return printable(describe(about, effective=effective))


def _distinct_text(about: dict[str, Any]) -> str:
    none = about["without_group"]
    stay = f"; {none:,} clips of no near_duplicate_group stay (reel annotate --only near_duplicates)" if none else ""
    return f"{about['left_out']:,} near duplicates left out{stay}"


def _review(store: "Store", name: str, heaviest: int) -> list[str]:
    """Say what the weights cost, and which clips they favour: broken captions look rare."""
    found = store.snapshots.review(name, heaviest)
    if found is None:
        return []
    lines = [f"weights: as good as {found.effective_size:,.0f} of {found.clips:,} clips (Kish: (Σw)² / Σw²)"]
    if found.heaviest:
        lines.append("the heaviest, to be looked at, since a broken caption looks rare:")
    for one in found.heaviest:
        text = printable(" ".join(one.caption.split()))
        shown = f'"{text if len(text) <= CAPTION else text[: CAPTION - 1] + "…"}"' if text else "(no caption)"
        lines.append(f"  {one.weight:8.3g}  {one.clip_id}  {shown}")
    return lines


def _same(store: "Store", name: str, sql: str, asked: dict[str, Any]) -> "Snapshot | None":
    """Return the snapshot of this name if it was made by this very query. asked: the other arguments of `create`."""
    found = next((s for s in store.snapshots.list() if s.name == name), None)
    if found is None:
        return None
    kept: tuple[str, ...] = ("column", "weights", "others", "cap", "fingerprint", "why")
    if (found.balance or {}).get("by") != "weights":
        kept = ("by", "cap", "alpha", "within")
    had = {key: found.balance.get(key) for key in kept} if found.balance else None
    made_by = {"limit": found.sample_limit, "seed": found.seed, "weights": had or found.weight_column,
               "limit_per": found.limit_per, "distinct": found.distinct is not None}  # fmt: skip
    parts = {key: asdict(asked[key]) for key in ("weights", "limit_per") if is_dataclass(asked[key])}
    wanted = asked | parts
    return found if found.sql == sql and made_by == wanted else None


@snapshot.command(name="list", epilog="Example:  reel snapshot list --store STORE")
def list_(store: StoreOption) -> None:
    """List the snapshots."""
    from reelwright.curation.store import Store

    for s in Store.open(store).snapshots.list():
        by = "the weights of a file" if (s.balance or {}).get("by") == "weights" else (s.balance or {}).get("by")
        how = f"  balanced by {by}" if s.balance else ""
        say(f"{s.name:24} {s.num_clips:>10,} clips  {s.content_hash[:16]}  {s.created_at:%Y-%m-%d %H:%M}  {s.sql}{how}")


@snapshot.command(epilog="Example:  reel snapshot show train-v1 --store STORE")
def show(name: Name, store: StoreOption) -> None:
    """Show one snapshot: its query, seed, hash, pinned versions, and the origin of its scores and weights."""
    from reelwright.curation.store import Store

    for key, value in asdict(Store.open(store).snapshots.show(name)).items():
        say(f"{key:18} {_shown(key, value)}")


def _shown(key: str, value: Any) -> Any:
    if key == "balance" and value:
        return _balance_text(value)
    return json.dumps(value) if isinstance(value, dict) else value


@snapshot.command(epilog="Example:  reel snapshot diff train-v1 train-v2 --store STORE")
def diff(a: Name, b: Name, store: StoreOption) -> None:
    """Say which clips two snapshots do not share."""
    from reelwright.curation.store import Store

    found = Store.open(store).snapshots.diff(a, b)
    say(*(f"+ {c}" for c in found.added), *(f"- {c}" for c in found.removed))
    say(*(f"~ {c} weight {old:g} -> {new:g}" for c, old, new in found.reweighted))
    say(f"{len(found.added)} added, {len(found.removed)} removed, {len(found.reweighted)} reweighted")


@snapshot.command(epilog="Example:  reel snapshot verify train-v1 --store STORE")
def verify(name: Name, store: StoreOption) -> None:
    """Check that a snapshot is whole: its hash, its pinned versions, its clips and their bytes."""
    from reelwright.curation.store import Store

    checked = Store.open(store).snapshots.verify(name)
    if not checked.is_sound:
        say(*(f"- {p}" for p in checked.problems))
        raise typer.Exit(1)
    say(f"{name} is whole")


@snapshot.command(epilog="Example:  reel snapshot delete train-v1 --store STORE --yes")
def delete(
    name: Name,
    store: StoreOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Delete it even if runs used it.")] = False,
) -> None:
    """Forget a snapshot. The clips stay; versions that it alone pinned go with the next `reel cleanup`."""
    from reelwright.curation.store import Store

    snapshots = Store.open(store).snapshots
    if any(one.name == name for one in snapshots.list()):
        _check_unused(snapshots, name, force)
        if not yes and not _confirmed(f"delete the snapshot {name} ({snapshots.show(name).num_clips:,} clips)?"):
            raise UserError(f"{name} was kept; to delete it without being asked, add --yes")
    snapshots.delete(name)
    say(f"deleted {name}", f"free what it alone pinned:  reel cleanup --store {store}")


def _check_unused(snapshots: "Snapshots", name: str, force: bool) -> None:
    uses = [use for use in snapshots.uses(name) if use.command != "precompute"]  # latents are by clip, and stay
    if not uses or force:
        return
    shown = ", ".join(f"{u.command} of {u.started_at:%Y-%m-%d %H:%M}{f' in {u.place}' if u.place else ''}"
                      for u in uses[-FEW:])  # fmt: skip
    raise UserError(
        f"{name} was used by {len(uses)} {'run' if len(uses) == 1 else 'runs'} ({shown}), which could then no longer "
        "be traced to its clips; to delete it all the same, add --force"
    )


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and typer.confirm(question)
