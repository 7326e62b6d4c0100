"""What every source of a run is scanned and cut by: one text that goes with each task and is read once per process."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import BaseModel

from reelwright.curation.borders import BorderConfig
from reelwright.curation.clips import ClipConfig, clip_fingerprint
from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.shots import ShotConfig


class Settings(BaseModel, frozen=True, extra="forbid", ser_json_inf_nan="constants"):
    """Settings of scanning and cutting.

    Args:
        shots: How shots are found.
        borders: How borders are.
        clips: Which parts of shots become clips.
        encode: How clips are encoded.
        annotators: (name, parameters) of the annotators that share the clips' decode.
        limits: Bounds of a sandbox call, as a recipe's `limits` has them.
        images: Whether still images are taken.
        cut_clips: Clips of one source that one task cuts.
        cut_s: Seconds of footage that it cuts.
        cut_at_once: Whether the task that scans a source cuts its clips too, where they are no more than that.
    """

    shots: ShotConfig
    borders: BorderConfig
    clips: ClipConfig
    encode: EncodeConfig
    annotators: list[tuple[str, dict[str, Any]]]
    limits: dict[str, Any]
    images: bool
    cut_clips: int
    cut_s: float
    cut_at_once: bool

    @functools.cached_property
    def clips_fingerprint(self) -> str:
        """Fingerprint of all that turns a span of frames into bytes."""
        return clip_fingerprint(self.encode)

    @functools.cached_property
    def as_dicts(self) -> dict[str, dict[str, Any]]:
        """Fields of `shots`, `borders` and `encode`, as a sandbox takes them."""
        return {name: getattr(self, name).model_dump() for name in ("shots", "borders", "encode")}

    @staticmethod
    def read(text: str) -> Settings:
        """Invert `model_dump_json`."""
        return _read(text)


@functools.lru_cache(maxsize=4)
def _read(text: str) -> Settings:
    return Settings.model_validate_json(text)
