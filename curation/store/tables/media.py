"""Table `media`: one row per clip with its mp4; SQL never sees the bytes."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import Table, field, register


def _columns() -> list[pa.Field]:
    import lance

    metadata = {"meaning": "the clip as an mp4 file", "computed_by": "clips"}
    blob = lance.blob_field("mp4")
    return [
        field("clip_id", pa.string(), "the clip: clips.clip_id", computed_by="clips"),
        field("size", pa.int64(), "length of the mp4", unit="byte", computed_by="clips"),
        blob.with_metadata({**(blob.metadata or {}), **metadata}),
    ]  # fmt: skip


TABLE = register(
    Table(
        "media", _columns, key="clip_id", payload=("mp4",), payload_bytes="size", is_core=True,
        has_id_index=True, rows_from="Store.write_media; commit them with Store.commit_media",
        read_by="Store.read_media(clip_ids)",
    )
)  # fmt: skip
