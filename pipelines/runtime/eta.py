"""When a run will be done, from work that is known to differ: films are weighed by their pictures, not counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENOUGH_SHARE, ENOUGH = 0.02, 3
"""Of the work, and files, before a time is named."""


class Eta:
    """The work of a run. A unit is one megapixel of a source, which is decoded twice and encoded once."""

    def __init__(self, files: int) -> None:
        """files: that are to be done."""
        self.files = files
        self.known = self.done = 0.0
        self.known_files = self.done_files = 0

    def learn(self, info: Mapping[str, Any] | None) -> float:
        """Note what a file holds once its headers are read; return its work."""
        work = _megapixels(info)
        self.known += work
        self.known_files += 1
        return work

    def finish(self, work: float) -> None:
        """Note that a file with this work is done."""
        self.done += work
        self.done_files += 1

    @property
    def total(self) -> float:
        """The work of all files; those that nothing is known of are taken for as large as the others."""
        unknown = max(0, self.files - self.known_files)
        return self.known + unknown * (self.known / self.known_files if self.known_files else 0.0)

    def seconds_left(self, elapsed_s: float) -> float | None:
        """Return the seconds until all is done at the pace so far; None while too little is done to say."""
        if self.done_files < ENOUGH or self.done <= ENOUGH_SHARE * self.total:
            return None
        return max(0.0, self.total - self.done) * elapsed_s / self.done


def _megapixels(info: Mapping[str, Any] | None) -> float:
    if not info:
        return 0.0
    if info.get("is_image"):  # it has no length
        return info["width"] * info["height"] / 1e6
    return float(info.get("duration_s") or 0) * float(info.get("fps") or 0) * info["width"] * info["height"] / 1e6
