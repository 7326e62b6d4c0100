"""Lance datasets, one per table: opening, creating, appending, merging columns, deleting.

This file holds Lance's rules; `connection.py` holds ours (locks, names, errors).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import fragments, merge_near, seen, traffic
from reelwright.curation.store.errors import StoreError, lance_reason, unknown_name
from reelwright.curation.store.schema import table_of

STORAGE_VERSION = "2.2"  # the first Lance file format with blobs kept outside the column file
INDEX_EVERY_ROWS = 65_536  # rows that may lie outside the index before it is brought up to date, at least,
INDEX_EVERY_SHARE = 32  # or one in so many of its rows: each time, Lance writes the whole index anew
MERGE_ROWS = 100_000  # rows a join, and bytes: Lance joins in a pool of 300 MB that does not spill, with three copies
MERGE_BYTES = 64 * 2**20
BATCH_ROWS = 4_096
FRAGMENT_ROWS = 65_536  # a merge rewrites its columns for every fragment it touches, so fragments stay small

Dataset = Any  # lance.LanceDataset, which is not imported until it is needed


def open_dataset(uri: str, options: dict[str, str] | None) -> Dataset | None:
    """Return the dataset at `uri`, or None if there is none. Raises StoreError if the address cannot be asked."""
    import lance

    try:
        return traffic.counted(lance.dataset(uri, storage_options=options), uri)
    except (ValueError, OSError) as error:
        if _is_missing(error):
            return _known(uri, options)
        raise StoreError(
            f"cannot open {uri}: {lance_reason(error)}; check the address, and for an object store its keys and "
            "endpoint."
        ) from error


def _is_missing(error: Exception) -> bool:
    return "was not found" in str(error) or "Not found" in str(error)


def _known(uri: str, options: dict[str, str] | None) -> Dataset | None:
    """Return a dataset of which this process knows a version, although a listing did not show it; None for others."""
    import lance

    version = seen.newest(uri)
    try:
        return traffic.counted(lance.dataset(uri, version=version, storage_options=options), uri) if version else None
    except (ValueError, OSError):  # it was deleted since
        return None


def at_newest(dataset: Dataset) -> Dataset:
    """Return a handle at the newest version: moved there, or another where an old listing would hide that version."""
    known = seen.newest(dataset.uri)
    try:
        dataset.checkout_latest()
    except (ValueError, OSError) as error:
        if not (known and _is_missing(error)):  # else the listing is older than the table
            raise
    try:
        newer = dataset.checkout_version(known) if known > dataset.version else dataset
    except (ValueError, OSError):  # another took its place
        return dataset
    newer.counts_with = getattr(dataset, "counts_with", dataset)  # by which its requests are counted
    return newer


def create_dataset(uri: str, table: str, options: dict[str, str] | None) -> Dataset:
    """Create an empty dataset for `table`; row ids are stable, so that compaction moves rows and keeps their ids."""
    import lance

    empty = table_of(table).schema.empty_table()
    try:
        dataset = lance.write_dataset(
            empty, uri, mode="create", data_storage_version=STORAGE_VERSION, enable_stable_row_ids=True,
            storage_options=options,
        )  # fmt: skip
    except OSError as error:
        if "already exists" not in str(error):
            raise
        hidden = lance.dataset(uri, version=1, storage_options=options)  # by an old listing: its first needs none
        return traffic.counted(hidden, uri)
    traffic.counted(dataset, uri)
    if table_of(table).has_id_index:
        dataset.create_scalar_index(table_of(table).key, "BTREE")
    seen.note(uri, dataset.version)
    return dataset


def to_table(rows: pa.Table | Sequence[dict[str, Any]], table: str, schema: pa.Schema) -> pa.Table:
    """Return `rows` with the columns and types of `schema`; columns not given are null.

    Raises:
        StoreError: a column is unknown, or a value does not fit its type.
    """
    given = rows.schema.names if isinstance(rows, pa.Table) else list({k: None for row in rows for k in row})
    for name in given:
        if name not in schema.names:
            raise unknown_name(name, f"column of {table}", schema.names, see=f"reel describe {table}")
    is_table = isinstance(rows, pa.Table)
    columns = [_column(rows, f, table) for f in schema] if is_table else _columns(rows, table, schema)
    _refuse_null_keys(columns, table, schema)
    return pa.Table.from_arrays(columns, schema=schema)


def _column(rows: pa.Table, f: pa.Field, table: str) -> pa.ChunkedArray | pa.Array:
    if f.name not in rows.schema.names:
        return pa.nulls(rows.num_rows, f.type)
    column = rows.column(f.name)
    try:
        return column.cast(f.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise StoreError(f"{table}.{f.name} holds {f.type}, not {column.type}: {error}.") from error


def _columns(rows: Sequence[dict[str, Any]], table: str, schema: pa.Schema) -> list[pa.Array]:
    """Convert all columns in one pass, in a quarter of the time; one by one only to say which has what is wrong."""
    try:
        return pa.array(rows, pa.struct(list(schema))).flatten()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OverflowError):
        return [_array([row.get(f.name) for row in rows], f, table) for f in schema]


def _array(values: list[Any], f: pa.Field, table: str) -> pa.Array:
    try:
        return pa.array(values, f.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OverflowError) as error:
        raise StoreError(f"{table}.{f.name} holds {f.type}: {error}.") from error


def _refuse_null_keys(columns: list[Any], table: str, schema: pa.Schema) -> None:
    key = table_of(table).key
    if key is not None and columns[schema.get_field_index(key)].null_count:
        raise StoreError(f"a row for {table} has no {key}; every row needs one.")


def append(dataset: Dataset, rows: pa.Table) -> None:
    """Append rows in one commit."""
    from lance.fragment import write_fragments

    fragments.append(dataset, write_fragments(rows, dataset, mode="append", max_rows_per_file=FRAGMENT_ROWS))


def add_null_columns(dataset: Dataset, fields: Sequence[pa.Field], table: str) -> None:
    """Add the fields that are missing, null in every row; metadata only, no data file is read or written.

    Raises StoreError where a column of that name has another type, or SQL could not read the table with it.
    """
    missing = []
    for f in fields:
        if f.name not in dataset.schema.names:
            if not _sql_reads(f.type):
                raise StoreError(f"{table}.{f.name} would hold {f.type}, which SQL cannot read; use a signed integer, "
                                 "a float32 or a text.")  # fmt: skip
            missing.append(f.with_nullable(True))
        elif not _same_type(dataset.schema.field(f.name).type, f.type):
            have = dataset.schema.field(f.name).type
            raise StoreError(
                f"{table}.{f.name} holds {have}, not {f.type}; give the new column another name, or write {have}."
            )
    if missing:
        dataset.add_columns(pa.schema(missing))


def missing_fields(dataset: Dataset, table: str) -> list[pa.Field]:
    """Return the columns that `table` has today and this dataset, made by an earlier version, lacks."""
    if table_of(table).payload:
        return []
    have = set(dataset.schema.names)
    return [f.with_nullable(True) for f in table_of(table).schema if f.name not in have]


def with_nulls(rows: pa.Table | pa.RecordBatch, names: Sequence[str], absent: dict[str, pa.Field]) -> Any:
    """Return `rows` with columns `names`, in that order; the columns in `absent` are null."""
    columns = [pa.nulls(rows.num_rows, absent[n].type) if n in absent else rows.column(n) for n in names]
    fields = [absent[n] if n in absent else rows.schema.field(n) for n in names]
    return type(rows).from_arrays(columns, schema=pa.schema(fields))


def _sql_reads(kind: pa.DataType, nested: bool = False) -> bool:
    """Whether DuckDB's conditions pass through Lance in a table with such a column: one bad column spoils them all."""
    if pa.types.is_struct(kind):
        return all(_sql_reads(kind.field(i).type, True) for i in range(kind.num_fields))
    if pa.types.is_nested(kind):
        return _sql_reads(kind.value_type, True)
    never = pa.types.is_float16(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind)
    return not never and not (nested and pa.types.is_unsigned_integer(kind))


def _same_type(have: pa.DataType, want: pa.DataType) -> bool:
    """Equal, but for the name that a list gives its items."""
    if pa.types.is_fixed_size_list(have) and pa.types.is_fixed_size_list(want):
        return have.list_size == want.list_size and _same_type(have.value_type, want.value_type)
    if pa.types.is_list(have) and pa.types.is_list(want):
        return _same_type(have.value_type, want.value_type)
    return have == want


def refuse_repeats(rows: pa.Table, on: str, table: str) -> None:
    """Raise StoreError if `rows` to merge into `table` lack the key column `on`, or hold a key twice."""
    if on not in rows.schema.names:
        raise StoreError(f"rows to merge into {table} lack the column '{on}' that they are matched by.")
    distinct = pc.count_distinct(rows.column(on), mode="all").as_py()
    if distinct != rows.num_rows:
        raise StoreError(f"rows to merge into {table} repeat a value of {on}; hand each one once.")


def cast_all(rows: pa.Table, schema: pa.Schema, table: str) -> pa.Table:
    """Cast `rows` to the types of `schema`; raise StoreError naming `table` for a value that does not fit."""
    try:
        return rows.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise StoreError(f"rows to merge into {table} do not fit its columns: {error}.") from error


def update_columns(dataset: Dataset, rows: pa.Table, on: str) -> int:
    """Set the columns of `rows` where `on` matches; other columns' files stay as they are. Returns rows updated.

    A row of `rows` that matches nothing is left out.
    """
    if any(index["name"] == f"{on}_idx" for index in dataset.list_indices()):
        near = merge_near.update_near(dataset, rows, on)
        if near is not None:
            return near
    updated = 0
    at_once = max(1, min(MERGE_ROWS, rows.num_rows * MERGE_BYTES // max(1, rows.nbytes)))
    for start in range(0, rows.num_rows, at_once):
        part = _compact(rows.slice(start, at_once))
        merge = dataset.merge_insert(on).when_matched_update_all()
        if set(part.schema.names) < set(dataset.schema.names):  # Lance refuses it where no column is left to skip
            merge = merge.write_mode("rewrite_columns")
        updated += fragments.merge(dataset, merge, part)
    return updated


def _compact(rows: pa.Table) -> pa.Table:
    """Copy the rows to memory of their own: Lance's pool counts a slice as all that it is a slice of."""
    pieces = [rows.slice(i, BATCH_ROWS) for i in range(0, rows.num_rows, BATCH_ROWS)]
    return pa.concat_tables([piece.take(pa.array(range(piece.num_rows))) for piece in pieces])


def keep_index_fresh(dataset: Dataset, table: str, *, wholly: bool = False) -> None:
    """Bring the id index up to date once enough rows lie outside it: look-ups scan those.

    An index of vectors is left alone (`vectors.index_vectors`): Lance may rebuild it whole, with no new row to add.

    Args:
        dataset: of the table.
        table: its name.
        wholly: for any row outside it.
    """
    key = table_of(table).key
    if not table_of(table).has_id_index:
        return
    name = f"{key}_idx"
    if not any(index["name"] == name for index in dataset.list_indices()):
        dataset.create_scalar_index(key, "BTREE")
        return
    stats = dataset.stats.index_stats(name)
    some = max(INDEX_EVERY_ROWS, stats["num_indexed_rows"] // INDEX_EVERY_SHARE)
    if stats["num_unindexed_rows"] >= (1 if wholly else some):
        dataset.optimize.optimize_indices(index_names=[name])


def stored_bytes(dataset: Dataset) -> int:
    """Return the bytes of this version's column files, without blobs."""
    files = (f for fragment in dataset.get_fragments() for f in fragment.data_files())
    return sum(f.file_size_bytes or 0 for f in files)
