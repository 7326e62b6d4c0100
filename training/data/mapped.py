"""Tables in Arrow IPC files that many processes map: a page is read when it is first looked at, and shared by all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa


def write_table(table: pa.Table, path: Path, note: str, metadata: dict[str, Any]) -> None:
    """Write a table in one piece, so that its columns can be mapped; the file appears whole or not at all.

    Args:
        table: any.
        path: of the file; its folder is made.
        note: key of `metadata` in the file's own metadata.
        metadata: can be written as JSON.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    table = table.combine_chunks().replace_schema_metadata({note: json.dumps(metadata)})
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with pa.OSFile(str(unfinished), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    os.replace(unfinished, path)


def map_table(path: Path, note: str) -> tuple[pa.Table, dict[str, Any]]:
    """Map a file of `write_table`: (table, about). No byte of a column is read yet."""
    table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
    return table, json.loads(table.schema.metadata[note.encode()])
