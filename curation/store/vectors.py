"""Rows nearest to a vector, by cosine distance, and the index that finds them in a large table.

A small table is searched exactly, row by row. An index finds most of the nearest rows, not always all; rows that it
does not hold yet, or whose vector changed since (Lance takes their fragments out of it), are searched exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from reelwright.curation.store.connection import Connection
from reelwright.curation.store.errors import StoreError, lance_reason, unknown_name
from reelwright.curation.store.schema import table_of

DISTANCE = "_distance"
MAX_K = 10_000
INDEX_FROM_ROWS = 100_000  # below, reading every row takes under a third of a second
STALE_ROWS = 65_536  # rows outside the index from which it is brought up to date
COMPRESS_FROM_ROWS = 1_000_000  # from here the index keeps a byte a number instead of four
PROBES = 128  # partitions searched at least, of the square root of the rows; more where a condition leaves too few rows
REFINE = 10  # times k candidates with an exact distance: compressed vectors give doubled ones as well


def nearest(
    store: Connection, table: str, column: str, vector: Any, k: int, *, where: str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:  # fmt: skip
    """Return the rows nearest to a vector, nearest first, with `_distance`: 1 - cosine, from 0 to 2.

    Args:
        store: to search in.
        table: its name.
        column: of vectors; rows without one are never found.
        vector: floats, as many as the column's vectors have; not all 0.
        k: number of rows, 1 to 10,000.
        where: a SQL condition on columns of the table, applied before the search.
        columns: to return; default: the table's key.

    Raises:
        StoreError: the column holds no such vectors, or the condition does not work.
    """
    dataset = store.dataset(table)
    query = _checked(vector, _width(dataset, table, column), table, column)
    if not 1 <= k <= MAX_K:
        raise StoreError(f"the number of nearest rows is 1 to {MAX_K:,}, not {k:,}.")
    wanted = list(columns) if columns is not None else [key for key in (table_of(table).key,) if key]
    for name in wanted:
        if name not in dataset.schema.names:
            raise unknown_name(name, f"column of {table}", dataset.schema.names, see=f"reel describe {table}")
    search = {"column": column, "q": query, "k": k, "metric": "cosine", "minimum_nprobes": PROBES,
              "refine_factor": REFINE}  # fmt: skip
    try:
        found = dataset.to_table(columns=[*wanted, DISTANCE], nearest=search, filter=where, prefilter=True)
    except (ValueError, OSError) as error:
        tried = f"the condition {where!r} on {table}" if where else f"the search in {table}.{column}"
        raise StoreError(f"{tried} does not work: {lance_reason(error)}.") from error
    return found.filter(found[DISTANCE].is_valid()).sort_by([(name, "ascending") for name in _order(wanted, table)])


def index_vectors(store: Connection, table: str, column: str) -> bool:
    """Create or update the index of a column of vectors, where the table is large enough.

    Call it once a run has merged its vectors; without it, searches are right but slower.

    Returns:
        Whether the index was created or updated.
    """
    with store.writing(table) as dataset:
        _width(dataset, table, column)
        rows = dataset.count_rows(filter=f"`{column}` IS NOT NULL")
        if rows < INDEX_FROM_ROWS:
            return False
        indexed = _indexed_rows(dataset, column)
        if indexed is None or dataset.count_rows() - indexed > indexed:
            _create(dataset, column, rows)
        elif dataset.count_rows() - indexed >= STALE_ROWS:
            dataset.optimize.optimize_indices(index_names=[_index_name(column)])
        else:
            return False
        dataset.checkout_latest()
        return True


def _create(dataset: Any, column: str, rows: int) -> None:
    kind = "IVF_SQ" if rows >= COMPRESS_FROM_ROWS else "IVF_FLAT"
    dataset.create_index(
        column, kind, name=_index_name(column), metric="cosine", num_partitions=math.isqrt(rows), replace=True
    )


def _indexed_rows(dataset: Any, column: str) -> int | None:
    """Rows of the fragments that the column's index covers; None without an index."""
    parts = [index for index in dataset.list_indices() if index["name"] == _index_name(column)]
    covered = {fragment for index in parts for fragment in index["fragment_ids"]}
    return sum(f.count_rows() for f in dataset.get_fragments() if f.fragment_id in covered) if parts else None


def _index_name(column: str) -> str:
    return f"{column}_idx"


def _order(columns: Sequence[str], table: str) -> list[str]:
    """By distance; where rows repeat one vector, by key, so that the order is always the same."""
    return [DISTANCE, *(name for name in columns if name == table_of(table).key)]


def _width(dataset: Any, table: str, column: str) -> int:
    if column not in dataset.schema.names:
        raise unknown_name(column, f"column of {table}", dataset.schema.names, see=f"reel describe {table}")
    kind = dataset.schema.field(column).type
    if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
        raise StoreError(f"{table}.{column} holds {kind}, not vectors; name a column of vectors, such as "
                         "caption_embedding.")  # fmt: skip
    return int(kind.list_size)


def _checked(vector: Any, width: int, table: str, column: str) -> Any:
    import numpy as np

    query = np.asarray(vector, np.float32).ravel()
    if len(query) != width:
        raise StoreError(f"{table}.{column} holds vectors of {width} numbers, and this one has {len(query)}; embed the "
                         "query by the model that made the column.")  # fmt: skip
    length = float(np.linalg.norm(query))
    if not math.isfinite(length) or length == 0:
        raise StoreError(f"a vector of length {length} is near to nothing; give one of finite numbers, not all 0.")
    return query / length
