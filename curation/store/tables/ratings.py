"""Table `ratings`: one row per answer of a person or a judge about a generation, or about a pair of them."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _columns() -> list[pa.Field]:
    text = pa.string()
    return [
        field("rating_id", text, "hash of study, item, rater, dimension and repeat: an answer sent twice is one row"),
        field("study_id", text, "the study: studies.study_id; null: a judge's answer"),
        field("item_id", text, "of the video or pair in its study"),
        field("evaluation_id", text, "the evaluation: evaluations.evaluation_id"),
        field("kind", text, "mos (1 to 5 of one video), gsb (which of two is better) or check (attention: the text "
              "said what to answer)"),
        field("generation_id", text, "the video; of a pair, the one of the model named first in the study; null for "
              "check"),
        field("other_id", text, "the pair's other video; null for mos"),
        field("dimension", text, "what was judged: text_alignment, visual_quality, motion_quality, overall …"),
        field("value", pa.float64(), "mos: 1 to 5; gsb: 1 (the first is better), 0 (same), -1 (the other is better)"),
        field("rater", text, "the person's name, or the judge's model"),
        field("is_human", pa.bool_(), "whether a person answered"),
        field("shown_first", text, "generation_id of the video that stood left or first; null for mos"),
        field("repeat", pa.int32(), "0; 1 and more where the same item was shown to the same rater again"),
        field("seconds", pa.float64(), "from showing to answer", unit="s"),
        field("expected", pa.float64(), "of a check: the answer that was asked for; null: no check"),
        field("at", TIMESTAMP, "when it was answered"),
    ]  # fmt: skip


TABLE = register(Table("ratings", _columns, key="rating_id", lock="ratings", has_small_appends=True))
