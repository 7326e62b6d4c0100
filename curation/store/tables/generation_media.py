"""Table `generation_media`: one row per generated video with its mp4; SQL never sees the bytes."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import Table, field, register


def _columns() -> list[pa.Field]:
    import lance

    by = {"computed_by": "evaluate"}
    blob = lance.blob_field("mp4")
    return [
        field("generation_id", pa.string(), "the generation: generations.generation_id", **by),
        field("size", pa.int64(), "length of the mp4", unit="byte", **by),
        field("record", pa.string(), "its row of generations as JSON, from which a run that was killed between the two "
              "tables is completed", **by),
        blob.with_metadata({**(blob.metadata or {}), "meaning": "the video as an mp4 file", **by}),
    ]  # fmt: skip


TABLE = register(
    Table(
        "generation_media", _columns, key="generation_id", payload=("mp4",), payload_bytes="size", lock="evaluation",
        has_id_index=True, rows_from="Store.add_generations", read_by="Store.read_generated(generation_ids)",
    )
)  # fmt: skip
