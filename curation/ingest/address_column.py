"""A Parquet list of addresses at object stores and of nothing else: its rows are not read one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.ingest.inputs import STORES

BATCH_ROWS = 131_072
BUFFER_BYTES = 1 << 20  # for each column, so that no row group is in memory whole
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
        opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
        schema = opened.schema_arrow
        is_text = len(schema) == 1 and (
            pa.types.is_string(schema.types[0]) or pa.types.is_large_string(schema.types[0])
        )
        if not is_text or schema.names[0] not in names or not opened.metadata.num_rows:
            yield None
            return
        for batch in opened.iter_batches(BATCH_ROWS):
            uris = batch.column(0).cast(pa.large_string())
            if uris.null_count or not (are_alike(uris) or pc.all(pc.match_substring_regex(uris, PLAIN)).as_py()):
                yield None
                return
            yield uris
    except (pa.ArrowException, OSError):  # reading its rows says what is wrong
        yield None


def are_alike(uris: pa.Array) -> bool:
    """Return whether addresses, large_string [N], are plain and have one protocol, by a look at their bytes.

    False where it does not tell.

    Bytes up to the blank are those that PLAIN excludes, and a colon after the protocol's own would be one too many.
    """
    import pyarrow.compute as pc

    protocol, found, _ = uris[0].as_py().partition("://") if len(uris) else ("", "", "")
    if not found or protocol not in STORES:
        return False
    start, end = np.frombuffer(uris.buffers()[1], np.int64)[[uris.offset, uris.offset + len(uris)]]
    data = np.frombuffer(uris.buffers()[2], np.uint8)[start:end]
    is_long = pc.greater(pc.binary_length(uris), len(protocol) + len("://"))
    begins = pc.starts_with(uris, f"{protocol}://")
    return bool(
        data.min() > ord(" ") and np.count_nonzero(data == ord(":")) == len(uris)
        and pc.all(is_long).as_py() and pc.all(begins).as_py()
    )  # fmt: skip
