"""A reward that `reel tune reward` made from people's choices."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from reelwright.annotate.backends.hub import device_of
from reelwright.annotate.backends.identity import model_id
from reelwright.annotate.backends.videos.patches import PictureError
from reelwright.annotate.contract import Resources, runtime
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video

_LOADING = threading.RLock()


@dataclass(frozen=True)
class Tuned(Reward):
    """One dimension of a tuned model, in deviations from the mean of the videos that it was measured on.

    What the model is shown, grey or not, and how it is asked, stands in its folder: as it was trained.

    Args:
        checkpoint: folder `model` of a run of `reel tune reward`; its content stands in the fingerprint, not its place.
        dimension: of its scores; empty where it has only one.
        dtype: to compute in; the head is float32.
        device: "auto" is the GPU that the process was given, or its CPU.
        batch: videos per call.
        gpus: of the process that holds the model.
    """

    checkpoint: str = runtime("")
    dimension: str = ""
    dtype: str = "bfloat16"
    device: str = runtime("auto")
    batch: int = runtime(4)
    gpus: float = runtime(1.0)

    name, version = "tuned", 1

    def __post_init__(self) -> None:
        from reelwright.training.tuning.scoring import read_settings

        if not self.checkpoint:
            raise ValueError("checkpoint is empty; set it to the folder model of a run of `reel tune reward`")
        if self.dtype not in ("bfloat16", "float32"):
            raise ValueError(f"dtype = {self.dtype!r}; it must be bfloat16 or float32")
        names = read_settings(Path(self.checkpoint)).dimensions
        if self.dimension not in names and (self.dimension or len(names) > 1):
            raise ValueError(f"dimension = {self.dimension!r}; {self.checkpoint} has {', '.join(names)}")

    @property
    def resources(self) -> Resources:
        """A process of its own, with a GPU unless told otherwise."""
        return Resources(gpus=self.gpus, batch=self.batch, own_process=True)

    @property
    def models(self) -> tuple[str, ...]:
        """The tuned model, by the content of its folder."""
        return (model_id(self.checkpoint),)

    def prepare(self) -> None:
        """Load the model, unless another reward of this process has."""
        self._scorer()

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Score videos one by one; all dimensions cost one pass, which rewards of one process share."""
        scorer = self._scorer()
        name = self.dimension or scorer.settings.dimensions[0]
        with _LOADING:
            return [_score(scorer, name, video) for video in videos]

    def _scorer(self) -> Any:
        with _LOADING:  # rewards are prepared and called in threads of their own
            return _load(self.checkpoint, self.dtype, device_of(self.device))


def _score(scorer: Any, dimension: str, video: Video) -> Score:
    try:
        return scorer(video.frames, video.rate, video.prompt)[dimension]
    except PictureError as error:
        return Unscored(f"tuned: {error}")


@cache
def _load(checkpoint: str, dtype: str, device: str) -> Any:
    from reelwright.training.tuning.scoring import VideoScorer

    return VideoScorer(Path(checkpoint), dtype, device)
