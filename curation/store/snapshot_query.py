"""From a query to a snapshot's rows: run it over pinned versions, check what it returned, draw a seeded sample.

A query may return every clip of a store, of which few are drawn: its rows lie in a file, which is mapped, and DuckDB
puts on disk what it has no room for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import snapshot_duplicates, snapshot_weights
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.errors import StoreError, unknown_name
from reelwright.curation.store.given_weights import GivenWeights
from reelwright.curation.store.sql import connect, run
from reelwright.curation.store.sql_text import identifier, is_one_of
from reelwright.curation.store.weighting import Balance

VALUE = "value of limit_per"  # a name that no column of clips has
MEMORY = "512MB"  # of DuckDB, while it looks through the ids of all rows


@dataclass(frozen=True)
class LimitPer:
    """At most `count` clips per value of a column: one that the query returns, or one of clips."""

    column: str
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise StoreError(f"a limit per {self.column} is 1 or more, not {self.count}.")


@dataclass(frozen=True)
class Draw:
    """How many of a query's clips are taken.

    Args:
        limit: clips in all; None is every one.
        seed: of the draws, and of `random()` in the query.
        limit_per: at most so many per value of a column, drawn first.
        distinct: before that, of each group of near duplicates one clip: the largest picture, then the longest, then
            the smallest id. Clips that no group is known of stay.
    """

    limit: int | None = None
    seed: int = 0
    limit_per: LimitPer | None = None
    distinct: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise StoreError(f"a snapshot's limit is 1 or more, not {self.limit}.")


@dataclass(frozen=True)
class Chosen:
    """The clips of a snapshot to be.

    Args:
        rows: (clip_id, weight, position).
        fingerprints: annotator -> fingerprint -> clips.
        balance: the record of how the weights were made, where they were.
        distinct: counts of near duplicates that were left out and of clips without a group, where that was asked.
    """

    rows: pa.Table
    fingerprints: dict[str, dict[str, int]]
    balance: dict[str, Any] | None
    distinct: dict[str, Any] | None


def choose(
    store: Connection,
    sql: str,
    versions: Mapping[str, int],
    draw: Draw,
    *,
    weights: str | Balance | GivenWeights | None = None,
) -> Chosen:
    """Run a query over pinned versions, check its rows, draw from them and weigh them.

    Args:
        store: to ask.
        sql: returns clip_id, each clip once.
        versions: table -> the pinned version.
        draw: how many of the clips are taken.
        weights: the query's column of weights, the rule that makes them, or weights per value of a column.

    Raises:
        StoreError: the query is wrong, or returns something else.
    """
    with tempfile.TemporaryDirectory(prefix="reel-snapshot-") as folder:
        # one thread: ties in ORDER BY fall the same way
        con = connect(store, versions=versions, config={"threads": 1, "temp_directory": folder})
        try:
            return _choose(con, store, sql, versions, draw, weights, Path(folder) / "rows.arrow")
        finally:
            con.close()


def _choose(
    con: Any,
    store: Connection,
    sql: str,
    versions: Mapping[str, int],
    draw: Draw,
    weights: str | Balance | GivenWeights | None,
    file: Path,
) -> Chosen:
    limit_per, column = draw.limit_per, weights if isinstance(weights, str) else None
    con.execute("SELECT setseed($s)", {"s": (draw.seed % 2**31) / 2**31}).fetchall()
    rows = _run(con, store, sql, column, limit_per.column if limit_per else None, file)
    _refuse_repeats(con, rows)
    rows, left_out = snapshot_duplicates.leave_out(con, rows) if draw.distinct else (rows, None)
    if limit_per is not None:
        rows = _sample_per(con, store, rows, limit_per, draw.seed)
    rows = rows if draw.limit is None else _sample(con, rows, draw.limit, draw.seed)
    _refuse_unknown(con, rows)
    rows = _numbered(rows, "position")
    record = None
    if isinstance(weights, Balance):
        rows, record = snapshot_weights.balanced(con, store, versions["clips"], rows, weights)
    elif isinstance(weights, GivenWeights):
        rows, record = snapshot_weights.given(con, store.dataset("clips", versions["clips"]).schema, rows, weights)
    return Chosen(rows, _fingerprints(con, rows), record, left_out)


def with_clip_columns(
    store: Connection,
    rows: pa.Table,
    columns: Sequence[str] | None,
    *,
    clips_version: int | None = None,
    whole: bool = False,
) -> pa.Table:
    """Return `rows`, in their order, with columns of clips beside their own.

    Args:
        store: to read clips from.
        rows: with clip_id; a column of theirs stays where clips have one of the same name.
        columns: of clips; default: all but vectors.
        clips_version: version of clips; default: the newest.
        whole: read all clips, which is quicker for many rows; else those of the rows alone.
    """
    names = clip_columns(store, clips_version) if columns is None else list(columns)
    names = [n for n in names if n not in rows.schema.names]
    some = None if whole else is_one_of("clip_id", rows.column("clip_id").to_pylist())
    clips = store.read("clips", ["clip_id", *names], some, version=clips_version)
    at = pc.index_in(rows.column("clip_id"), clips.column("clip_id").combine_chunks())
    for name in names:
        rows = rows.append_column(clips.schema.field(name), clips.column(name).take(at))
    return rows


def clip_columns(store: Connection, version: int | None = None) -> list[str]:
    """Return the columns of clips that a person would read: all but vectors."""
    schema = store.dataset("clips", version).schema
    return [f.name for f in schema if not pa.types.is_fixed_size_list(f.type)]


def _run(con: Any, store: Connection, sql: str, weights: str | None, per: str | None, file: Path) -> pa.Table:
    """(clip_id, weight), and the column `per` as VALUE where the query returns it; mapped from `file`."""
    result = run(con, sql, store, close=False)
    names = result.schema.names
    if names.count("clip_id") != 1:
        raise StoreError(
            f"a snapshot's query has to return the column clip_id once; this one returns {', '.join(names)}."
        )
    if weights is not None and weights not in names:
        raise unknown_name(weights, "column of the query", names, see="reel snapshot create --help")
    fields = [pa.field("clip_id", pa.string()), pa.field("weight", pa.float64())]
    if per in names:
        kind = result.schema.field(per).type
        fields.append(pa.field(VALUE, kind.value_type if pa.types.is_dictionary(kind) else kind))
    schema = pa.schema(fields)
    with pa.ipc.new_file(file, schema) as out:
        for batch in result:
            one = pa.array(np.ones(batch.num_rows)) if weights is None else _weights(batch.column(weights), weights)
            columns = [batch.column("clip_id"), one, *([batch.column(per)] if per in names else [])]
            out.write_batch(
                pa.record_batch([c.cast(f.type) for c, f in zip(columns, fields, strict=True)], schema=schema)
            )
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _numbered(rows: pa.Table, name: str) -> pa.Table:
    return rows.append_column(name, pa.array(np.arange(rows.num_rows)))


@contextmanager
def _in_little_memory(con: Any) -> Iterator[None]:
    """Let DuckDB put on disk what exceeds MEMORY: not while it numbers rows within groups, which it holds in memory."""
    con.execute(f"SET memory_limit = '{MEMORY}'")
    try:
        yield
    finally:
        con.execute("RESET memory_limit")


def _weights(column: pa.Array, name: str) -> pa.Array:
    try:
        weight = column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StoreError(f"the weight column {name} holds {column.type}; weights are numbers above 0.") from error
    good = pc.and_(pc.is_finite(weight), pc.greater(weight, 0.0))
    if weight.null_count or pc.any(pc.invert(good)).as_py():
        raise StoreError(f"the weight column {name} holds a null, infinite or not positive value; weights are above 0.")
    return weight


def _refuse_repeats(con: Any, rows: pa.Table) -> None:
    """Each id is there, and once."""
    if not rows.num_rows:
        raise StoreError("the query returns no clip, and an empty snapshot trains nothing; loosen its conditions.")
    con.register("chosen", rows)
    with _in_little_memory(con):
        twice = con.execute(
            "SELECT clip_id, count(*) FROM chosen GROUP BY clip_id HAVING count(*) > 1 OR clip_id IS NULL LIMIT 1"
        ).fetchall()
    if twice:
        raise StoreError(
            f"the query returns clip {twice[0][0]} {twice[0][1]} times; return each clip once (SELECT DISTINCT, or "
            "GROUP BY clip_id), and use --weights to see some more often."
        )


def _refuse_unknown(con: Any, rows: pa.Table) -> None:
    """Each id is a clip with media."""
    con.register("known", rows)
    for table, what in (("clips", "is not in clips"), ("media", "has no media")):
        with _in_little_memory(con):
            unknown = con.execute(f"SELECT clip_id FROM known ANTI JOIN {table} USING (clip_id)").fetchall()
        if unknown:
            raise StoreError(
                f"{len(unknown)} of the clip_ids that the query returns cannot be used: {unknown[0][0]} {what}; "
                "return clip_id of the table clips as it is."
            )


def _sample_per(con: Any, store: Connection, rows: pa.Table, per: LimitPer, seed: int) -> pa.Table:
    """Keep at most `per.count` clips per value, in the query's order.

    They are the clips with the lowest hashes of id and seed. Clips without a value count as clips of one value.
    """
    if VALUE not in rows.schema.names:
        known = con.execute("SELECT column_name FROM (DESCRIBE clips)").fetchall()
        names = [name for (name,) in known]
        if per.column not in names:
            raise unknown_name(per.column, "column of the query or of clips", names, see="reel describe clips")
    con.register("numbered", _numbered(rows, "place"))
    value = identifier(VALUE) if VALUE in rows.schema.names else f"c.{identifier(per.column)}"
    source = "numbered n" if VALUE in rows.schema.names else "numbered n LEFT JOIN clips c USING (clip_id)"
    query = (
        f"SELECT clip_id, weight FROM (SELECT n.clip_id, n.weight, n.place, row_number() OVER (PARTITION BY {value} "
        f"ORDER BY md5($s || ':' || n.clip_id), n.clip_id) AS number FROM {source}) WHERE number <= $n ORDER BY place"
    )
    return con.sql(query, params={"s": str(seed), "n": per.count}).to_arrow_table()


def _sample(con: Any, rows: pa.Table, limit: int, seed: int) -> pa.Table:
    """Keep the `limit` clips with the lowest hashes of id and seed, in the query's order."""
    con.register("numbered", _numbered(rows, "place"))
    query = (
        "SELECT clip_id, weight FROM (SELECT * FROM numbered ORDER BY md5($s || ':' || clip_id), clip_id LIMIT $n) "
        "ORDER BY place"
    )
    with _in_little_memory(con):
        return con.sql(query, params={"s": str(seed), "n": limit}).to_arrow_table()


def _fingerprints(con: Any, rows: pa.Table) -> dict[str, dict[str, int]]:
    con.register("frozen", rows)
    columns = con.execute(
        "SELECT column_name FROM (DESCRIBE clips) WHERE column_name LIKE '%\\_fingerprint' ESCAPE '\\'"
    )
    names = [row[0] for row in columns.fetchall()]
    found: dict[str, dict[str, int]] = {}
    for name in names:
        with _in_little_memory(con):
            counts = con.execute(
                f"SELECT {identifier(name)}, count(*) FROM clips SEMI JOIN frozen USING (clip_id) "
                f"WHERE {identifier(name)} IS NOT NULL GROUP BY 1 ORDER BY 1"
            ).fetchall()
        if counts:
            found[name.removesuffix("_fingerprint")] = dict(counts)
    return found
