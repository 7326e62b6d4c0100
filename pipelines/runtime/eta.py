"""When a run will be done, from work that is known to differ: films are weighed by their pictures, not counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENOUGH_SHARE, ENOUGH = 0.02, 3
"""Of the work, and pieces of it (files, and parts of long ones), before a time is named."""


class Eta:
    """The work of a run. A unit is one megapixel of a source, which is scanned, and cut in parts."""

    def __init__(self, files: int) -> None:
        """files: that are to be done."""
        self.files = files
        self.known = self.scanned = self.cut = 0.0
        self.known_files = self.done_files = self.pieces = 0

    def learn(self, info: Mapping[str, Any] | None) -> float:
        """Note what a file holds once its headers are read; return its work."""
        work = _megapixels(info)
        self.known += work
        self.known_files += 1
        return work

    def scan(self, work: float) -> None:
        """Note that a file with this work is scanned."""
        self.scanned += work

    def cut_part(self, work: float, share: float) -> None:
        """Note that this share of the clips is cut of a file with so much work."""
        self.cut += work * share
        self.pieces += 1

    def finish(self, work: float, *, is_scanned: bool = False, cut_share: float = 0.0) -> None:
        """Note that a file is done, of which so much was noted before."""
        self.scanned += 0.0 if is_scanned else work
        self.cut += work * max(0.0, 1.0 - cut_share)
        self.done_files += 1
        self.pieces += not cut_share

    @property
    def total(self) -> float:
        """The work of all files; those that nothing is known of are taken for as large as the others."""
        unknown = max(0, self.files - self.known_files)
        return self.known + unknown * (self.known / self.known_files if self.known_files else 0.0)

    def seconds_left(self, elapsed_s: float, scan_s: float = 0.0, cut_s: float = 0.0) -> float | None:
        """Return the seconds until all is done at the pace so far; None while too little is done to say.

        Args:
            elapsed_s: since the run began.
            scan_s: of workers, that the scans have taken.
            cut_s: likewise, the cuts. What the two took for their work says what share of a file's work a scan is.
        """
        scan_share = 0.5
        if scan_s and cut_s and self.scanned and self.cut:
            scan_share = scan_s / self.scanned / (scan_s / self.scanned + cut_s / self.cut)
        done = scan_share * self.scanned + (1 - scan_share) * self.cut
        if self.pieces < ENOUGH or done <= ENOUGH_SHARE * self.total:
            return None
        return max(0.0, self.total - done) * elapsed_s / done


def _megapixels(info: Mapping[str, Any] | None) -> float:
    if not info:
        return 0.0
    if info.get("is_image"):  # it has no length
        return info["width"] * info["height"] / 1e6
    return float(info.get("duration_s") or 0) * float(info.get("fps") or 0) * info["width"] * info["height"] / 1e6
