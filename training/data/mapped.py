"""Tables in Arrow IPC files that many processes map: a page is read when it is first looked at, and shared by all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from reelwright.training.data.spool import forget

PIECE = 1 << 24  # bytes that are copied together


def write_table(table: pa.Table, path: Path, note: str, metadata: dict[str, Any]) -> None:
    """Write a table in one piece, so that its columns can be mapped; the file appears whole or not at all.

    Args:
        table: any.
        path: of the file; its folder is made.
        note: key of `metadata` in the file's own metadata.
        metadata: can be written as JSON.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if any(column.num_chunks > 1 for column in table.columns):
        table = table.combine_chunks()
    table = table.replace_schema_metadata({note: json.dumps(metadata)})
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(unfinished, "wb") as file, pa.ipc.new_file(_Pieces(file), table.schema) as writer:
        writer.write_table(table)
    os.replace(unfinished, path)


class _Pieces:
    """A file whose writer hands over columns whole: pages of mapped ones are let go as they are written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PIECE):
            self._file.write(view[start : start + PIECE])
            forget()
        return len(view)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Leave it to whoever opened the file."""


def map_table(path: Path, note: str) -> tuple[pa.Table, dict[str, Any]]:
    """Map a file of `write_table`: (table, about). No byte of a column is read yet."""
    table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
    return table, json.loads(table.schema.metadata[note.encode()])
