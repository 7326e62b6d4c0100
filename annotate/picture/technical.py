"""Facts of the encoded clip itself."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Facts
from reelwright.curation.media.frames import ClipFacts


class Technical(Annotator):
    """Facts of the encoded clip that its row does not hold yet; nothing is decoded."""

    name, version = "technical", 1
    profiles = ("cpu", "full")
    typical_s = 0.001
    needs = Facts()
    columns = {
        "bits_per_pixel": Column(
            pa.float32(), "size of the video stream over all its pixels: low is flat or starved", "bit"
        ),
        "keyframe_interval_s": Column(pa.float32(), "mean time between keyframes: what seeking into it costs", "s"),
        "has_audio": Column(pa.bool_(), "the clip has a sound track"),
    }

    def __call__(self, clip: ClipFacts) -> dict[str, Any]:
        """Return bits per pixel, the mean distance of keyframes in seconds, and whether there is sound."""
        pixels = clip.width * clip.height * clip.num_frames
        return {
            "bits_per_pixel": 8 * clip.video_bytes / pixels,
            "keyframe_interval_s": clip.num_frames / clip.fps / max(1, clip.num_keyframes),
            "has_audio": clip.has_audio,
        }
