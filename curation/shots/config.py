"""Settings of shot detection."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ShotConfig(BaseModel):
    """Which detector finds the shots of a source, and how sure it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: Literal["cascade", "pyscenedetect", "transnetv2"] = Field(
        default="cascade",
        description="cascade: physical tests, and TransNet V2 where they leave a doubt. transnetv2: that network over "
        "every frame. pyscenedetect: AdaptiveDetector, which needs no network and finds hard cuts only",
    )
    cascade_threshold: float = Field(
        default=0.35, gt=0, lt=1, description="network score, 0 to 1, that settles a doubtful gradual transition"
    )
    transnetv2_threshold: float = Field(
        default=0.5, gt=0, lt=1, description="network score, 0 to 1, of a transition's frames"
    )
    adaptive_threshold: float = Field(
        default=3.0, gt=0, description="times the content change of the frames around, for pyscenedetect"
    )
    min_shot_frames: int = Field(default=15, ge=1, description="shortest shot in frames, for pyscenedetect")
