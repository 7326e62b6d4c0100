"""Annotators that a package of somebody else's might bring."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import (
    Annotator,
    Column,
    Facts,
    Frames,
    PartialResult,
    Postponed,
    Resources,
    SetAnnotator,
    Stored,
    Unmeasurable,
    runtime,
)
from reelwright.annotate.errors import AnnotatorError
from reelwright.curation.media.frames import ClipFacts

SAMPLES = ("Narrow", "Flaky", "Deadly", "Loud", "Lonely", "Ranked")


class Narrow(Annotator):
    """Finds nothing to measure in wide pictures, and fails on tall ones."""

    name, version = "narrow", 1
    needs = (Facts(), Frames(count=1, height=16))
    columns = {"narrow_width": Column(pa.float32(), "width", "px"), "narrow_words": Column(pa.string(), "in words")}

    def __call__(self, facts: ClipFacts, frames: np.ndarray) -> dict[str, Any]:
        if facts.width > 4 * facts.height:
            raise Unmeasurable(f"a frame of {facts.width}x{facts.height} is no picture")
        if facts.height > facts.width:
            raise ValueError("not a tall one")
        return {"narrow_width": float(facts.width), "narrow_words": str(facts.width)}


@dataclass(frozen=True)
class Flaky(Annotator):
    """Fails while its switch (a file) is there, and cannot be loaded without its model (another), if it names one."""

    switch: str = ""
    scale: float = 1.0
    model: str = runtime("")

    name, version = "flaky", 1
    needs = Frames(count=1, height=32)
    columns = {"flaky_mean": Column(pa.float32(), "mean luma")}

    def __call__(self, frames: np.ndarray) -> dict[str, float]:
        _load(self.model)
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


class Loud(Annotator):
    """Says what another annotator measured; looks at no clip."""

    name, version = "loud", 1
    needs = (Stored("flaky_mean"), Stored("source_caption", optional=True))
    columns = {"loud_words": Column(pa.string(), "the mean luma, in words")}

    def __call__(self, mean: float, caption: str | None) -> dict[str, str]:
        return {"loud_words": f"{mean:.1f}! {caption or ''}"}


@dataclass(frozen=True)
class Lonely(Annotator):
    """Keeps a process of its own; refuses clips brighter than `above`, is away while its switch is there, cannot be
    loaded without its model (a file), and wants a key in the environment, if it names one."""

    above: float = 1000.0
    away: str = runtime("")
    model: str = runtime("")
    key: str = runtime("")
    batch_size: int = runtime(2)
    pause_s: float = runtime(0.0)

    name, version = "lonely", 1
    needs = (Frames(count=2, height=32), Stored("flaky_mean", optional=True))
    columns = {
        "lonely_pair": Column(pa.list_(pa.float32(), 2), "mean luma of two frames"),
        "lonely_pid": Column(pa.int64(), "the process"),
    }

    @property
    def resources(self) -> Resources:
        return Resources(cpus=0.5, batch=self.batch_size, own_process=True, calls=2)

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,) if self.key else ()

    def __call__(self, frames: np.ndarray, mean: float | None) -> dict:
        return self.batch([(frames, mean)])[0]

    def batch(self, clips: list[tuple]) -> list[dict | Exception]:
        if self.away and Path(self.away).exists():
            raise Postponed("the server is away")
        _load(self.model)
        if self.key and not os.environ[self.key]:
            raise ValueError("no key")
        time.sleep(self.pause_s)
        return [self._one(frames) for frames, _ in clips]

    def _one(self, frames: np.ndarray) -> dict | Exception:
        if frames.mean() > self.above:
            return ValueError("too bright")
        pair = frames.reshape(len(frames), -1).mean(axis=1).astype(np.float32)
        return {"lonely_pair": np.resize(pair, 2), "lonely_pid": os.getpid()}


def _load(model: str) -> None:
    """Notes each try beside where the model should be."""
    if model and not Path(model).exists():
        with open(f"{model}.tries", "a") as tries:
            tries.write("!")
        raise AnnotatorError(f"the model {model} is missing; download it")


@dataclass(frozen=True)
class Ranked(SetAnnotator):
    """The place of each clip among all; of none but the darkest while its switch is there."""

    fail: bool = False
    model: str = runtime("")
    switch: str = runtime("")

    name, version = "ranked", 1
    needs = Stored("flaky_mean")
    columns = {"ranked_place": Column(pa.int32(), "place by mean luma"), "ranked_calls": Column(pa.int32(), "calls")}

    def __call__(self, clips: pa.Table, state: dict | None) -> tuple[dict, dict]:
        _load(self.model)
        if self.fail:
            raise ValueError("no ranking today")
        calls = (state or {"calls": 0})["calls"] + 1
        order = np.argsort(np.argsort(clips.column("flaky_mean").to_numpy()))
        found, state = {"ranked_place": order, "ranked_calls": [calls] * len(order)}, {"calls": calls}
        if self.switch and Path(self.switch).exists():
            darkest = [0 if place == 0 else None for place in order]
            why = Postponed("away") if Path(self.switch).read_text() else ValueError("dark")
            raise PartialResult(found | {"ranked_place": darkest}, state) from why
        return found, state
