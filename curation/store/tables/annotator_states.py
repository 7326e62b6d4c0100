"""Table `annotator_states`: the state that annotators of whole sets of clips keep between runs."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _columns() -> list[pa.Field]:
    text = pa.string()
    return [
        field("annotator", text, "name of an annotator that looks at all clips at once"),
        field("fingerprint", text, "code, parameters and model that the state belongs to"),
        field("state", text, "what it found, such as the centres of clusters: JSON"),
        field("at", TIMESTAMP, "when"),
    ]  # fmt: skip


TABLE = register(Table("annotator_states", _columns, key="annotator"))
