"""A folder anyone can read: `clips.parquet` with every column and the path of each clip's file under `videos/`."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.export.files import save
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Export

ROWS = 1_000  # rows of a Parquet row group


def write(export: Export) -> None:
    """Write `videos/<name>.mp4`, and clips.parquet with every column and the file's path."""
    import pyarrow.parquet as pq

    schema = pa.schema([pa.field("file", pa.string()), *(f for f in export.schema if f.name != "file")])
    waiting: list[dict[str, object]] = []
    with pq.ParquetWriter(export.folder / "clips.parquet", schema, compression="zstd") as writer:
        for clip in export.clips():
            waiting.append({**clip.row, "file": save(clip, export)})
            if len(waiting) == ROWS:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting = []
        writer.write_table(pa.Table.from_pylist(waiting, schema))


FORMAT = Format("folder", "videos/ID.mp4, and clips.parquet with every column", write, takes_all=True)
