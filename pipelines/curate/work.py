"""The stages of a curation: which functions do their work, with what resources, and by which settings."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from reelwright.curation.ingest.inputs import Input
from reelwright.pipelines.curate.sources import Source
from reelwright.pipelines.curate.workers import film, tasks, whole_sources
from reelwright.pipelines.curate.workers.settings import Settings
from reelwright.pipelines.curate.workers.whole_sources import ScanJob
from reelwright.pipelines.recipes.curation import CurateRecipe

BATCHED = ("probe", "scan")
"""Stages that take several sources at a time."""
OPENING_BYTES = 16 << 20  # are read in about the time that opening a file takes
SAMPLES_PER_PIXEL = 1.5  # of 4:2:0, as nearly all footage has


def stages_of(recipe: CurateRecipe) -> dict[str, tuple[Any, Any, int]]:
    """Return the stages as `Flow` takes them, from first to last."""
    needs = recipe.resources
    return {
        "probe": (whole_sources.probe_sources, needs.probe, 1),
        "scan": (whole_sources.scan_sources, needs.scan, 2),
        "cut": (tasks.cut, needs.cut, 2),
        "write": (tasks.write_media, needs.write, 1),
    }


def settings_of(recipe: CurateRecipe, light: Collection[str], limits: Mapping[str, Any]) -> Settings:
    """Return what all sources are scanned and cut by.

    Args:
        recipe: of the run.
        light: annotators that share the decode of a cut clip.
        limits: bounds of a sandbox call.
    """
    return Settings(
        shots=recipe.shots,
        borders=recipe.borders,
        clips=recipe.clips,
        encode=recipe.encode,
        annotators=[(name, params) for name, params in recipe.annotator_params() if name in light],
        limits=dict(limits),
        images=recipe.images,
        cut_clips=recipe.batches.cut_clips,
        cut_s=recipe.batches.cut_s,
        cut_at_once=recipe.resources.scan == recipe.resources.cut,
    )


def scan_job(source: Source, left: Mapping[str, str] | None, split_s: float) -> ScanJob:
    """Return a source as the scan takes it.

    Args:
        source: that was probed.
        left: clips that the store has of it, id -> fingerprint.
        split_s: seconds of the parts that a long film is scanned in; 0: none is.
    """
    probed, info = source.probed, source.probed.info or {}
    return ScanJob(
        source.item.uri, source.md5, probed.num_bytes, probed.status, info.get("frames_hint") or 0, source.item.spans,
        left, film.part_length(info.get("duration_s") or 0.0, split_s), _decoded_bytes(info), source.apart,
    )  # fmt: skip


def probe_weight(item: Input) -> float:
    """Return the work of reading a file: its size, and what opening it takes beside; one of a store counts as small."""
    try:
        size = os.path.getsize(item.uri) if "://" not in item.uri else 0
    except OSError:
        size = 0
    return 1.0 + size / OPENING_BYTES


def _decoded_bytes(info: Mapping[str, Any]) -> int:
    """Return what all frames of a source take in memory, by its headers; 0 where they do not say."""
    frames = info.get("frames_hint") or float(info.get("duration_s") or 0) * float(info.get("fps") or 0)
    samples = frames * info.get("width", 0) * info.get("height", 0) * SAMPLES_PER_PIXEL
    return int(samples * (2 if (info.get("bit_depth") or 8) > 8 else 1))
