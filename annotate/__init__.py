"""Annotators compute columns of clips: one annotator per file; `contract` defines one, `load` finds it by name."""

from __future__ import annotations

from reelwright.annotate.contract import (
    Annotator,
    Column,
    Computes,
    Facts,
    Frames,
    PartialResult,
    Postponed,
    Resources,
    SetAnnotator,
    Stored,
    StreamedSetAnnotator,
    Unmeasurable,
    fingerprint_with,
    refuse_shared_columns,
    runtime,
    schema_of,
    stored_needs,
)  # fmt: skip
from reelwright.annotate.per_batch import PerBatch
from reelwright.annotate.registry import ENTRY_POINTS, available, in_profile, load, load_all, typical_s
from reelwright.annotate.run import Failure, annotate_clip, annotate_clips, expected_fingerprint

__all__ = [
    "ENTRY_POINTS", "Annotator", "Column", "Computes", "Facts", "Failure", "Frames", "PartialResult", "PerBatch",
    "Postponed", "Resources", "SetAnnotator", "Stored", "StreamedSetAnnotator", "Unmeasurable", "annotate_clip",
    "annotate_clips", "available", "expected_fingerprint", "fingerprint_with", "in_profile", "load", "load_all",
    "refuse_shared_columns", "runtime", "schema_of", "stored_needs", "typical_s",
]  # fmt: skip
