"""Reports the reasons why an annotator's processes wait: a run that stands still must say why."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

LOOK_S = 5.0  # between questions to an actor


class Watch:
    """Asks the actors now and then, without waiting for them, and prints new reasons."""

    def __init__(self, name: str) -> None:
        self.name, self.said = name, ""
        self._asked_at, self._asking = time.monotonic(), list[Any]()

    def look(self, actors: Sequence[Any]) -> None:
        """Ask the actors now and then why they wait, without waiting for the answer, and print a new reason."""
        import ray

        if not self._asking and time.monotonic() - self._asked_at >= LOOK_S:
            self._asking = [actor.waiting_reason.remote() for actor in actors]
            self._asked_at = time.monotonic()
            return
        ready, self._asking = ray.wait(self._asking, timeout=0) if self._asking else ([], [])
        for ref in ready:
            try:
                self._say(ray.get(ref))
            except ray.exceptions.RayError:  # that actor is lost, which its work will tell
                continue

    def _say(self, reason: str) -> None:
        if reason and reason != self.said:
            print(f"{self.name} waits: {reason}", file=sys.stderr, flush=True)
            self.said = reason
