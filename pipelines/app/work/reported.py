"""The report of the store, as `reel report` writes it, with links into the app: made again when a table has changed."""

from __future__ import annotations

import threading

from reelwright.curation.store import Store
from reelwright.pipelines.browse.report.links import AppLinks
from reelwright.pipelines.browse.report.page import render

OF_REPORT = ("sources", "shots", "clips", "failures", "runs", "snapshots")


class Reported:
    """The report's page.

    Args:
        store: that it is about.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._versions: tuple[int, ...] = ()
        self._page = b""

    def page(self) -> bytes:
        """Return the page."""
        with self._lock:
            versions = tuple(self._store.dataset(table).version for table in OF_REPORT)
            if versions != self._versions:
                self._page = render(self._store, links=AppLinks()).encode("utf-8", "replace")
                self._versions = versions
            return self._page
