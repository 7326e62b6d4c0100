"""Sources are probed ahead of those that are at work, and begun in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reelwright.curation.ingest.input_list import Queue
from reelwright.curation.ingest.inputs import Input
from reelwright.curation.results import Failed, Probed
from reelwright.pipelines.curate.sources import Source
from reelwright.pipelines.curate.work import probe_weight
from reelwright.pipelines.runtime.flow import Flow

PROBE_AHEAD = 256  # sources probed and not yet begun: dedup decides in order, and a slow file must not stop the rest


class Probing:
    """Sources on their way to their beginning; false once all have begun."""

    def __init__(self, todo: Sequence[Input], flow: Flow, *how: Any) -> None:
        """Probe nothing yet.

        Args:
            todo: the sources, in order.
            flow: the run's tasks.
            how: arguments of a probe beside the file.
        """
        self._flow, self._how = flow, how
        self._to_probe, self._to_begin = Queue(todo), Queue(todo)
        self._probed: dict[str, Source] = {}  # by uri, waiting for those before them

    def __bool__(self) -> bool:
        return bool(self._to_begin)

    def start(self) -> None:
        """Probe ahead, but not so far that sources pile up before the scan."""
        probes, scans = self._flow.wanted("probe"), self._flow.wanted("scan")
        ahead = PROBE_AHEAD + probes
        while (
            self._to_probe
            and len(self._probed) + self._flow.waiting("probe") < ahead
            and self._flow.waiting("probe") < probes
            and self._flow.waiting("scan") < scans
        ):
            item = self._to_probe.take()
            if item.refused:  # a manifest's row that names no file
                self.add(Source(item, Probed(failed=Failed("ingest", f"manifest: {item.refused}"))))
            else:
                self._flow.add("probe", Source(item), item.uri, *self._how, weight=probe_weight(item))

    def add(self, source: Source) -> None:
        """Take a source that was probed."""
        self._probed[source.item.uri] = source

    def in_order(self) -> Iterator[Source]:
        """Yield the sources that can begin, in order of uri, though they are probed in any order.

        Which duplicate survives then does not depend on which was read first.
        """
        while self._to_begin and self._to_begin.head.uri in self._probed:
            yield self._probed.pop(self._to_begin.take().uri)
