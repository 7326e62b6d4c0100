"""Distributions of the numbers that clips have: quantiles and histograms of all columns in two passes, by SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import identifier

BUCKETS = 32
QUANTILES = (0.005, 0.05, 0.5, 0.95, 0.995)
LONG_TAIL = 2.0  # a histogram ends at the outer quantiles if the whole range is this many times as wide
SPARSE = 0.05  # share of clips with a value below which a histogram is left out
AT_ONCE = 8  # columns per pass, which bounds its memory
GEOMETRY = ("duration_s", "bitrate_bps")  # columns of every clip that are worth a histogram


@dataclass(frozen=True)
class Score:
    """One column. count: clips that have a finite value; missing: clips that have none."""

    name: str
    meaning: str
    unit: str
    made_by: str
    count: int
    missing: int
    lowest: float
    p5: float
    median: float
    p95: float
    highest: float
    start: float  # left edge of the first bucket
    step: float  # width of a bucket
    buckets: list[int]  # the outermost buckets hold the values beyond them too

    @property
    def why_sparse(self) -> str:
        """Why a histogram would show next to nothing; empty where it shows something."""
        if self.count < SPARSE * (self.count + self.missing):
            return f"({self.count:,} of {self.count + self.missing:,} clips have a value)"
        return f"({self.lowest:.3g} for each clip)" if self.lowest == self.highest and self.count > 1 else ""

    @property
    def is_cut(self) -> bool:
        """Whether values lie beyond the outermost buckets."""
        return self.lowest < self.start - 1e-9 or self.highest > self.start + self.step * len(self.buckets) * (1 + 1e-9)

    def at(self, value: float) -> float:
        """Return where a value is drawn, in buckets from the left."""
        return min(max((value - self.start) / self.step, 0.0), float(len(self.buckets)))

    def label(self, bucket: int) -> str:
        """Describe a bucket in words."""
        low, high = self.start + bucket * self.step, self.start + (bucket + 1) * self.step
        if self.is_cut and bucket == len(self.buckets) - 1:
            return f"{low:.4g} and more: {self.buckets[bucket]:,}"
        return f"{low:.4g} to {high:.4g}: {self.buckets[bucket]:,}"


def scores(store: Store, chosen: str, names: list[str]) -> list[Score]:
    """Distributions of these columns; those without a value are left out. chosen: the relation of clips to look at."""
    found = []
    for first in range(0, len(names), AT_ONCE):
        found += _scores(store, chosen, [store.schema("clips").field(n) for n in names[first : first + AT_ONCE]])
    return found


def numeric_columns(store: Store) -> list[str]:
    """Columns of numbers that annotators wrote, in the table's order; an id is no quantity."""
    return [
        f.name
        for f in store.schema("clips")
        if (pa.types.is_floating(f.type) or pa.types.is_integer(f.type))
        and (f.metadata or {}).get(b"computed_by", b"clips") != b"clips"
        and not f.name.endswith("_id")
    ]


def _scores(store: Store, chosen: str, fields: list[pa.Field]) -> list[Score]:
    values = _finite_values(chosen, fields)
    wanted = ", ".join(
        f"count(v{i}) AS n{i}, min(v{i}) AS low{i}, max(v{i}) AS high{i}, "
        f"quantile_cont(v{i}, {list(QUANTILES)}) AS q{i}"
        for i in range(len(fields))
    )
    facts = store.sql(f"{values} SELECT count(*) AS total, {wanted} FROM v").to_pylist()[0]
    spans = {i: _span(facts, i) for i in range(len(fields)) if facts[f"n{i}"]}
    if not spans:
        return []
    counts = ", ".join(
        f"histogram(least(greatest(floor((v{i} - ({start!r})) / {step!r}), 0), {BUCKETS - 1})::INT) "
        f"FILTER (v{i} IS NOT NULL) AS h{i}"
        for i, (start, step) in spans.items()
    )
    counted = store.sql(f"{values} SELECT {counts} FROM v").to_pylist()[0]
    return [_score(fields[i], facts, i, spans[i], dict(counted[f"h{i}"] or [])) for i in spans]


def _finite_values(chosen: str, fields: list[pa.Field]) -> str:
    columns = (f"{identifier(f.name)}::DOUBLE" for f in fields)
    picked = ", ".join(f"CASE WHEN isfinite({c}) THEN {c} END AS v{i}" for i, c in enumerate(columns))
    return f"WITH v AS (SELECT {picked} FROM {chosen})"


def _span(facts: dict[str, Any], i: int) -> tuple[float, float]:
    """Left edge of the first bucket and width of one."""
    low, high, (q_low, *_, q_high) = facts[f"low{i}"], facts[f"high{i}"], facts[f"q{i}"]
    if q_high > q_low and high - low > LONG_TAIL * (q_high - q_low):
        low, high = q_low, q_high
    return low, (high - low) / BUCKETS or max(abs(low), 1.0) / BUCKETS


def _score(f: pa.Field, facts: dict[str, Any], i: int, span: tuple[float, float], counts: dict[int, int]) -> Score:
    metadata = {k.decode(): v.decode() for k, v in (f.metadata or {}).items()}
    _, p5, median, p95, _ = facts[f"q{i}"]
    return Score(
        name=f.name,
        meaning=metadata.get("meaning", ""),
        unit=metadata.get("unit", ""),
        made_by=metadata.get("computed_by", ""),
        count=facts[f"n{i}"],
        missing=facts["total"] - facts[f"n{i}"],
        lowest=facts[f"low{i}"],
        p5=p5,
        median=median,
        p95=p95,
        highest=facts[f"high{i}"],
        start=span[0],
        step=span[1],
        buckets=[counts.get(b, 0) for b in range(BUCKETS)],
    )
