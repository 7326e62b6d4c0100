"""Table `shots`: one row per shot of a source, with its transition and its crop."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import Table, field, register


def _columns() -> list[pa.Field]:
    text, i32, i64, f64 = pa.string(), pa.int32(), pa.int64(), pa.float64()
    return [
        field("source_md5", text, "the source: sources.md5", computed_by="shots"),
        field("shot_index", i32, "position of the shot in its source, from 0", computed_by="shots"),
        field("start_frame", i64, "first frame", unit="frame", computed_by="shots"),
        field("end_frame", i64, "frame after the last", unit="frame", computed_by="shots"),
        field("start_s", f64, "time of the first frame", unit="s", computed_by="shots"),
        field("end_s", f64, "time at which the last frame ends", unit="s", computed_by="shots"),
        field("transition", text, "what the shot begins with: start, cut or gradual", computed_by="shots"),
        field("transition_first_frame", i64, "first frame of that transition", unit="frame", computed_by="shots"),
        field("transition_last_frame", i64, "last frame of that transition", unit="frame", computed_by="shots"),
        field("detector", text, "which detector found it", computed_by="shots"),
        field("confidence", pa.float32(), "the detector's confidence, 0 to 1", computed_by="shots"),
        field("crop_x", i32, "left edge of the picture inside its black borders", unit="px", computed_by="borders"),
        field("crop_y", i32, "top edge of the picture inside its black borders", unit="px", computed_by="borders"),
        field("crop_w", i32, "width of the picture inside its black borders", unit="px", computed_by="borders"),
        field("crop_h", i32, "height of the picture inside its black borders", unit="px", computed_by="borders"),
        field("fingerprint", text, "code, parameters and model that made this row", computed_by="shots"),
    ]  # fmt: skip


TABLE = register(Table("shots", _columns, key="source_md5", is_core=True, has_small_appends=True))
