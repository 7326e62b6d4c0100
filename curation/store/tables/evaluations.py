"""Table `evaluations`: one row per evaluation: the prompts, the models under comparison, how all were sampled."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _columns() -> list[pa.Field]:
    text = pa.string()
    return [
        field("evaluation_id", text, "hash of the suite, the models and the sampling settings"),
        field("name", text, "what the user calls it; unique in the store"),
        field("at", TIMESTAMP, "when it began"),
        field("suite", text, "name of the suite of prompts"),
        field("suite_hash", text, "of the suite's content"),
        field("models", pa.list_(text), "names of the models under comparison, as in generations.model"),
        field("settings", text, "sampling settings that all models share: JSON"),
        field("prompts", pa.int64(), "prompts of the suite"),
        field("wanted", pa.int64(), "generations that it asks for: the denominator of every share"),
        field("lineage", text, "each model's checkpoint, adapters and what they were trained on: JSON"),
    ]  # fmt: skip


TABLE = register(Table("evaluations", _columns, key="evaluation_id", lock="evaluation"))
