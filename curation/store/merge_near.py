"""Columns set in rows that lie together, as results come that were computed in a table's order.

Lance's merge joins the rows with the whole table's keys, so that a column set in pieces costs the square of the table.
Here only the fragments that hold the rows are read and written.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import fragments, seen
from reelwright.curation.store.sql_text import is_one_of

FROM_SHARE = 4  # the table has at least so many times the rows that are read
SPREAD = 3  # rows read, at most so many times those set, beside two fragments
PROBES = 8  # rows that are looked up to see where all may lie

Dataset = Any  # lance.LanceDataset, which is not imported until it is needed


def update_near(dataset: Dataset, rows: pa.Table, on: str) -> int | None:
    """Set the columns of `rows` where `on` matches, in one commit, if all of them lie in a few neighbouring fragments.

    Args:
        dataset: with an index on `on`, whose values are distinct.
        rows: the key and the columns to set, of the dataset's types; each key once.
        on: the key.

    Returns:
        Rows updated; None where they do not lie so, and nothing was done.
    """
    import lance

    near = _near(dataset, rows, on)
    if not near:
        return None
    keys = [fragment.to_table(columns=[on]).column(0) for fragment in near]
    at = pc.index_in(rows.column(on), pa.chunked_array([c for one in keys for c in one.chunks], keys[0].type))
    if at.null_count:
        return None
    ends = np.cumsum([0, *map(len, keys)])
    order = np.argsort(at.to_numpy(), kind="stable")
    cuts = np.searchsorted(at.to_numpy()[order], ends)
    updated, modified, matched = [], set[int](), {}
    for fragment, (first, last) in zip(near, pairwise(cuts.tolist()), strict=True):
        if last > first:
            part = rows.take(pa.array(order[first:last]))
            metadata, fields, offsets = fragment.update_columns(part, on, on, with_offsets=True)
            updated.append(metadata)
            modified.update(fields)
            matched[fragment.fragment_id] = offsets
    fragments.refuse_short(dataset.uri, updated)
    operation = lance.LanceOperation.Update(
        updated_fragments=updated, fields_modified=sorted(modified), update_mode="rewrite_columns",
        updated_fragment_offsets=matched,
    )  # fmt: skip
    committed = lance.LanceDataset.commit(dataset, operation, read_version=dataset.version)
    seen.note(dataset.uri, committed.version)
    dataset.checkout_latest()
    return rows.num_rows


def _near(dataset: Dataset, rows: pa.Table, on: str) -> list[Any]:
    """Return the fragments among which the rows seem to lie; none where they are too many to be worth it."""
    if dataset.count_rows() < FROM_SHARE * rows.num_rows:
        return []
    some = np.unique(np.linspace(0, rows.num_rows - 1, PROBES).astype(int))
    ids = rows.column(on).take(pa.array(some)).to_pylist()
    found = dataset.to_table(columns=[on], filter=is_one_of(on, ids), with_row_address=True)
    if found.num_rows != len(ids):
        return []
    numbers = found.column("_rowaddr").to_numpy() >> np.uint64(32)
    known = dataset.get_fragments()
    places = [i for i, fragment in enumerate(known) if fragment.fragment_id in set(numbers.tolist())]
    near = known[min(places) : max(places) + 1]
    read = sum(fragment.count_rows() for fragment in near)
    largest = max(fragment.count_rows() for fragment in near)
    few = read <= SPREAD * rows.num_rows + 2 * largest
    return near if few and dataset.count_rows() >= FROM_SHARE * read else []
