"""The Balance section: a map of the clusters of captions, and their sizes before and after weighting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reelwright.annotate.sets.clustering.layout import project
from reelwright.curation.store import Store
from reelwright.curation.store.clip_media import LOOKUP_IDS
from reelwright.curation.store.sql_text import identifier, is_one_of
from reelwright.pipelines.browse.balance.measure import BalanceReport, Category, ColumnBalance
from reelwright.pipelines.browse.balance.rows import CLUSTERS, EMBEDDING, balance_report, embeddings

MAX_POINTS = 5_000
SHOWN = 20  # clusters by name and colour: the largest, and of more than that half of them the smallest
WIDTH, HEIGHT, MARGIN = 640.0, 440.0, 18.0  # of the map, in its own units
NUMBER = 20.0, 16.0  # width and height of a cluster's number


@dataclass(frozen=True)
class Cluster:
    """A row of the table.

    Attributes:
        colour: 1 to SHOWN, also its number on the map.
        at: place of that number on the map; None where it would cover a larger cluster's.
    """

    colour: int
    category: Category
    path: str
    at: tuple[float, float] | None


@dataclass(frozen=True)
class Clusters:
    """The section on clusters.

    Attributes:
        clusters: the clusters shown, the largest first.
        others: number of clusters not shown.
        other_clips: their clips.
        other_path: points of the others, and of clips without a cluster.
        points: number of points on the map, of `with_embedding` clips.
        explained: the part of the embeddings' variance that the map shows.
        longest: share of the longest bar.
    """

    column: str
    clusters: list[Cluster]
    others: int
    other_clips: int
    other_path: str
    without: int
    points: int
    with_embedding: int
    explained: float
    dot: float
    report: BalanceReport
    groups: ColumnBalance
    longest: float


def clusters(store: Store, where: str | None) -> Clusters | None:
    """Return the section's content; None where no clip has a cluster.

    where: a condition that has been validated.
    """
    names = store.schema("clips").names
    column = next((c for c in CLUSTERS if c in names and _any(store, c, where)), None)
    if column is None:
        return None
    report = balance_report(store, [column], where=where, near=False)
    groups = report.columns[0]
    kept = _kept(groups.categories)
    words, points, explained, total = _projected(store, column, where) if EMBEDDING in names else _no_points()
    colour = {c.name: i + 1 for i, c in enumerate(kept)}
    of = np.array([colour.get(w, 0) for w in words], int)
    at = _numbers_at([points[of == i] for i in range(1, len(kept) + 1)])
    shares = [s for c in kept for s in (c.share, *c.weighted.values())]
    return Clusters(
        column=column,
        clusters=[Cluster(i, c, _path(points[of == i]), at[i - 1]) for i, c in enumerate(kept, 1)],
        others=len(groups.categories) - len(kept),
        other_clips=groups.clips - sum(c.clips for c in kept),
        other_path=_path(points[of == 0]),
        without=groups.without_value,
        points=len(points),
        with_embedding=total,
        explained=explained,
        dot=3.0 if len(points) > 1500 else 5.0,
        report=report,
        groups=groups,
        longest=max(shares) or 1.0,
    )


def _any(store: Store, column: str, where: str | None) -> bool:
    condition = f" AND ({where}\n)" if where else ""
    query = f"SELECT 1 FROM clips_full WHERE {identifier(column)} IS NOT NULL{condition} LIMIT 1"
    return store.sql(query).num_rows > 0


def _kept(categories: list[Category]) -> list[Category]:
    if len(categories) <= SHOWN:
        return categories
    return categories[: SHOWN // 2] + categories[-SHOWN // 2 :]


def _no_points() -> tuple[list[str], np.ndarray, float, int]:
    return [], np.zeros((0, 2)), 0.0, 0


def _projected(store: Store, column: str, where: str | None) -> tuple[list[str], np.ndarray, float, int]:
    """(cluster of each point, its place on the map [N, 2], the part of the variance shown, clips with an embedding).

    The points are the clips whose id's hash is lowest, so that the same clips always make the same map.
    """
    condition = f" AND ({where}\n)" if where else ""
    chosen = f"FROM clips_full WHERE {identifier(EMBEDDING)} IS NOT NULL{condition}"
    total = store.sql(f"SELECT count(*) AS n {chosen}").column("n")[0].as_py()
    ids = store.sql(f"SELECT clip_id {chosen} ORDER BY md5(clip_id), clip_id LIMIT {MAX_POINTS}").column(0).to_pylist()
    tables = [
        store.read("clips", ["clip_id", column, EMBEDDING], is_one_of("clip_id", ids[start : start + LOOKUP_IDS]))
        for start in range(0, len(ids), LOOKUP_IDS)
    ]
    if not tables:
        return _no_points()
    table = pa.concat_tables(tables).sort_by("clip_id")
    vectors, has = embeddings(table.column(EMBEDDING))
    words = [w for w, ok in zip(table.column(column).cast(pa.string()).to_pylist(), has, strict=True) if ok]
    if not len(vectors):
        return _no_points()
    points, explained = project(vectors)
    return words, _placed(points), explained, total


def _placed(points: np.ndarray) -> np.ndarray:
    """On the map: as large as fits, both axes to one scale, y upwards."""
    low, high = points.min(0), points.max(0)
    spans = np.maximum(high - low, 1e-12)
    scale = min((WIDTH - 2 * MARGIN) / spans[0], (HEIGHT - 2 * MARGIN) / spans[1])
    centred = (points - (low + high) / 2) * min(scale, 1e6)
    return np.stack([WIDTH / 2 + centred[:, 0], HEIGHT / 2 - centred[:, 1]], 1)


def _path(points: np.ndarray) -> str:
    """Dots as one path: lines of length 0 with round ends."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)


def _numbers_at(groups: list[np.ndarray]) -> list[tuple[float, float] | None]:
    """Return the middle of each group of points; None where an earlier group's number is in the way."""
    at: list[tuple[float, float] | None] = []
    for points in groups:
        x, y = np.median(points, axis=0).tolist() if len(points) else (0.0, 0.0)
        taken = any(p and abs(p[0] - x) < NUMBER[0] and abs(p[1] - y) < NUMBER[1] for p in at)
        at.append((x, y) if len(points) and not taken else None)
    return at
