"""How evenly a set of clips covers its categories: shares, over- and under-represented groups, and clips to collect.

The rule, for every column by itself: a category is over-represented where its share of the clips that have a value is
more than `OVER` times its target share, under-represented below `UNDER` times. The target is uniform over the
categories present, or a target file's shares. The number to collect is the clips that bring all under-represented
categories of a column to their target shares at once, the others staying as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.weighting import COLUMN, Balance, effective_size, weigh

OVER, UNDER = 2.0, 0.5
CATEGORIES = (
    "cluster_name", "camera_motion", "shot_size", "lens_type", "camera_angle", "visual_style", "color_tone", "lighting",
)  # fmt: skip
"""Columns looked at where no others are asked for."""

FEW = 5  # clips a category would have at its target: below, shares are mostly chance (as in the chi-square test)
MAX_CATEGORIES = 5_000  # a column of more values, such as captions, sorts nothing


@dataclass(frozen=True)
class Category:
    """One value of a column.

    Attributes:
        share: of the clips that have a value.
        weighted: weighting -> share after it.
        ratio: share over target.
        verdict: over, under or empty.
        more_clips: clips to collect to reach the target.
        more_hours: the same at the mean length of its clips.
    """

    name: str
    clips: int
    hours: float
    share: float
    density: float | None  # mean over its clips that have one
    target: float
    ratio: float
    verdict: str
    weighted: dict[str, float]
    more_clips: int
    more_hours: float
    near: list[str] = field(default_factory=list)  # for under-represented clusters: the clusters closest to it


@dataclass(frozen=True)
class ColumnBalance:
    """One column; categories by falling share.

    Attributes:
        clips: clips that have a value.
        effective: weighting ("none" is none) -> how many equally large categories would be as even (exp of the entropy
            of shares; Hill, 1973).
    """

    column: str
    clips: int
    without_value: int
    categories: list[Category]
    effective: dict[str, float]
    too_few: bool


@dataclass(frozen=True)
class Weighting:
    """The cost of a set of weights: effective_size clips of equal weight would say as much (Kish, 1965)."""

    name: str
    effective_size: float
    at_cap: int
    without_value: int


@dataclass(frozen=True)
class BalanceReport:
    """absent: default columns that the clips have no value in."""

    clips: int
    hours: float
    columns: list[ColumnBalance]
    absent: list[str]
    weightings: list[Weighting]


def measure(
    clips: pa.Table,
    by: Sequence[str],
    *,
    weights: Mapping[str, np.ndarray] | None = None,
    targets: Mapping[str, Mapping[str, float]] | None = None,
) -> list[ColumnBalance]:
    """Return the balance of each column of `by`.

    Args:
        clips: one row per clip, with the columns of `by`, duration_s and perhaps density.
        by: columns.
        weights: weighting -> [N].
        targets: column -> category -> its part of the whole, in any unit; columns without targets are compared with a
            uniform distribution.
    """
    return [_column(clips, name, weights or {}, (targets or {}).get(name)) for name in by]


def weightings(clips: pa.Table, balances: Sequence[Balance]) -> tuple[list[Weighting], dict[str, np.ndarray]]:
    """Return (the cost of each weighting, its weights [N]), for the weightings that the clips' columns allow."""
    found, weights = [], {}
    for balance in balances:
        name = COLUMN[balance.by]
        if name not in clips.schema.names:
            continue
        made = f"{name}:made"
        marks = clips.column(made) if made in clips.schema.names else pa.chunked_array([pa.nulls(len(clips))])
        try:
            weighed = weigh(clips.column(name), marks.cast(pa.string()), balance)
        except StoreError:  # no clip has a value
            continue
        found.append(Weighting(balance.by, weighed.effective_size, weighed.at_cap, weighed.without_value))
        weights[balance.by] = weighed.weights
    return found, weights


def given_weighting(name: str, weights: np.ndarray) -> Weighting:
    """Return the cost of the weights that a snapshot holds."""
    return Weighting(name, effective_size(weights), 0, 0)


def _column(
    clips: pa.Table, name: str, weights: Mapping[str, np.ndarray], target: Mapping[str, float] | None
) -> ColumnBalance:
    codes, names = categories_of(clips, name)
    has = codes >= 0
    wanted = dict.fromkeys(names, 1.0) if target is None else dict(target)
    names += sorted(wanted.keys() - set(names))  # wanted, and not there at all
    total = int(has.sum())
    counts = np.bincount(codes[has], minlength=len(names))
    share = counts / max(total, 1)
    part = np.array([wanted.get(one, 0.0) for one in names])
    part = part / part.sum() if part.sum() else part
    ratio = np.divide(share, part, out=np.full(len(names), np.inf), where=part > 0)
    under = (ratio < UNDER) & (part > 0)
    more = to_collect(counts, part, under)
    seconds = _sums(codes, clips, "duration_s", len(names))
    shares = {key: _shares(codes, w, len(names)) for key, w in weights.items()}
    density = _means(codes, clips, "density", len(names))
    mean_s = seconds.sum() / max(total, 1)
    rows = [
        Category(
            name=one, clips=int(counts[i]), hours=float(seconds[i] / 3600), share=float(share[i]),
            density=None if np.isnan(density[i]) else float(density[i]), target=float(part[i]), ratio=float(ratio[i]),
            verdict="over" if ratio[i] > OVER else "under" if under[i] else "",
            weighted={key: float(s[i]) for key, s in shares.items()}, more_clips=int(more[i]),
            more_hours=float(more[i] * (seconds[i] / counts[i] if counts[i] else mean_s) / 3600),
        )
        for i, one in enumerate(names)
    ]  # fmt: skip
    rows.sort(key=lambda c: (-c.clips, c.name))
    effective = {"none": _evenness(share)} | {key: _evenness(s) for key, s in shares.items()}
    return ColumnBalance(name, total, int((~has).sum()), rows, effective, bool(total < FEW * (part > 0).sum()))


def categories_of(clips: pa.Table, name: str) -> tuple[np.ndarray, list[str]]:
    """(place of each clip's category among the names, -1 for none; the names, sorted)."""
    coded = pc.cast(clips.column(name), pa.string()).combine_chunks().dictionary_encode()
    words = coded.dictionary.to_pylist()
    order = sorted(range(len(words)), key=words.__getitem__)
    rank = np.empty(len(words) + 1, np.int64)
    rank[order] = np.arange(len(words))
    rank[-1] = -1
    codes = coded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    return rank[codes], [words[i] for i in order]


def to_collect(counts: np.ndarray, target: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Clips of each category to add, so that every one `under` has its target share [K] when all of them are there.

    The others keep their counts and become the share that is left, so the set grows to others / (1 - sum of targets).
    """
    left = 1.0 - float(target[under].sum())
    if not under.any() or left <= 1e-9:
        return np.zeros(len(counts), np.int64)
    whole = counts[~under].sum() / left
    needed = np.array([math.ceil(n - 1e-9) for n in whole * target - counts], np.int64)
    return np.where(under, np.maximum(needed, 0), 0)


def nearest(names: Sequence[str], sums: np.ndarray, count: int = 3) -> dict[str, list[str]]:
    """Return category -> the categories with the closest mean embeddings by cosine, the closest first.

    Args:
        names: of the K categories.
        sums: [K, D], sums of the embeddings of each category's clips; of length 0 where it has none.
        count: categories per category.
    """
    norms = np.linalg.norm(sums, axis=1)
    unit = sums / np.maximum(norms, 1e-30)[:, None]
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    alike[:, norms == 0] = -np.inf
    order = np.argsort(-alike, axis=1, kind="stable")[:, :count]
    return {
        one: [names[j] for j in order[i] if np.isfinite(alike[i, j])] for i, one in enumerate(names) if norms[i] > 0
    }


def _sums(codes: np.ndarray, clips: pa.Table, name: str, size: int) -> np.ndarray:
    values = _numbers(clips, name)
    good = (codes >= 0) & np.isfinite(values)
    return np.bincount(codes[good], values[good], size)


def _means(codes: np.ndarray, clips: pa.Table, name: str, size: int) -> np.ndarray:
    """NaN where a category has no value."""
    values = _numbers(clips, name)
    good = (codes >= 0) & np.isfinite(values)
    counts = np.bincount(codes[good], minlength=size)
    sums = np.bincount(codes[good], values[good], size)
    return np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)


def _numbers(clips: pa.Table, name: str) -> np.ndarray:
    if name not in clips.schema.names:
        return np.full(len(clips), np.nan)
    return np.asarray(pc.cast(clips.column(name), pa.float64()).to_numpy(zero_copy_only=False))


def _shares(codes: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    has = codes >= 0
    mass = np.bincount(codes[has], weights[has], size)
    return mass / (mass.sum() or 1.0)


def _evenness(share: np.ndarray) -> float:
    some = share[share > 0]
    return float(np.exp(-(some * np.log(some)).sum())) if len(some) else 0.0
