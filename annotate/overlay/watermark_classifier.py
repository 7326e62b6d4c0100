"""Watermarks, by an image classifier that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.backends.classifier import Classifier, ImageClassifier
from reelwright.annotate.contract import Annotator, Column, Frames, Resources, runtime

UNNAMED = ImageClassifier()


@dataclass(frozen=True)
class WatermarkClassifier(Annotator):
    """Mean over frames of the probability that a checkpoint gives to its class for pictures with a watermark.

    Args:
        classifier: the checkpoint, and the name of that class.
        frames: per clip.
        height: pixels of a frame's shorter side, before the checkpoint's own preprocessing.
        gpus: of the process that holds the model; 0 runs it on the CPU.
    """

    classifier: ImageClassifier = UNNAMED
    frames: int = 5
    height: int = 448
    gpus: float = runtime(0.0)

    name, version = "watermark_classifier", 1
    columns = {
        "watermark_classifier_score": Column(pa.float32(), "mean probability of a watermark, by the recipe's model")
    }

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"watermark_classifier: frames = {self.frames}; it must be at least 1")

    @property
    def needs(self) -> Frames:
        """Frames in colour, at the height that the classifier takes."""
        return Frames(count=self.frames, height=self.height, color="rgb")

    @property
    def models(self) -> tuple[str, ...]:
        """The classifier."""
        return (self.classifier.id,)

    @property
    def resources(self) -> Resources:
        """One process per classifier, in batches of 8 clips."""
        return Resources(gpus=self.gpus, batch=8, own_process=True)

    @cached_property
    def _classify(self) -> Classifier:
        return Classifier(self.classifier)

    def __call__(self, frames: np.ndarray) -> dict[str, Any]:
        """frames: uint8 [T, H, W, 3]."""
        return self.batch([(frames,)])[0]

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any]]:
        """Score each clip by the mean over its frames."""
        found = self._classify([frame for (clip,) in clips for frame in clip])
        ends = np.cumsum([len(clip) for (clip,) in clips])
        return [{"watermark_classifier_score": float(part.mean())} for part in np.split(found, ends[:-1])]
