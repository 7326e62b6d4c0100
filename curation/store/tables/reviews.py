"""Table `reviews`: one row per clip and decision of a person; the columns `review_*` of clips follow it."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _columns() -> list[pa.Field]:
    text = pa.string()
    return [
        field("action_id", text, "the decision; one about many clips is one action"),
        field("clip_id", text, "the clip: clips.clip_id"),
        field("reviewer", text, "who decided"),
        field("action", text, "keep, drop, clear, tag, untag, star, unstar, caption, undo or redo"),
        field("undone", text, "action_id that an undo or a redo is about"),
        field("verdict", text, "keep, drop or null, after the action"),
        field("star", pa.bool_(), "whether the clip has a star, after the action"),
        field("tags", pa.list_(text), "its tags in alphabetical order, after the action"),
        field("caption", text, "its caption as a person wrote it, after the action"),
        field("at", TIMESTAMP, "when it was decided"),
        field("position", pa.int64(), "order of actions in this store, from 1"),
    ]  # fmt: skip


TABLE = register(Table("reviews", _columns, key="clip_id", lock="reviews", has_small_appends=True))

VERDICTS = ("keep", "drop")


def review_columns() -> list[pa.Field]:
    """Return the columns of clips that follow the last review of each clip."""
    text = pa.string()
    made = {"computed_by": "review"}
    return [
        field("review_verdict", text, "keep or drop, as a person decided; null: undecided", **made),
        field("review_star", pa.bool_(), "whether a person gave it a star", **made),
        field("review_tags", pa.list_(text), "tags that people gave it", **made),
        field("review_caption", text, "its caption as a person wrote it", **made),
        field("review_caption_by", text, "who wrote review_caption", **made),
        field("review_by", text, "who decided last", **made),
        field("review_at", TIMESTAMP, "when that was", **made),
    ]  # fmt: skip
