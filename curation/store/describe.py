"""Facts about a table: its size, and each column's meaning, maker and missing values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from reelwright.curation.store import datasets
from reelwright.curation.store.schema import table_of

if TYPE_CHECKING:
    from reelwright.curation.store.datasets import Dataset


@dataclass(frozen=True)
class TableInfo:
    """A table at its newest version. bytes: column files and clip media, without older versions."""

    name: str
    rows: int
    version: int
    bytes: int


@dataclass(frozen=True)
class ColumnInfo:
    """A column of a table. fingerprints: value of `<computed_by>_fingerprint` -> rows that carry it."""

    name: str
    type: str
    unit: str
    meaning: str
    computed_by: str
    nulls: int
    fingerprints: dict[str, int]


def table_info(dataset: Dataset, table: str) -> TableInfo:
    """Return the rows, bytes and newest version of a table."""
    size = datasets.stored_bytes(dataset)
    if length := table_of(table).payload_bytes:
        size += sum(dataset.to_table(columns=[length]).column(0).drop_null().to_pylist())
    return TableInfo(table, dataset.count_rows(), dataset.version, size)


def columns_info(dataset: Dataset, table: str) -> list[ColumnInfo]:
    """Return each column, in the order of the schema.

    A maker's fingerprints are counted once for all of its columns.
    """
    rows = dataset.count_rows()
    metadata = [{k.decode(): v.decode() for k, v in (f.metadata or {}).items()} for f in dataset.schema]
    makers = {one.get("computed_by", "") for one in metadata}
    fingerprints = {maker: _fingerprints(dataset, maker) for maker in makers}
    return [_column_info(dataset, table, f, of_field, fingerprints, rows)
            for f, of_field in zip(dataset.schema, metadata, strict=True)]  # fmt: skip


def _column_info(
    dataset: Dataset,
    table: str,
    f: pa.Field,
    metadata: dict[str, str],
    fingerprints: dict[str, dict[str, int]],
    rows: int,
) -> ColumnInfo:
    maker = metadata.get("computed_by", "")
    is_payload = f.name in table_of(table).payload
    nulls = 0 if is_payload or not rows else dataset.count_rows(filter=f"`{f.name}` IS NULL")
    kind = "mp4 bytes" if table_of(table).is_media and is_payload else str(f.type)
    return ColumnInfo(
        f.name, kind, metadata.get("unit", ""), metadata.get("meaning", ""), maker, nulls, fingerprints[maker]
    )


def _fingerprints(dataset: Dataset, maker: str) -> dict[str, int]:
    column = f"{maker}_fingerprint"
    if column not in dataset.schema.names:
        return {}
    counts = dataset.to_table(columns=[column]).column(0).drop_null().value_counts()
    return {one["values"]: one["counts"] for one in counts.to_pylist()}
