"""Table `sources`: one row per file, whatever became of it."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import MARKER, TIMESTAMP, Table, field, register
from reelwright.curation.store.tables.colour import colour


def _columns() -> list[pa.Field]:
    text, i32, i64, f64 = pa.string(), pa.int32(), pa.int64(), pa.float64()
    return [
        field("source_id", text, "the publisher's id of the video, as a manifest states it; else the uri",
              computed_by="ingest"),
        field("uri", text, "where the file is", computed_by="ingest"),
        field("md5", text, "hash of the file's bytes", computed_by="ingest"),
        field("bytes", i64, "file size", unit="byte", computed_by="ingest"),
        field("container", text, "container format", computed_by="probe"),
        field("codec", text, "video codec", computed_by="probe"),
        field("is_image", pa.bool_(), "whether it is a still image", computed_by="probe"),
        field("pix_fmt", text, "pixel format of the stored frames", computed_by="probe"),
        field("width", i32, "width of the decoded picture, after rotation", unit="px", computed_by="probe"),
        field("height", i32, "height of the decoded picture, after rotation", unit="px", computed_by="probe"),
        field("display_width", i32, "width as shown, after rotation and pixel aspect", unit="px", computed_by="probe"),
        field("display_height", i32, "height as shown, after rotation", unit="px", computed_by="probe"),
        field("sar", f64, "sample aspect ratio: width of a pixel over its height", computed_by="probe"),
        field("rotation", i32, "rotation a player applies", unit="degree clockwise", computed_by="probe"),
        field("fps", f64, "mean frame rate, holes in the times aside", unit="frame/s", computed_by="probe"),
        field("true_fps", f64, "distinct pictures per second, where frames repeat the one before: median over "
              "stretches of two seconds; fps where none does", unit="frame/s", computed_by="scan"),
        field("is_vfr", pa.bool_(), "whether the frame rate varies", computed_by="probe"),
        field("num_frames", i64, "video frames", unit="frame", computed_by="probe"),
        field("frames_in_shots", i64, "of them, in a shot; the next two are the others", unit="frame",
              computed_by="shots"),
        field("frames_in_transitions", i64, "of them, in a gradual transition between shots, or in one that begins or "
              "ends the file", unit="frame", computed_by="shots"),
        field("frames_dropped", i64, "of them, left out of both, for the reason in note", unit="frame",
              computed_by="shots"),
        field("duration_s", f64, "length of the video stream", unit="s", computed_by="probe"),
        field("bitrate_bps", i64, "mean bit rate of the file", unit="bit/s", computed_by="probe"),
        field("has_audio", pa.bool_(), "whether there is an audio stream", computed_by="probe"),
        field("audio_codec", text, "audio codec", computed_by="probe"),
        field("video_stream", i32, "index of the video stream that is curated; note names the others",
              computed_by="probe"),
        *colour("the first frame", "probe"),
        field("has_alpha", pa.bool_(), "whether pixels may be transparent; clips show them over black",
              computed_by="probe"),
        field("interlaced_frames", i64, "frames flagged as interlaced", unit="frame", computed_by="scan"),
        field("corrupt_frames", i64, "frames that the decoder marked as corrupt: it made up what was damaged",
              unit="frame", computed_by="scan"),
        field("state", text, "ok, duplicate or failed", computed_by="ingest"),
        field("duplicate_of", text, "uri of the file this one repeats", computed_by="ingest"),
        field("licence", text, "licence, as the manifest states it"),
        field("caption", text, "caption of the whole file, as the manifest states it; the first, if there are several"),
        field("captions", pa.list_(text), "all captions of the whole file, where a manifest has several"),
        field("spans", text, "parts that a manifest names, as JSON: [[start_s, end_s or null, [captions]], …]"),
        field("mtime_ns", i64, "last change of the file, since 1970", unit="ns", computed_by="ingest"),
        field("moved_from", text, "where the file was before, if its bytes were found at another address",
              computed_by="ingest"),
        field("note", text, "what a reader should know, such as 'decoding stopped early'", computed_by="ingest"),
        field("num_clips", i32, "clips cut from it", unit="clip", computed_by="clips"),
        field("no_clip_reason", text, "why a source that is ok gave no clip", computed_by="clips"),
        field("cutting_fingerprint", text, "settings of shots, borders, clips and encoding it was cut by",
              computed_by="clips"),
        field("ingested_at", TIMESTAMP, "when this row was written", computed_by="ingest"),
    ]  # fmt: skip


TABLE = register(Table(MARKER, _columns, key="uri", is_core=True, has_small_appends=True))
