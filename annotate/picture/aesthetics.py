"""How beautiful people would find a clip: LAION's predictor over CLIP embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from reelwright.annotate.backends.aesthetic_head import AestheticHead, HeadFile
from reelwright.annotate.backends.clip_encoder import VIT_L_14, ClipEncoder, ClipModel
from reelwright.annotate.contract import Annotator, Column, Frames, Resources, runtime

_POOL: dict[str, Callable[..., Any]] = {"mean": np.mean, "median": np.median, "max": np.max}
SAC_LOGOS_AVA = HeadFile()


@dataclass(frozen=True)
class Aesthetics(Annotator):
    """LAION-Aesthetics predictor V2 (Schuhmann, 2022), trained on ratings from 1 to 10.

    Its layers lie over the unit CLIP ViT-L/14 embedding of a frame. Frames are scored one by one, then pooled.

    Args:
        clip: the encoder, the one that the head was trained over.
        head: the layers.
        frames: per clip.
        pool: of the frames' scores.
        gpus: of the process that holds the model; 0 runs it on the CPU.
    """

    clip: ClipModel = VIT_L_14
    head: HeadFile = SAC_LOGOS_AVA
    frames: int = 5
    pool: Literal["mean", "median", "max"] = "mean"
    gpus: float = runtime(0.0)

    name, version = "aesthetics", 1
    profiles = ("full",)
    columns = {"aesthetic_score": Column(pa.float32(), "LAION aesthetics predictor, pooled over frames", "1 to 10")}

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"aesthetics: frames = {self.frames}; it must be at least 1")

    @property
    def needs(self) -> Frames:
        """Frames in colour."""
        return Frames(count=self.frames, height=448, color="rgb")  # twice the model's size: it scales by itself

    @property
    def models(self) -> tuple[str, ...]:
        """The encoder and the head."""
        return (self.clip.id, self.head.id)

    @property
    def resources(self) -> Resources:
        """One process per encoder, in batches of 8 clips."""
        return Resources(gpus=self.gpus, batch=8, own_process=True)

    @cached_property
    def _encoder(self) -> ClipEncoder:
        return ClipEncoder(self.clip)

    @cached_property
    def _head(self) -> AestheticHead:
        return self.head.load(self.clip.dim)

    def __call__(self, frames: np.ndarray) -> dict[str, Any]:
        """frames: uint8 [T, H, W, 3]."""
        return self.batch([(frames,)])[0]

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any]]:
        """Score the frames of each clip, and pool."""
        head = self._head  # first: its faults are reported before the large model is loaded
        scores = head(self._encoder.embed_images([frame for (clip,) in clips for frame in clip]))
        ends = np.cumsum([len(clip) for (clip,) in clips])
        return [{"aesthetic_score": float(_POOL[self.pool](part))} for part in np.split(scores, ends[:-1])]
