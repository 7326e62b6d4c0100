"""Failures of clips that a later attempt has made good, with whatever code and parameters it did."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import pyarrow as pa

from reelwright.curation.store.media import LOOKUP_IDS, id_filter, quote
from reelwright.curation.store.schema import schemas

if TYPE_CHECKING:
    from reelwright.curation.store.store import Store

MENDED = "mended_at"


def standing_failures(store: Store, stages: Collection[str]) -> pa.Table:
    """stage, clip_id, fingerprint and kind of the failures of clips that no later attempt has made good; among them
    notes of what could not be measured."""
    which = f"{id_filter('stage', sorted(stages))} AND clip_id IS NOT NULL" if stages else "false"
    if MENDED in store.schema("failures").names:
        which += f" AND {MENDED} IS NULL"
    return store.read("failures", ["stage", "clip_id", "fingerprint", "kind"], filter=which)


class Mending:
    """Notes when stages have worked on clips on which they had failed. stages: such as names of annotators."""

    def __init__(self, store: Store, stages: Collection[str]) -> None:
        self.store = store
        self.open: dict[str, set[str]] = {stage: set() for stage in stages}  # clips whose failure stands
        self.worked: dict[str, set[str]] = {}
        for row in standing_failures(store, stages).to_pylist():
            self.open[row["stage"]].add(row["clip_id"])

    def works(self, stages: Iterable[str], clip_id: str) -> None:
        """These have worked on the clip."""
        for stage in stages:
            if clip_id in self.open[stage]:
                self.worked.setdefault(stage, set()).add(clip_id)

    def commit(self) -> None:
        """Do it before the values are committed: after a crash in between they are made again, or fail again."""
        if self.worked:
            self.store.ensure_columns("failures", [schemas()["failures"].field(MENDED)])  # of an older store
        for stage, clips in self.worked.items():
            ids = sorted(clips)
            for start in range(0, len(ids), LOOKUP_IDS):
                of_clips = id_filter("clip_id", ids[start : start + LOOKUP_IDS])
                with self.store.writing("failures") as dataset:
                    where = f"stage = {quote(stage)} AND {MENDED} IS NULL AND {of_clips}"
                    dataset.update({MENDED: "now()"}, where=where)
            self.open[stage] -= clips
        self.worked = {}
