"""Table `runs`: one row per run of a command."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _columns() -> list[pa.Field]:
    text = pa.string()
    return [
        field("run_id", text, "identifies the run"),
        field("command", text, "what was run: curate, annotate, …"),
        field("recipe", text, "the whole recipe, as YAML or JSON text"),
        field("versions", text, "versions of the code and its libraries, as JSON"),
        field("counts", text, "counts by name (sources ok, duplicate, failed, clips, …), as JSON"),
        field("stage_seconds", text, "seconds by stage, as JSON", unit="s"),
        field("stage_bytes", text, "bytes by stage, as JSON", unit="byte"),
        field("stages", text, "by stage: tasks, seconds, seconds of waiting, CPU, peak memory, requests and bytes of "
              "remote inputs and of the store's object store; of the store by the run's own process: requests and "
              "bytes; as JSON"),
        field("usage", text, "tokens in and out and USD by annotator that asks a model, as JSON"),
        field("state", text, "finished, interrupted or failed"),
        field("started_at", TIMESTAMP, "when the run began"),
        field("ended_at", TIMESTAMP, "when it ended"),
    ]  # fmt: skip


TABLE = register(Table("runs", _columns, key="run_id", lock="runs", is_core=True))
