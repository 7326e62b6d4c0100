"""DuckDB for one piece of work on more rows than memory holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

THREADS = 1
"""Each has buffers of its own, and blocks of every run while runs are merged: with 64, as DuckDB takes on so many
cores, a sort of 2 M names in 256 MB ends without memory."""


@contextmanager
def duckdb_on_disk(memory_limit: str, prefix: str) -> Iterator[DuckDBPyConnection]:
    """Open a database in memory that puts the rest on disk, in a folder that goes with it.

    Args:
        memory_limit: as DuckDB writes it, such as 256MB.
        prefix: of the folder's name.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        config = {
            "memory_limit": memory_limit, "temp_directory": folder, "autoinstall_known_extensions": False,
            "preserve_insertion_order": False, "threads": THREADS,
        }  # fmt: skip
        with closing(duckdb.connect(":memory:", config=config)) as con:
            yield con
