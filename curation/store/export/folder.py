"""A folder anyone can read: `clips.parquet` with every column and the path of each clip's file under `videos/`."""

from __future__ import annotations

import pyarrow as pa

from curation.store.export.selection import Clip, Export

ROWS = 1_000  # rows of a Parquet row group


def write(export: Export) -> None:
    import pyarrow.parquet as pq

    videos = export.folder / "videos"
    videos.mkdir()
    schema = pa.schema([pa.field("file", pa.string()), *(f for f in export.selection.schema if f.name != "file")])
    waiting: list[dict[str, object]] = []
    with pq.ParquetWriter(export.folder / "clips.parquet", schema, compression="zstd") as writer:
        for clip in export.clips():
            waiting.append({**clip.row, "file": save(clip, videos.name, export)})
            if len(waiting) == ROWS:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting = []
        writer.write_table(pa.Table.from_pylist(waiting, schema))


def save(clip: Clip, subfolder: str, export: Export) -> str:
    """Write the clip's mp4; returns its path inside the export, with forward slashes."""
    (export.folder / subfolder / f"{clip.name}.mp4").write_bytes(clip.mp4)
    return f"{subfolder}/{clip.name}.mp4"
