"""Table `clips`: one row per clip. Annotators add columns of their own; these are in every store."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import Table, field, register
from reelwright.curation.store.tables.colour import colour


def _columns() -> list[pa.Field]:
    text, i32, i64, f64 = pa.string(), pa.int32(), pa.int64(), pa.float64()
    return [
        field("clip_id", text, "hash of source md5, start, end and crop", computed_by="clips"),
        field("source_md5", text, "the source: sources.md5", computed_by="clips"),
        field("shot_index", i32, "the shot in that source: shots.shot_index", computed_by="clips"),
        field("start_frame", i64, "first frame, in the source", unit="frame", computed_by="clips"),
        field("end_frame", i64, "frame after the last, in the source", unit="frame", computed_by="clips"),
        field("start_s", f64, "time of the first frame, in the source", unit="s", computed_by="clips"),
        field("end_s", f64, "time at which the last frame ends, in the source", unit="s", computed_by="clips"),
        field("crop_x", i32, "left edge of the crop, in the source", unit="px", computed_by="clips"),
        field("crop_y", i32, "top edge of the crop, in the source", unit="px", computed_by="clips"),
        field("crop_w", i32, "width of the crop, in the source", unit="px", computed_by="clips"),
        field("crop_h", i32, "height of the crop, in the source", unit="px", computed_by="clips"),
        field("width", i32, "width of the clip as encoded", unit="px", computed_by="clips"),
        field("height", i32, "height of the clip as encoded", unit="px", computed_by="clips"),
        field("fps", f64, "frame rate of the clip", unit="frame/s", computed_by="clips"),
        field("true_fps", f64, "distinct pictures per second, where frames repeat the one before (animation on threes, "
              "a slow webcam): median over stretches of two seconds; fps where none does", unit="frame/s",
              computed_by="clips"),
        field("num_frames", i64, "frames of the clip", unit="frame", computed_by="clips"),
        field("duration_s", f64, "length of the clip", unit="s", computed_by="clips"),
        field("bitrate_bps", i64, "mean bit rate of the clip", unit="bit/s", computed_by="clips"),
        field("is_still", pa.bool_(), "a single picture, which the source shows from start_s to end_s or longer",
              computed_by="clips"),
        field("is_image", pa.bool_(), "whether the source is a still image", computed_by="clips"),
        field("longest_frame_s", f64, "how long the frame that stands longest is shown", unit="s",
              computed_by="clips"),
        field("corrupt_frames", i64, "its frames that the decoder marked as corrupt, in the source", unit="frame",
              computed_by="clips"),
        *colour("the clip", "clips"),
        field("audio_note", text, "what of the source's sound did not come along; null: nothing, or none was wanted",
              computed_by="clips"),
        field("clips_fingerprint", text, "code and parameters that cut this clip", computed_by="clips"),
        field("span_caption", text, "caption of the part of the source that a manifest names and the clip lies in",
              computed_by="clips"),
        field("span_captions", pa.list_(text), "all captions of that part, the first included", computed_by="clips"),
    ]  # fmt: skip


TABLE = register(
    Table("clips", _columns, key="clip_id", is_core=True, has_id_index=True, has_small_appends=True)
)
