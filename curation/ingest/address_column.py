"""A Parquet list of addresses at object stores and of nothing else: its rows are not read one by one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from reelwright.curation.ingest.inputs import STORES

PLAIN = rf"^({'|'.join(STORES)})://[^:\s\x00-\x1f]+$"
"""Addresses that every rule of a list takes as they are: a protocol in small letters, no chain of them, no blank."""


def read_addresses(file: Any, names: tuple[str, ...]) -> list[pa.Array] | None:
    """Return the addresses of an open Parquet file, by batches; None where it holds anything else: then read its rows.

    names: a column of one of these has addresses.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(file)
        schema = opened.schema_arrow
        if schema.names not in [[name] for name in names] or not opened.metadata.num_rows:
            return None
        if not (pa.types.is_string(schema.types[0]) or pa.types.is_large_string(schema.types[0])):
            return None
        found = []
        for batch in opened.iter_batches():
            uris = batch.column(0).cast(pa.large_string())
            if uris.null_count or not pc.all(pc.match_substring_regex(uris, PLAIN)).as_py():
                return None
            found.append(uris)
        return found
    except (pa.ArrowException, OSError):  # reading its rows says what is wrong
        return None
