"""Annotators that a package of somebody else's might bring."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from annotate.contract import Annotator, Column, Frames


@dataclass(frozen=True)
class Flaky(Annotator):
    """Fails while its switch (a file) is there."""

    switch: str = ""
    scale: float = 1.0

    name, version = "flaky", 1
    needs = Frames(count=1, height=32)
    columns = {"flaky_mean": Column(pa.float32(), "mean luma")}

    def __call__(self, frames: np.ndarray) -> dict[str, float]:
        if self.switch and Path(self.switch).exists():
            raise ValueError("not today")
        return {"flaky_mean": float(frames.mean() * self.scale)}


@dataclass(frozen=True)
class Deadly(Annotator):
    """Takes its process down on bright clips."""

    above: float = 110.0

    name, version = "deadly", 1
    needs = Frames(count=1, height=32)
    columns = {"deadly_mean": Column(pa.float32(), "mean luma")}

    def __call__(self, frames: np.ndarray) -> dict[str, float]:
        if frames.mean() > self.above:
            os.kill(os.getpid(), signal.SIGSEGV)
        return {"deadly_mean": float(frames.mean())}
