"""Figures of stages as Prometheus metrics, which Ray exports of each process where its metrics are on."""

from __future__ import annotations

from typing import Any

from reelwright.curation.usage import Lap

COUNTERS = {
    "reel_stage_tasks": "pieces of work that finished",
    "reel_stage_seconds": "seconds of tasks on workers",
    "reel_stage_wait_seconds": "seconds that tasks waited for a worker and for their data",
    "reel_stage_cpu_seconds": "seconds of CPU",
    "reel_input_bytes": "bytes read from remote inputs and stores",
    "reel_input_requests": "requests that read remote inputs and stores",
    "reel_output_bytes": "bytes written to remote stores",
    "reel_output_requests": "requests that write to remote stores",
}
PEAK, CLIPS = "reel_stage_peak_bytes", "reel_clips"


class Metrics:
    """The metrics of this process; the tag `stage` tells the stages apart."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge

        self.counters: dict[str, Any] = {
            name: Counter(name, description=meaning, tag_keys=("stage",)) for name, meaning in COUNTERS.items()
        }
        self.clips: Any = Counter(CLIPS, description="clips that were cut")
        self.peak: Any = Gauge(PEAK, description="largest resident memory of a stage's process", tag_keys=("stage",))
        self._peaks: dict[str, int] = {}

    def add(self, stage: str, lap: Lap, wait_s: float) -> None:
        """Count work of a stage that finished."""
        used = lap.used
        reads = used.requests - used.write_requests
        figures = (
            lap.count, lap.seconds, wait_s, used.cpu_s, used.bytes_in, reads, used.bytes_out, used.write_requests
        )  # fmt: skip
        for counter, figure in zip(self.counters.values(), figures, strict=True):
            if figure > 0:
                counter.inc(figure, tags={"stage": stage})
        if used.peak_bytes > self._peaks.get(stage, 0):
            self._peaks[stage] = used.peak_bytes
            self.peak.set(used.peak_bytes, tags={"stage": stage})

    def add_clips(self, count: int) -> None:
        """Count clips that were cut."""
        if count:
            self.clips.inc(count)
