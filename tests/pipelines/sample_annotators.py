"""Annotators that a package of somebody else's might bring."""

import os
import signal
import time
from collections.abc import Iterable, Mapping
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
    StreamedSetAnnotator,
    Unmeasurable,
    runtime,
)
from reelwright.annotate.errors import AnnotatorError
from reelwright.annotate.per_batch import PerBatch
from reelwright.annotate.set_reader import ClipReader
from reelwright.curation.media.frames import ClipFacts

SAMPLES = ("Narrow", "Flaky", "Deadly", "Loud", "Lonely", "Ranked", "Doubled")


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


@dataclass(frozen=True)
class Doubled(StreamedSetAnnotator):
    """Twice the width of each clip, and who computed it; state: the number of calls. trouble: see `Doubling`."""

    trouble: str = runtime("")

    name, version = "doubled", 1
    needs = Stored("width")
    columns = {
        "doubled_width": Column(pa.int64(), "twice the width"),
        "doubled_by": Column(pa.string(), "node and process"),
    }

    def stream(self, clips: ClipReader, state: Any) -> tuple[Iterable[Mapping[str, Any]], Any]:
        return PerBatch(clips, ("width",), Doubling(self.trouble)), (state or 0) + 1


@dataclass(frozen=True)
class Doubling:
    """Doubles widths. It takes its process down on the clip of width 0 while the file `trouble` is there (once, if that
    says so), fails on it if that says `raise`, and waits there for another node if it is a folder."""

    trouble: str

    def __call__(self, clips: pa.Table) -> dict[str, Any]:
        widths, trouble = clips["width"].to_pylist(), Path(self.trouble)
        if self.trouble and trouble.is_dir():
            _meet(trouble)
        elif self.trouble and trouble.exists() and 0 in widths:
            how = trouble.read_text()
            if how == "raise":
                raise ValueError("no doubling today")
            if how == "once":
                trouble.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"doubled_width": [2 * width for width in widths], "doubled_by": [_here()] * len(widths)}


def _here() -> str:
    import ray

    return f"{ray.get_runtime_context().get_node_id()} {os.getpid()}"


def _meet(folder: Path, most_s: float = 120) -> None:
    (folder / _here().split()[0]).touch()
    ends = time.monotonic() + most_s
    while len(list(folder.iterdir())) < 2 and time.monotonic() < ends:
        time.sleep(0.05)
