"""The worker of an annotator that keeps a process of its own: it holds the model, or the connections to a server."""

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reelwright.annotate import Annotator, Failure, annotate_clips, load
from reelwright.annotate.chat.registry import take_usage, waiting_reason
from reelwright.annotate.contract import reads_video
from reelwright.annotate.results import Annotated, failed_annotators, plain_columns
from reelwright.annotate.run import failure_of
from reelwright.curation.credentials import use
from reelwright.curation.store import Store
from reelwright.curation.usage import Lap
from reelwright.pipelines.runtime.meter import Meter

DECODERS = 2  # threads of it that decode at once


class AnnotatorActor:
    """A Ray actor with threads: clips of the next call are decoded while this one's are computed."""

    def __init__(
        self,
        name: str,
        params: Mapping[str, Any],
        store_uri: str,
        producers: Mapping[str, str],
        keys: Mapping[str, str],
        credentials: Mapping[str, str],
        processes: int,
    ) -> None:
        self.refusal: Failure | None = None  # once it has one, nothing more is tried
        self.preparing, self.is_prepared = threading.Lock(), False
        try:
            use(credentials)
            os.environ.update(keys)
            found = load(name, params)
        except Exception as error:  # this node lacks variables or files that the driver has; no clip is to blame
            self.refusal = failure_of(name, error, postponed=True)
            return
        self.store, self.producers = Store(store_uri), producers
        assert isinstance(found, Annotator)
        self.annotator = found.per_process(processes)
        self.reads_video = reads_video(found)
        self.gate = threading.Semaphore(self.annotator.resources.calls)
        self.meter, self.looking = Meter(), threading.Lock()
        self.decoder = threading.Semaphore(DECODERS)

    def annotate(self, rows: Mapping[str, dict[str, Any]], clip_ids: Sequence[str]) -> list[Annotated]:
        """Annotate clips; the first result holds the usage of all since the last call, and what this process took."""
        began = time.monotonic()
        self._prepare()
        if self.refusal:
            return [Annotated(failures=failed_annotators([self.refusal]))] * len(clip_ids)
        mp4s: Sequence[bytes | None] = [None] * len(clip_ids)
        if self.reads_video:
            mp4s = [mp4 for _, mp4 in self.store.read_media(clip_ids)]
        clock: Counter[str] = Counter()
        done = annotate_clips(
            mp4s, [self.annotator], [rows[c] for c in clip_ids], self.producers, gate=lambda: self.gate,
            decoder=lambda: self.decoder, clock=clock,
        )  # fmt: skip
        self.refusal = next((f for _, failures in done for f in failures if f.postponed), self.refusal)
        share = {name: seconds / len(clip_ids) for name, seconds in clock.items()}
        results = [Annotated(plain_columns(columns), failed_annotators(failures), share) for columns, failures in done]
        with self.looking:
            took = Lap(1, time.monotonic() - began, self.meter.take())
        return [replace(results[0], usage=take_usage(self.annotator), took=took), *results[1:]]

    def waiting_reason(self) -> str:
        """Return the reason why the actor waits, its model or a server; empty while it does not."""
        if self.refusal:
            return ""
        return waiting_reason(self.annotator) if self.is_prepared else "its model is not loaded yet"

    def _prepare(self) -> None:
        with self.preparing:
            if self.refusal or self.is_prepared:
                return
            try:
                self.annotator.prepare()
            except Exception as error:
                self.refusal = failure_of(self.annotator.name, error, postponed=True)
            self.is_prepared = True
