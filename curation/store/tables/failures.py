"""Table `failures`: one row per failed attempt."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _columns() -> list[pa.Field]:
    text = pa.string()
    return [
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
    ]  # fmt: skip


TABLE = register(Table("failures", _columns, is_core=True, has_small_appends=True))
