"""The worker that measures generations: in a sandbox, or by a model that it keeps."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from reelwright.annotate.results import Annotated, joined
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.sandbox import Sandbox
from reelwright.curation.results import Failed
from reelwright.curation.store import Store
from reelwright.pipelines.evaluate.sandboxed import loaded, measure_all

Work = Sequence[tuple[str, Mapping[str, Any]]]
"""(name, parameters) of measures."""


class Measurer:
    """A Ray actor. limits: of a sandbox call, as a recipe's `limits` has them."""

    def __init__(self, store_uri: str, limits: Mapping[str, Any]) -> None:
        self.store, self.limits = Store(store_uri), limits
        self.sandbox = Sandbox(memory_bytes=limits["memory_mib"] << 20, stall_s=limits["stall_s"])

    def sandboxed(self, work: Work, ids: Sequence[str]) -> list[Annotated]:
        """Measure generations by measures that share a decode; one that takes the sandbox down costs its own."""
        with tempfile.TemporaryDirectory(prefix="reel-measure-") as folder:
            return [self._one(_laid_down(folder, mp4), work) for _, mp4 in self.store.read_generated(ids)]

    def kept(self, work: Work, ids: Sequence[str]) -> list[Annotated]:
        """Measure generations together by one measure with a model of its own, in this process."""
        [(name, params)] = work
        mp4s = [mp4 for _, mp4 in self.store.read_generated(ids)]
        return measure_all(mp4s, [loaded(name, dict(params))])

    def _one(self, path: str, work: Work) -> Annotated:
        try:
            function = "reelwright.pipelines.evaluate.sandboxed:measure_media"
            arguments = {"path": path, "measures": [list(one) for one in work]}
            reply = self.sandbox.call(function, arguments, max_s=self.limits["max_s"])
            return Annotated.from_json(reply.value)
        except MediaError as error:
            if len(work) == 1:
                return Annotated(failures=[Failed.by(work[0][0], error)])
        return joined([self._one(path, [one]) for one in work])


def _laid_down(folder: str, mp4: bytes) -> str:
    path = os.path.join(folder, "generation.mp4")
    with open(path, "wb") as file:
        file.write(mp4)
    return path
