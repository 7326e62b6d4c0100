"""A clip's look as a vector: similar clips lie close together, and close to texts that describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.backends.clip_encoder import VIT_L_14, ClipEncoder, ClipModel
from reelwright.annotate.backends.identity import origin_of
from reelwright.annotate.contract import Annotator, Column, Frames, Resources, runtime


@dataclass(frozen=True)
class VisualEmbedding(Annotator):
    """Mean of the CLIP image embeddings of frames spread over the clip, each a unit vector, normalised again.

    Args:
        clip: the encoder.
        frames: per clip.
        gpus: of the process that holds the model; 0 runs it on the CPU.
    """

    clip: ClipModel = VIT_L_14
    frames: int = 8
    gpus: float = runtime(0.0)

    name, version = "visual_embedding", 1
    profiles = ("full",)

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"visual_embedding: frames = {self.frames}; it must be at least 1")

    @property
    def needs(self) -> Frames:
        """Frames in colour."""
        return Frames(count=self.frames, height=448, color="rgb")  # twice the model's size: it scales by itself

    @cached_property
    def columns(self) -> Mapping[str, Column]:
        """The embedding, as wide as the encoder makes it."""
        vector = pa.list_(pa.float32(), self.clip.dim)
        return {
            "visual_embedding": Column(vector, "mean CLIP image embedding of the clip's frames", "unit vector"),
            "visual_embedding_model": Column(pa.string(), "the model that made it: `reel search --visual` asks it too"),
        }

    @property
    def models(self) -> tuple[str, ...]:
        """The encoder."""
        return (self.clip.id,)

    @property
    def resources(self) -> Resources:
        """One process per encoder, in batches of 8 clips."""
        return Resources(gpus=self.gpus, batch=8, own_process=True)

    @cached_property
    def _encoder(self) -> ClipEncoder:
        return ClipEncoder(self.clip)

    def __call__(self, frames: np.ndarray) -> dict[str, Any]:
        """frames: uint8 [T, H, W, 3]."""
        return self.batch([(frames,)])[0]

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any]]:
        """Embed each clip as the mean of its frames' embeddings, made unit."""
        frames = [frame for (clip,) in clips for frame in clip]
        ends = np.cumsum([len(clip) for (clip,) in clips])
        parts = np.split(self._encoder.embed_images(frames), ends[:-1])
        model = origin_of(self.clip.model, self.clip.pinned)
        return [{"visual_embedding": _mean_direction(part), "visual_embedding_model": model} for part in parts]


def _mean_direction(vectors: np.ndarray) -> np.ndarray:
    """vectors: float32 [T, dim]."""
    mean = vectors.mean(axis=0)
    return mean / np.linalg.norm(mean)
