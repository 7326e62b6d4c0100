"""The worker of an evaluation: it keeps one model and makes its videos one by one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.errors import ReelError, first_line
from reelwright.pipelines.evaluate.models import Model

if TYPE_CHECKING:
    from reelwright.pipelines.generate.loaded import Loaded


@dataclass(frozen=True)
class Job:
    """One video that is wanted."""

    generation_id: str
    prompt: str
    task: str
    seed: int
    reference: Path | None = None


@dataclass(frozen=True)
class Made:
    """A video, or why there is none. about: how it was made, as its file says."""

    mp4: bytes = b""
    width: int = 0
    height: int = 0
    num_frames: int = 0
    fps: float = 0.0
    wall_s: float = 0.0
    about: dict[str, Any] | None = None
    error: str = ""


class Worker:
    """A Ray actor. Its model is loaded at the first call."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._loaded: Loaded | None = None

    def check(self) -> str:
        """Load the model, and return the reason if it cannot be; else an empty text."""
        try:
            self._load()
        except Exception as error:  # whatever it is, no video can be made, and the run must say so at once
            return f"{self.model.name} cannot be loaded: {first_line(error)}"
        return ""

    def make(self, job: Job, ids: Sequence[str]) -> Made:
        """Make a video. ids: the generation's own, for whom work is handed out."""
        began = time.monotonic()
        try:
            return self._make(job, began)
        except Exception as error:  # the video's own: a failure is a row, and no end of the run
            said = first_line(error)
            return Made(error=said if isinstance(error, ReelError) else f"{type(error).__name__}: {said}",
                        wall_s=time.monotonic() - began)  # fmt: skip

    def _make(self, job: Job, began: float) -> Made:
        from reelwright.curation.media.frames import read
        from reelwright.model.sampling.video_file import read_about
        from reelwright.pipelines.generate.initial import Beginning
        from reelwright.pipelines.generate.run import Request, generate

        settings, model = self.model.settings[job.task], self.model
        begins = {"i2v": Beginning(image=job.reference), "vc": Beginning(video=job.reference)}
        initial = begins[job.task].read(settings, model.fps) if job.task in begins else None
        with tempfile.TemporaryDirectory(prefix="reel-evaluate-") as folder:
            request = Request(
                prompts=[[job.prompt]] * model.segments,
                seeds=[job.seed],
                settings=settings,
                out=Path(folder) / "video.mp4",
                fps=model.fps,
                segments=model.segments,
                initial=initial,
            )
            [file] = generate(self._load(), request)
            mp4, about = file.read_bytes(), read_about(file)
        facts, _ = read(mp4)
        return Made(mp4, facts.width, facts.height, facts.num_frames, facts.fps, time.monotonic() - began, about)

    def _load(self) -> Loaded:
        from reelwright.pipelines.generate.run import find_source, load

        if self._loaded is None:
            self._loaded = load(find_source(self.model.path), self.model.options)
        return self._loaded
