"""Table `studies`: one row per study with people: who rates what, in which order, as it was planned."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _columns() -> list[pa.Field]:
    text = pa.string()
    return [
        field("study_id", text, "hash of the evaluation, the settings and the items"),
        field("evaluation_id", text, "the evaluation: evaluations.evaluation_id"),
        field("kind", text, "mos or gsb"),
        field("raters", pa.list_(text), "names of the people"),
        field("items", pa.int64(), "videos or pairs that are rated"),
        field("plan", text, "items, tasks of each rater in order, sides: JSON"),
        field("at", TIMESTAMP, "when it was planned"),
    ]


TABLE = register(Table("studies", _columns, key="study_id", lock="ratings"))
