"""The clips that balance is measured on, read from a store: by a condition, or as a snapshot froze them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.errors import unknown_name
from reelwright.curation.store.sql_text import identifier
from reelwright.curation.store.weighting import COLUMN, Balance
from reelwright.errors import UserError, first_line
from reelwright.pipelines.browse.balance.conditions import validate_where
from reelwright.pipelines.browse.balance.measure import (
    CATEGORIES,
    MAX_CATEGORIES,
    BalanceReport,
    ColumnBalance,
    categories_of,
    given_weighting,
    measure,
    nearest,
    weightings,
)

CLUSTERS = ("cluster_name", "cluster_id")  # categories that have a place in caption-embedding space
EMBEDDING = "caption_embedding"
BALANCES = tuple(Balance(by) for by in COLUMN)


def balance_report(
    store: Store,
    by: Sequence[str] = (),
    *,
    where: str | None = None,
    snapshot: str | None = None,
    targets: Mapping[str, Mapping[str, float]] | None = None,
    balances: Sequence[Balance] = BALANCES,
    near: bool = True,
) -> BalanceReport:
    """Measure how evenly clips cover their categories.

    Args:
        store: the store; all of its clips unless `where` or `snapshot` chooses some.
        by: columns of categories; empty: the columns of CATEGORIES that the clips have values in.
        where: SQL condition over clips_full.
        snapshot: measure this snapshot's clips, with its weights.
        targets: {column: {category: part}} to compare with; other columns are compared with equal parts.
        balances: weights to try on clips that no snapshot has weighed.
        near: look for the clusters nearest to scarce clusters, which reads all embeddings.

    Raises:
        StoreError: a column or condition that cannot be used, or no clips.
    """
    where = validate_where(store, where)
    schema = store.schema("clips") if snapshot is None else _pinned_schema(store, snapshot)
    for name in by:
        _refuse_other_than_categories(schema, name)
    asked = list(by) or [name for name in CATEGORIES if name in schema.names]
    clips = read_clips(store, schema, asked, where=where, snapshot=snapshot)
    if not clips.num_rows:
        raise StoreError(f"no clip passes {where!r}." if where else "the store has no clips yet.")
    filled = [name for name in asked if clips.column(name).null_count < clips.num_rows]
    absent = [] if by else [name for name in CATEGORIES if name not in filled]
    shown = list(by) or filled
    for name in shown:
        _refuse_too_many(clips, name)
    if snapshot is None:
        costs, weights = weightings(clips, balances)
    else:
        weights = {"snapshot": clips.column("weight").to_numpy()}
        costs = [given_weighting("snapshot", weights["snapshot"])]
    columns = measure(clips, shown, weights=weights, targets=targets)
    if near and EMBEDDING in schema.names:
        columns = [_with_neighbours(store, c, where, snapshot) if c.column in CLUSTERS else c for c in columns]
    hours = float(np.nansum(clips.column("duration_s").to_numpy()) / 3600)
    return BalanceReport(clips.num_rows, hours, columns, absent, costs)


def read_clips(
    store: Store, schema: pa.Schema, by: Sequence[str], *, where: str | None, snapshot: str | None
) -> pa.Table:
    """Read clip_id, duration_s, the columns of `by`, and density and cluster_id with their makers ("density:made").

    Columns that the clips lack are left out; a snapshot's clips have their weight too.
    """
    wanted = {name: name for name in ("clip_id", "duration_s", *by, *COLUMN.values()) if name in schema.names}
    for name in COLUMN.values():
        mark = f"{maker(schema, name)}_fingerprint"
        if mark in schema.names:
            wanted[f"{name}:made"] = mark
    return pa.concat_tables(batches(store, wanted, where, snapshot))


def read_targets(path: Path, by: Sequence[str]) -> dict[str, dict[str, float]]:
    """Read a YAML or JSON file {column: {category: part}}; parts are in any unit, and at least one is above 0.

    Raises:
        UserError: the file is something else.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read targets from {path}: {first_line(error)}") from error
    if not isinstance(found, dict) or not all(isinstance(v, dict) and v for v in found.values()):
        example = "shot_size: {wide: 2, close-up: 1}"
        raise UserError(f"{path} holds no targets; write {{column: {{category: part}}}}, such as {example}")
    for column, parts in found.items():
        if by and column not in by:
            raise UserError(f"{path} has targets for {column}, which is not looked at; add it to --by")
        bad = [name for name, part in parts.items() if not _is_part(part)]
        if bad or not any(parts.values()):
            what = f"look at {bad[0]!r}" if bad else "all of them are 0"
            raise UserError(f"{path}: the targets of {column} are numbers from 0 on, one above 0; {what}")
    return {str(c): {_word(k): float(v) for k, v in parts.items()} for c, parts in found.items()}


def maker(schema: pa.Schema, column: str) -> str:
    """Return the annotator that wrote a column."""
    metadata = schema.field(column).metadata if column in schema.names else None
    return (metadata or {}).get(b"computed_by", b"").decode()


def _is_part(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def _word(key: Any) -> str:
    """Write a category as Arrow does."""
    return str(key).lower() if isinstance(key, bool) else str(key)


def _pinned_schema(store: Store, snapshot: str) -> pa.Schema:
    return store.dataset("clips", store.snapshots.show(snapshot).clips_version).schema


def batches(store: Store, wanted: Mapping[str, str], where: str | None, snapshot: str | None) -> Iterator[pa.Table]:
    """Yield tables with the columns `wanted` (name here -> name in clips), and `weight` where a snapshot is read."""
    if snapshot is not None:
        for table in store.snapshots.clips(snapshot, list(dict.fromkeys(wanted.values()))):
            renamed = {name: table.column(column) for name, column in wanted.items()}
            yield pa.table(renamed | {"weight": table.column("weight")})
        return
    picked = ", ".join(f"{identifier(column)} AS {identifier(name)}" for name, column in wanted.items())
    condition = f" WHERE ({where}\n)" if where else ""
    reader = store.sql_stream(f"SELECT {picked} FROM clips_full{condition}")
    yield reader.schema.empty_table()
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _refuse_other_than_categories(schema: pa.Schema, name: str) -> None:
    if name not in schema.names:
        raise unknown_name(name, "column of clips", schema.names, see="reel describe clips")
    kind = schema.field(name).type
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise StoreError(f"{name} holds {kind}, and balance counts categories: text, whole numbers or true and false.")


def _refuse_too_many(clips: pa.Table, name: str) -> None:
    count = len(categories_of(clips, name)[1])
    if count > MAX_CATEGORIES:
        raise StoreError(f"{name} has {count:,} different values, which sort nothing; choose a column of categories.")


def _with_neighbours(store: Store, column: ColumnBalance, where: str | None, snapshot: str | None) -> ColumnBalance:
    """Its under-represented clusters with the names of the clusters closest to them."""
    if not any(c.verdict == "under" for c in column.categories):
        return column
    names = [c.name for c in column.categories]
    near = nearest(names, _embedding_sums(store, column.column, names, where, snapshot))
    found = [replace(c, near=near.get(c.name, [])) if c.verdict == "under" else c for c in column.categories]
    return replace(column, categories=found)


def _embedding_sums(
    store: Store, column: str, names: Sequence[str], where: str | None, snapshot: str | None
) -> np.ndarray:
    """[K, D]: the sum of the unit caption embeddings of each category's clips."""
    codes = {name: i for i, name in enumerate(names)}
    sums = np.zeros((len(names), 1))
    for table in batches(store, {"name": column, "vector": EMBEDDING}, where, snapshot):
        vectors, has = embeddings(table.column("vector"))
        if not len(vectors):
            continue
        if sums.shape[1] != vectors.shape[1]:
            sums = np.zeros((len(names), vectors.shape[1]))
        words = table.column("name").cast(pa.string()).to_pylist()
        rows = np.array([codes.get(w, -1) for w, ok in zip(words, has, strict=True) if ok])
        np.add.at(sums, rows[rows >= 0], vectors[rows >= 0])
    return sums


def embeddings(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return (unit vectors float64 [M, D] of the rows that have a finite one not 0, a mask [N] of these rows)."""
    flat = column.combine_chunks()
    has = np.asarray(flat.is_valid().to_numpy(zero_copy_only=False))
    values = flat.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    vectors = values.reshape(int(has.sum()), -1) if has.any() else np.zeros((0, 1))
    norms = np.linalg.norm(vectors, axis=1)
    good = np.isfinite(norms) & (norms > 0)
    has = has.copy()
    has[has] = good
    return vectors[good] / norms[good, None], has
