"""Copies of remote inputs on the machines of a run: where they are named, and how they go when it ends."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable
from typing import Any

from reelwright.curation.ingest.inputs import Input
from reelwright.curation.limits import Limits
from reelwright.pipelines.curate.workers import tasks

CLEARED_WITHIN_S = 10.0
"""Machines that are busy for longer keep their copies until a later run finds them a day old."""


class Copies:
    """The copies that one run keeps. A run without remote inputs, or without room for copies, has none."""

    def __init__(self, limits: Limits, files: Iterable[Input]) -> None:
        self.max_bytes = limits.input_cache_mib << 20
        wanted = self.max_bytes and any("://" in item.uri for item in files)
        self.fields: dict[str, Any] | None = (
            {"run": uuid.uuid4().hex, "max_bytes": self.max_bytes} if wanted else None
        )

    def clear(self) -> None:
        """Delete them on every machine of the cluster."""
        if self.fields is None:
            return
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        with contextlib.suppress(ray.exceptions.RayError, RuntimeError):  # a machine that is lost has lost its disk too
            clear = ray.remote(tasks.clear_inputs)
            refs = []
            for node in (node["NodeID"] for node in ray.nodes() if node["Alive"]):
                there = NodeAffinitySchedulingStrategy(node, soft=False)
                refs.append(clear.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(self.fields))
            ray.wait(refs, num_returns=len(refs), timeout=CLEARED_WITHIN_S)
