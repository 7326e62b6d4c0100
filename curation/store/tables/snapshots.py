"""Tables `snapshots` and `snapshot_rows`: frozen sets of clips, and their clips with weights."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _snapshot_columns() -> list[pa.Field]:
    text, i64 = pa.string(), pa.int64()
    return [
        field("name", text, "name of the snapshot"),
        field("sql", text, "the query that chose the clips"),
        field("sample_limit", i64, "clips drawn from the query's rows; null is all of them", unit="clip"),
        field("seed", i64, "seed of that draw"),
        field("weight_column", text, "the query's column that gave the weights; null is weight 1"),
        field("num_clips", i64, "clips in the snapshot", unit="clip"),
        field("content_hash", text, "sha256 over the sorted clip ids with their weights"),
        field("tag", text, "Lance tag that pins the versions below"),
        field("clips_version", i64, "pinned version of clips"),
        field("media_version", i64, "pinned version of media"),
        field("sources_version", i64, "pinned version of sources"),
        field("fingerprints", text, "annotator -> fingerprint -> clips of the snapshot that carry it, as JSON"),
        field("created_at", TIMESTAMP, "when"),
        field("balance", text, "how weights were made from density or clusters, as JSON; null where they were not"),
        field("limit_per", text, "column and most clips per value of it that were drawn, as JSON; null is all of them"),
        field("distinct", text, "near duplicates that were left out, as JSON; null where none were looked for"),
    ]  # fmt: skip


def _row_columns() -> list[pa.Field]:
    return [
        field("snapshot", pa.string(), "the snapshot: snapshots.name"),
        field("clip_id", pa.string(), "the clip: clips.clip_id at the pinned version"),
        field("weight", pa.float64(), "relative weight of the clip in sampling"),
        field("position", pa.int64(), "place of the clip in the query's order, from 0"),
    ]  # fmt: skip


SNAPSHOTS = register(Table("snapshots", _snapshot_columns, key="name", lock="snapshots", is_core=True))
ROWS = register(Table("snapshot_rows", _row_columns, key="clip_id", lock="snapshots", is_core=True))
