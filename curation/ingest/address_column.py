"""A Parquet list of addresses at object stores and of nothing else: its rows are not read one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from reelwright.curation.ingest.inputs import STORES

BATCH_ROWS = 131_072
PLAIN = rf"^({'|'.join(STORES)})://[^:\s\x00-\x1f]+$"
"""Addresses that every rule of a list takes as they are: a protocol in small letters, no chain of them, no blank."""


def read_addresses(file: Any, names: tuple[str, ...]) -> Iterator[pa.Array | None]:
    """Yield the addresses of an open Parquet file, by batches; None, and no more, where it holds anything else.

    Then its rows are to be read, all of them.

    Args:
        file: open.
        names: a column of one of these has addresses.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(file)
        schema = opened.schema_arrow
        is_text = len(schema) == 1 and (
            pa.types.is_string(schema.types[0]) or pa.types.is_large_string(schema.types[0])
        )
        if not is_text or schema.names[0] not in names or not opened.metadata.num_rows:
            yield None
            return
        for batch in opened.iter_batches(BATCH_ROWS):
            uris = batch.column(0).cast(pa.large_string())
            if uris.null_count or not pc.all(pc.match_substring_regex(uris, PLAIN)).as_py():
                yield None
                return
            yield uris
    except (pa.ArrowException, OSError):  # reading its rows says what is wrong
        yield None
