"""Which failures are unresolved, and marking failures that a later attempt has resolved."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import pyarrow as pa

from reelwright.curation.store import sql
from reelwright.curation.store.clip_media import LOOKUP_IDS
from reelwright.curation.store.connection import Connection
from reelwright.curation.store.schema import table_of
from reelwright.curation.store.sql_text import identifier, is_one_of, literal

RESOLVED = "mended_at"  # the column, from when a later attempt worked


def unresolved(store: Connection, stage: str | None = None) -> pa.RecordBatchReader:
    """Return the newest failure of each file, clip and stage that no later attempt has resolved, by stage and uri.

    A later attempt says so itself in the row. An attempt that died before it could is recognized by its result, made by
    the code and parameters that had failed: a source that is no longer failed, a clip that is in the store, a value
    with the fingerprint of the failure, or a newer state of an annotator of whole sets.

    Args:
        store: to look in.
        stage: one stage, such as `scan` or the name of an annotator; default: all.
    """
    of_stage = f"AND stage = {literal(stage)}" if stage else ""
    resolved = " OR ".join(f"({condition})" for condition in _resolved_conditions(store))
    return sql.stream(
        store, f"SELECT * FROM failures_latest f WHERE NOT ({resolved}) {of_stage} ORDER BY stage, uri, clip_id"
    )


def _resolved_conditions(store: Connection) -> list[str]:
    """Return SQL conditions on `failures_latest f`; each means that a later attempt worked."""
    annotators = [n.removesuffix("_fingerprint") for n in store.schema("clips").names if n.endswith("_fingerprint")]
    fingerprints = {name: f"c.{identifier(f'{name}_fingerprint')}" for name in annotators}
    same = [(name, f"{column} = f.fingerprint") for name, column in fingerprints.items()]
    any_value = [(name, f"{column} IS NOT NULL") for name, column in fingerprints.items()]
    encoded = "SELECT 1 FROM latents l WHERE l.clip_id = f.clip_id AND l.encoder_fingerprint = f.fingerprint"
    of_clip = _by_stage([*same, ("precompute", f"EXISTS ({encoded})")], otherwise="f.stage = 'cut'")
    newer_state = "SELECT 1 FROM annotator_states s WHERE s.annotator = f.stage AND s.at > f.at"
    in_clips = f"SELECT 1 FROM clips c WHERE {_by_stage(any_value)}"  # null for a partial result
    conditions = [
        "f.clip_id IS NULL AND EXISTS (SELECT 1 FROM sources s WHERE s.uri = f.uri AND s.state <> 'failed')",
        "f.stage = 'ingest' AND NOT EXISTS (SELECT 1 FROM sources s WHERE s.uri = f.uri)",
        f"f.clip_id IS NULL AND EXISTS ({newer_state} AND EXISTS ({in_clips}))",
        f"EXISTS (SELECT 1 FROM clips c WHERE c.clip_id = f.clip_id AND {of_clip})",
    ]
    if RESOLVED in store.schema("failures").names:
        conditions.append(f"f.{RESOLVED} IS NOT NULL")
    return conditions


def _by_stage(cases: Sequence[tuple[str, str]], otherwise: str = "FALSE") -> str:
    """Return SQL for the condition that belongs to the failure's stage."""
    whens = " ".join(f"WHEN {literal(name)} THEN {condition}" for name, condition in cases)
    return f"CASE f.stage {whens} ELSE {otherwise} END" if cases else otherwise


def unresolved_clips(store: Connection, stages: Collection[str]) -> pa.Table:
    """Return stage, clip_id, fingerprint and kind of the failures of clips that no later attempt has resolved.

    Among them are the notes of clips in which there was nothing to measure.
    """
    condition = f"{is_one_of('stage', sorted(stages))} AND clip_id IS NOT NULL" if stages else "false"
    if RESOLVED in store.schema("failures").names:
        condition += f" AND {RESOLVED} IS NULL"
    return store.read("failures", ["stage", "clip_id", "fingerprint", "kind"], filter=condition)


class Resolver:
    """Marks failures of clips as resolved once their stages have worked, with whatever code and parameters.

    Args:
        store: of the process that commits.
        stages: the stages to update, such as names of annotators.
    """

    def __init__(self, store: Connection, stages: Collection[str]) -> None:
        self.store = store
        self.open: dict[str, set[str]] = {stage: set() for stage in stages}  # clips with an unresolved failure
        self.worked: dict[str, set[str]] = {}
        for row in unresolved_clips(store, stages).to_pylist():
            self.open[row["stage"]].add(row["clip_id"])

    def works(self, stages: Iterable[str], clip_id: str) -> None:
        """Remember that these stages have worked on the clip."""
        for stage in stages:
            if clip_id in self.open[stage]:
                self.worked.setdefault(stage, set()).add(clip_id)

    def commit(self) -> None:
        """Mark them before their values are committed: after a crash in between, values are made or fail again."""
        if self.worked:
            self.store.ensure_columns("failures", [table_of("failures").schema.field(RESOLVED)])  # of an older store
        for stage, clips in self.worked.items():
            ids = sorted(clips)
            for start in range(0, len(ids), LOOKUP_IDS):
                of_clips = is_one_of("clip_id", ids[start : start + LOOKUP_IDS])
                with self.store.writing("failures") as dataset:
                    where = f"stage = {literal(stage)} AND {RESOLVED} IS NULL AND {of_clips}"
                    dataset.update({RESOLVED: "now()"}, where=where)
            self.open[stage] -= clips
        self.worked = {}
