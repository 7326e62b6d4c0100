"""The tables: their columns, and for each its unit, its meaning and what computed it, kept as Arrow field metadata.

Annotators add columns of their own to `clips`; these are the columns every store has.
"""

from __future__ import annotations

from functools import cache

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")

KEYS = {
    "sources": "uri",
    "shots": "source_md5",
    "clips": "clip_id",
    "media": "clip_id",
    "failures": None,
    "runs": "run_id",
    "snapshots": "name",
    "snapshot_rows": "clip_id",
    "latents": "clip_id",
    "texts": "caption_hash",
    "annotator_states": "annotator",
    "journal": "maker",
}
"""The column of each table that may not be null, if any."""

PAYLOAD = {"media": ("mp4",), "latents": ("latents", "latents_inline"), "texts": ("states", "states_inline"),
           "journal": ("results",)}  # fmt: skip
"""Columns of bytes that SQL never sees: the store's own code reads them."""

ADDED_LATER = ("annotator_states", "journal")
"""Tables that a store of an earlier version gets when they are first asked for."""

MARKER = "sources"
"""The table made last when a store is created: where it is missing, there is no store."""


def field(name: str, type: pa.DataType, meaning: str, *, unit: str = "", computed_by: str = "") -> pa.Field:
    """A column with what a reader of it needs to know; `computed_by` names the step or annotator that writes it."""
    about = {"unit": unit, "meaning": meaning, "computed_by": computed_by}
    return pa.field(name, type, metadata={k: v for k, v in about.items() if v})


@cache
def schemas() -> dict[str, pa.Schema]:
    """Table name -> Arrow schema, in the order the tables are created."""
    return {"shots": _shots(), "clips": _clips(), "media": _media(), "failures": _failures(), "runs": _runs(),
            "snapshots": _snapshots(), "snapshot_rows": _snapshot_rows(), "latents": _latents(),
            "texts": _texts(), "annotator_states": _annotator_states(), "journal": _journal(),
            "sources": _sources()}  # fmt: skip


def _colour(of: str, computed_by: str) -> list[pa.Field]:
    """Colour tags, in ffmpeg's words; null where unspecified."""
    text = pa.string()
    return [
        field("color_matrix", text, f"matrix of {of}: bt709, smpte170m, bt2020nc …", computed_by=computed_by),
        field("color_primaries", text, f"primaries of {of}: bt709, bt2020 …", computed_by=computed_by),
        field("color_transfer", text, f"transfer of {of}: bt709, smpte2084 (PQ) …", computed_by=computed_by),
        field("color_range", text, f"range of {of}: tv (limited) or pc (full)", computed_by=computed_by),
        field("bit_depth", pa.int32(), f"bits per sample of {of}", unit="bit", computed_by=computed_by),
        field("hdr", text, f"high dynamic range of {of}: sdr, pq, hlg, hdr10plus, dolby_vision_p5 …",
              computed_by=computed_by),
    ]  # fmt: skip


def _sources() -> pa.Schema:
    text, i32, i64, f64 = pa.string(), pa.int32(), pa.int64(), pa.float64()
    return pa.schema([
        field("source_id", text, "the publisher's id of the video, as a manifest states it; else the uri",
              computed_by="ingest"),
        field("uri", text, "where the file is", computed_by="ingest"),
        field("md5", text, "hash of the file's bytes", computed_by="ingest"),
        field("bytes", i64, "file size", unit="byte", computed_by="ingest"),
        field("container", text, "container format", computed_by="probe"),
        field("codec", text, "video codec", computed_by="probe"),
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
        *_colour("the first frame", "probe"),
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
    ])  # fmt: skip


def _shots() -> pa.Schema:
    text, i32, i64, f64 = pa.string(), pa.int32(), pa.int64(), pa.float64()
    return pa.schema([
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
    ])  # fmt: skip


def _clips() -> pa.Schema:
    text, i32, i64, f64 = pa.string(), pa.int32(), pa.int64(), pa.float64()
    return pa.schema([
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
        field("longest_frame_s", f64, "how long the frame that stands longest is shown", unit="s",
              computed_by="clips"),
        field("corrupt_frames", i64, "its frames that the decoder marked as corrupt, in the source", unit="frame",
              computed_by="clips"),
        *_colour("the clip", "clips"),
        field("audio_note", text, "what of the source's sound did not come along; null: nothing, or none was wanted",
              computed_by="clips"),
        field("clips_fingerprint", text, "code and parameters that cut this clip", computed_by="clips"),
        field("span_caption", text, "caption of the part of the source that a manifest names and the clip lies in",
              computed_by="clips"),
        field("span_captions", pa.list_(text), "all captions of that part, the first included", computed_by="clips"),
    ])  # fmt: skip


def _media() -> pa.Schema:
    import lance

    about = {"meaning": "the clip as an mp4 file", "computed_by": "clips"}
    blob = lance.blob_field("mp4")
    return pa.schema([
        field("clip_id", pa.string(), "the clip: clips.clip_id", computed_by="clips"),
        field("size", pa.int64(), "length of the mp4", unit="byte", computed_by="clips"),
        blob.with_metadata({**(blob.metadata or {}), **about}),
    ])  # fmt: skip


def _failures() -> pa.Schema:
    text = pa.string()
    return pa.schema([
        field("uri", text, "the file that failed"),
        field("source_md5", text, "its md5, where it was known"),
        field("clip_id", text, "the clip that failed, where it was one clip"),
        field("stage", text, "the step that failed"),
        field("error", text, "what went wrong, in one line"),
        field("detail", text, "the end of the tool's own output"),
        field("kind", text, "io, limit, truncated and such, of a file; unmeasurable: no failure, the annotator says in "
              "error why the clip has nothing to measure, and its columns are null; null: anything else"),
        field("attempts", pa.int32(), "how often it was tried"),
        field("fingerprint", text, "code and parameters of the step that failed"),
        field("at", TIMESTAMP, "when"),
        field("mended_at", TIMESTAMP, "when the step worked on the clip after all, by whatever code; null: not yet"),
    ])  # fmt: skip


def _runs() -> pa.Schema:
    text = pa.string()
    return pa.schema([
        field("run_id", text, "identifies the run"),
        field("command", text, "what was run: curate, annotate, …"),
        field("recipe", text, "the whole recipe, as YAML or JSON text"),
        field("versions", text, "versions of the code and its libraries, as JSON"),
        field("counts", text, "counts by name (sources ok, duplicate, failed, clips, …), as JSON"),
        field("stage_seconds", text, "seconds by stage, as JSON", unit="s"),
        field("stage_bytes", text, "bytes by stage, as JSON", unit="byte"),
        field("usage", text, "tokens in and out and USD by annotator that asks a model, as JSON"),
        field("state", text, "finished, interrupted or failed"),
        field("started_at", TIMESTAMP, "when the run began"),
        field("ended_at", TIMESTAMP, "when it ended"),
    ])  # fmt: skip


def _snapshots() -> pa.Schema:
    text, i64 = pa.string(), pa.int64()
    return pa.schema([
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
    ])  # fmt: skip


def _snapshot_rows() -> pa.Schema:
    return pa.schema([
        field("snapshot", pa.string(), "the snapshot: snapshots.name"),
        field("clip_id", pa.string(), "the clip: clips.clip_id at the pinned version"),
        field("weight", pa.float64(), "relative weight of the clip in sampling"),
        field("position", pa.int64(), "place of the clip in the query's order, from 0"),
    ])  # fmt: skip


def _latents() -> pa.Schema:
    text, i32, i64 = pa.string(), pa.int32(), pa.int64()
    return pa.schema([
        field("clip_id", text, "the clip: clips.clip_id", computed_by="encode"),
        field("bucket", text, "frames x height x width of the bucket, in pixels", computed_by="encode"),
        field("encoder_fingerprint", text, "VAE, frame rate and element type that made this row", computed_by="encode"),
        *_payload("latents", "VAE latents [C, T, H, W], C order, little endian"),
        field("shape", pa.list_(i32), "C, T, H, W", computed_by="encode"),
        field("dtype", text, "bf16, fp16 or fp32", computed_by="encode"),
        field("first_frame", i64, "first frame of the clip that it shows", unit="frame", computed_by="encode"),
        field("last_frame", i64, "last frame of the clip that it shows", unit="frame", computed_by="encode"),
        field("scale", pa.float32(), "how much the clip was enlarged to cover the bucket", computed_by="encode"),
    ])  # fmt: skip


def _texts() -> pa.Schema:
    text = pa.string()
    return pa.schema([
        field("caption_hash", text, "of the caption: clips that share a caption share the row", computed_by="encode"),
        field("encoder_fingerprint", text, "text encoder and element type that made this row", computed_by="encode"),
        field("caption", text, "the caption", computed_by="encode"),
        *_payload("states", "text states [L, D], C order, little endian"),
        field("shape", pa.list_(pa.int32()), "L, D", computed_by="encode"),
        field("dtype", text, "bf16, fp16 or fp32", computed_by="encode"),
    ])  # fmt: skip


def _payload(name: str, meaning: str) -> tuple[pa.Field, pa.Field, pa.Field]:
    """A tensor's bytes: as a blob, or in the row where they are few (see `reelwright.curation.store.encoded`)."""
    import lance

    blob = lance.blob_field(name)
    about = {"meaning": meaning, "computed_by": "encode"}
    inline = {"meaning": f"{meaning}: where they are few", "computed_by": "encode"}
    return (
        field("bytes", pa.int64(), f"length of {name}", unit="byte", computed_by="encode"),
        blob.with_metadata({**(blob.metadata or {}), **about}),
        # compressing noise costs the reader five times the time and saves a fifth of the bytes
        pa.field(f"{name}_inline", pa.large_binary(), metadata=inline | {"lance-encoding:compression": "none"}),
    )


def _annotator_states() -> pa.Schema:
    text = pa.string()
    return pa.schema([
        field("annotator", text, "name of an annotator that looks at all clips at once"),
        field("fingerprint", text, "code, parameters and model that the state belongs to"),
        field("state", text, "what it found, such as the centres of clusters: JSON"),
        field("at", TIMESTAMP, "when"),
    ])  # fmt: skip


def _journal() -> pa.Schema:
    return pa.schema([
        field("maker", pa.string(), "annotators that made these results together"),
        field("num_rows", pa.int64(), "clips that there are results of", unit="clip"),
        field("bytes", pa.int64(), "length of the results", unit="byte"),
        pa.field("results", pa.large_binary(), metadata={"meaning": "rows to merge into clips: an Arrow IPC stream"}),
        field("at", TIMESTAMP, "when"),
    ])  # fmt: skip
