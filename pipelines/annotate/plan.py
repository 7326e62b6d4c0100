"""What annotating would do and cost, by annotator. Writes nothing, starts nothing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reelwright.annotate import Annotator, Computes, SetAnnotator, stored_needs
from reelwright.annotate.chat.registry import chat_of
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.load import in_levels
from reelwright.pipelines.annotate.sets import set_staleness
from reelwright.pipelines.annotate.spending import format_usage
from reelwright.pipelines.annotate.staleness import Staleness
from reelwright.pipelines.annotate.stretch import CURRENT, FAILED, STALE, WAITING, Stretch


@dataclass(frozen=True)
class Planned:
    """Clips of one annotator by state.

    Attributes:
        waiting: clips that wait for a column of another annotator; if that one is to run too, they follow in the same
            run.
        seconds: of a worker, for the clips that are stale or waiting; None: unknown.
        usage: of a chat model, for the same clips; {} where it asks none.
    """

    name: str
    current: int
    stale: int
    waiting: int
    failed: int
    seconds: float | None
    measured: bool
    usage: Mapping[str, float] = field(default_factory=dict)
    usage_measured: bool = False


def make_plan(
    store: Store, annotators: Mapping[str, Computes], *, retry_failed: bool = False, where: str | None = None
) -> list[Planned]:
    """Return one row per annotator, in execution order."""
    measured, used = measured_seconds(store), measured_usage(store)
    of_clips = {n: a for n, a in annotators.items() if isinstance(a, Annotator)}
    counts = {name: np.zeros(4, int) for name in of_clips}
    following = dict.fromkeys(annotators, False)
    for stretch in Staleness(store, of_clips, retry_failed=retry_failed, where=where).stretches():
        for name, follows in _that_follow(annotators, stretch).items():
            following[name] |= bool(follows.any())
            if name in of_clips:
                states = np.where(follows & (stretch.states[name] != STALE), WAITING, stretch.states[name])
                counts[name] += np.bincount(states, minlength=4)
    rows = []
    for name, annotator in annotators.items():
        if isinstance(annotator, SetAnnotator):
            current, stale, waiting, failed = _of_set(store, annotator, following[name], retry_failed)
        else:
            current, stale, waiting, failed = (int(counts[name][s]) for s in (CURRENT, STALE, WAITING, FAILED))
        each = measured.get(name, annotator.typical_s)
        cost = None if each is None else each * (stale + waiting)
        usage = _usage(annotator, used.get(name), stale + waiting)
        rows.append(Planned(name, current, stale, waiting, failed, cost, name in measured, usage, name in used))
    return rows


def _usage(annotator: Computes, tokens: tuple[float, float] | None, clips: int) -> dict[str, float]:
    """Estimate the usage for a number of clips; tokens: per clip as measured, else as typical."""
    chat, tokens = chat_of(annotator), tokens or annotator.typical_tokens
    if chat is None or tokens is None:
        return {}
    total = clips * tokens[0], clips * tokens[1]
    return {"input_tokens": total[0], "output_tokens": total[1], "usd": chat.cost_usd(*total)}


def _that_follow(annotators: Mapping[str, Computes], stretch: Stretch) -> dict[str, np.ndarray]:
    """Annotator -> bool [clips]: whether this run recomputes the columns that it reads, and so its value."""
    made_by = {column: name for name, a in annotators.items() for column in a.columns}
    out: dict[str, np.ndarray] = {}
    for name in (n for level in in_levels(annotators) for n in level):
        out[name] = np.zeros(len(stretch.clips), bool)
        for producer in {made_by[n.column] for n in stored_needs(annotators[name]) if n.column in made_by}:
            stale = stretch.states[producer] == STALE if producer in stretch.states else False
            out[name] |= out[producer] | stale
    return out


def _of_set(store: Store, annotator: SetAnnotator, follows: bool, retry_failed: bool) -> list[int]:
    """Clips that are current, stale, waiting, failed."""
    found = set_staleness(store, annotator, retry_failed=retry_failed)
    if follows:
        return [0, 0, found.clips + found.waiting, 0]
    failed = found.stale if found.failed else 0
    return [found.clips - found.stale, found.stale - failed, found.waiting, failed]


def journaled_results(store: Store) -> int:
    """Results that wait in the journal: of a run under way, or of one that was killed."""
    return sum(store.read("journal", ["num_rows"]).column(0).to_pylist())


def plan_lines(rows: Sequence[Planned], journaled: int = 0) -> Iterable[str]:
    """Yield the lines of the plan: a table, and sums of the times and costs that are known.

    Args:
        rows: one per annotator.
        journaled: results that wait in the journal.
    """
    width = max([len(r.name) for r in rows], default=4)
    yield f"{'annotator':{width}}  {'current':>9} {'stale':>9} {'waiting':>9} {'failed':>9} {'worker time':>12}  model"
    for r in rows:
        cost = "unknown" if r.seconds is None else duration(r.seconds) + ("" if r.measured or not r.seconds else " ~")
        used = format_usage(r.usage) + (" ~" if format_usage(r.usage) and not r.usage_measured else "")
        line = f"{r.name:{width}}  {r.current:>9,} {r.stale:>9,} {r.waiting:>9,} {r.failed:>9,} {cost:>12}  {used}"
        yield line.rstrip()
    total = sum(r.seconds or 0 for r in rows)
    unknown = [r.name for r in rows if r.seconds is None and r.stale + r.waiting]
    beside = f", and {', '.join(unknown)}, which this store has not run yet" if unknown else ""
    yield f"worker time {duration(total)}{beside}; ~ by a typical clip, the rest as measured in this store"
    if usd := sum(r.usage.get("usd", 0) for r in rows):
        yield f"models {usd:.2f} USD, by the recipe's prices"
    if journaled:
        yield f"{journaled:,} results that are computed and not merged yet count as stale here; a run merges them first"


def measured_usage(store: Store) -> dict[str, tuple[float, float]]:
    """Annotator -> tokens in and out a clip, as the newest run that asked for it used."""
    if "usage" not in store.schema("runs").names:  # a store of an earlier version
        return {}
    rows = store.read("runs", ["counts", "usage", "ended_at"], filter="command = 'annotate'").to_pylist()
    found: dict[str, tuple[float, float]] = {}
    for row in sorted(rows, key=lambda r: r["ended_at"]):
        done, used = json.loads(row["counts"]), json.loads(row["usage"] or "{}")
        each = {n: (u["input_tokens"], u["output_tokens"]) for n, u in used.items() if done.get(n)}
        found |= {n: (tokens_in / done[n], tokens_out / done[n]) for n, (tokens_in, tokens_out) in each.items()}
    return found


def measured_seconds(store: Store, least: int = 1) -> dict[str, float]:
    """Annotator -> worker seconds per clip, as the newest run took that ran it on so many clips at least."""
    rows = store.read("runs", ["counts", "stage_seconds", "ended_at"], filter="command = 'annotate'").to_pylist()
    found: dict[str, float] = {}
    for row in sorted(rows, key=lambda r: r["ended_at"]):
        done, seconds = json.loads(row["counts"]), json.loads(row["stage_seconds"])
        found |= {n: seconds[n] / done[n] for n in seconds if done.get(n, 0) >= least}
    return found


def duration(seconds: float) -> str:
    """1.4 s, 12 min, 3.2 h."""
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "min"), (float("inf"), 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.1f} {unit}"
    raise AssertionError
