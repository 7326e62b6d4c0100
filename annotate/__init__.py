"""Annotators compute columns of clips: one annotator a file, `contract` says what one is, `load` finds it by name."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import fields
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from reelwright.annotate.contract import (
    Annotator,
    Column,
    Computes,
    Facts,
    Frames,
    Partly,
    Postponed,
    Resources,
    SetAnnotator,
    Stored,
    Unmeasurable,
    fingerprint_with,
    refuse_shared_columns,
    runtime,
    schema_of,
    stored_needs,
)  # fmt: skip
from reelwright.annotate.run import Failure, annotate_clip, annotate_clips, expected_fingerprint

__all__ = [
    "BUILT_IN", "Annotator", "Column", "Computes", "Facts", "Failure", "Frames", "Partly", "Postponed", "Resources",
    "SetAnnotator", "Stored", "Unmeasurable", "annotate_clip", "annotate_clips", "available", "expected_fingerprint",
    "fingerprint_with", "load", "load_all", "runtime", "schema_of", "stored_needs",
]  # fmt: skip

BUILT_IN = {
    "technical": "reelwright.annotate.picture.technical:Technical",
    "blur": "reelwright.annotate.picture.blur:Blur",
    "combing": "reelwright.annotate.motion.combing:Combing",
    "motion": "reelwright.annotate.motion.motion:Motion",
    "text": "reelwright.annotate.overlay.text:Text",
    "light": "reelwright.annotate.picture.light:Light",
    "texture": "reelwright.annotate.picture.texture:Texture",
    "camera_motion": "reelwright.annotate.motion.camera_motion:CameraMotion",
    "watermark": "reelwright.annotate.overlay.watermark:Watermark",
    "watermark_classifier": "reelwright.annotate.overlay.watermark_classifier:WatermarkClassifier",
    "watermark_vlm": "reelwright.annotate.overlay.watermark_vlm:WatermarkVlm",
    "aesthetics": "reelwright.annotate.picture.aesthetics:Aesthetics",
    "aesthetic_standin": "reelwright.annotate.picture.aesthetic_standin:AestheticStandin",
    "frame_hash": "reelwright.annotate.picture.frame_hash:FrameHash",
    "visual_embedding": "reelwright.annotate.picture.visual_embedding:VisualEmbedding",
    "near_duplicates": "reelwright.annotate.sets.near_duplicates:NearDuplicates",
    "caption": "reelwright.annotate.captions.caption:Caption",
    "composed_caption": "reelwright.annotate.captions.composed_caption:ComposedCaption",
    "caption_rewrites": "reelwright.annotate.captions.caption_rewrites:CaptionRewrites",
    "captions": "reelwright.annotate.captions.captions:Captions",
    "cinematography": "reelwright.annotate.captions.cinematography:Cinematography",
    "caption_embedding": "reelwright.annotate.captions.caption_embedding:CaptionEmbedding",
    "clusters": "reelwright.annotate.sets.clusters:Clusters",
    "cluster_names": "reelwright.annotate.sets.cluster_names:ClusterNames",
    "density": "reelwright.annotate.sets.density:Density",
}
ENTRY_POINTS = "reelwright.annotators"  # other packages add annotators under this group: name = "module:Class"


def available() -> dict[str, str]:
    """Name -> "module:Class" of all annotators that `load` knows; a built-in name cannot be taken by a package."""
    return {e.name: e.value for e in entry_points(group=ENTRY_POINTS)} | BUILT_IN


def load(name: str, parameters: Mapping[str, Any] | None = None) -> Computes:
    """The annotator of this name with these parameters; raises ValueError for a name or parameter it does not know."""
    known = BUILT_IN if name in BUILT_IN else available()  # looking at all installed packages takes a while
    if name not in known:
        raise ValueError(f"{name!r} is not an annotator; {_look_alikes(name, known)}")
    module, _, attribute = known[name].partition(":")
    return _build(getattr(import_module(module), attribute), dict(parameters or {}))


def load_all(recipe: Mapping[str, Mapping[str, Any] | None]) -> list[Computes]:
    """The annotators of a recipe {name: parameters}, in its order; raises ValueError where two write one column."""
    annotators = [load(name, parameters) for name, parameters in recipe.items()]
    refuse_shared_columns(annotators)
    return annotators


def _build(kind: type[Computes], parameters: dict[str, Any]) -> Computes:
    from pydantic import TypeAdapter, ValidationError

    known = [field.name for field in fields(kind)]
    for key in parameters:
        if key not in known:
            raise ValueError(f"annotator {kind.name!r} has no parameter {key!r}; {_look_alikes(key, known)}")
    try:
        return TypeAdapter(kind).validate_python(parameters)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"annotator {kind.name!r}: {where} = {first['input']!r}: {first['msg']}") from None


def _look_alikes(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"look-alikes: {', '.join(close)}" if close else f"there are: {', '.join(sorted(known)) or 'none'}"
