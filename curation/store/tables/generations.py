"""Table `generations`: one row per video that an evaluation asked a model for, failed ones included.

Its bytes are in `generation_media`. Measures and annotators add columns of their own (`<name>_fingerprint` beside
them), as they do to `clips`.
"""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _columns() -> list[pa.Field]:
    text, i32, i64, f64 = pa.string(), pa.int32(), pa.int64(), pa.float64()
    by = {"computed_by": "evaluate"}
    return [
        field("generation_id", text, "hash of evaluation, model, weights, prompt, seed and sampling settings", **by),
        field("evaluation_id", text, "the evaluation: evaluations.evaluation_id", **by),
        field("model", text, "the model's name in the evaluation", **by),
        field("model_fingerprint", text, "of its weights, adapters included", **by),
        field("prompt_id", text, "of the prompt in its suite", **by),
        field("prompt", text, "what the model was asked for", **by),
        field("short_prompt", text, "the prompt that a longer one was written from; null: the prompt is its own", **by),
        field("category", text, "the prompt's category in its suite", **by),
        field("prompt_kind", text, "short, long; of a picture: detailed, concise, contradictory, empty", **by),
        field("dimensions", pa.list_(text), "the benchmark's dimensions that it is judged in; null: any", **by),
        field("task", text, "t2v, i2v, vc", **by),
        field("reference_md5", text, "MD5 of the reference picture or video; null: none", **by),
        field("sample", i32, "of the videos of one model and prompt: 0, 1 …", **by),
        field("seed", i64, "of the initial noise; equal for all models", **by),
        field("state", text, "ok or failed", **by),
        field("error", text, "why it failed: a sentence", **by),
        field("width", i32, "width of the video", unit="px", **by),
        field("height", i32, "height of the video", unit="px", **by),
        field("fps", f64, "frame rate of the video", unit="frame/s", **by),
        field("num_frames", i64, "frames of the video", unit="frame", **by),
        field("wall_s", f64, "time that sampling took", unit="s", **by),
        field("at", TIMESTAMP, "when it was made", **by),
        field("lineage", text, "checkpoint, adapters, settings and sources: JSON", **by),
    ]  # fmt: skip


TABLE = register(
    Table("generations", _columns, key="generation_id", lock="evaluation", has_id_index=True, has_small_appends=True)
)
