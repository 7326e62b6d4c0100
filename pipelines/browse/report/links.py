"""Addresses of `reel app` that show what a chart, a clip or a row of the report is about."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from reelwright.curation.store.sql_text import literal
from reelwright.errors import UserError
from reelwright.pipelines.browse.report.facts import NOT_KNOWN
from reelwright.pipelines.browse.report.scores import Score

CLIP_ID = re.compile("[0-9a-f]{24}")


@dataclass(frozen=True)
class AppLinks:
    """Links into the app at an address.

    Args:
        base: such as http://127.0.0.1:8470; empty: the server that shows the page.
    """

    base: str = ""

    @classmethod
    def to(cls, address: str) -> AppLinks:
        """Return the links into the app at the address that it printed; its token is left out.

        Raises:
            UserError: that is no address.
        """
        try:
            parts = urlsplit(address)
            ok = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            ok = False
        if not ok:
            raise UserError(f"--app {address[:80]!r} is no address of a reel app; such as http://127.0.0.1:8470")
        return cls(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}")

    def clip(self, clip_id: str) -> str:
        """Return the page of one clip."""
        return self._to("/", clip=clip_id)

    def column(self, column: str) -> str:
        """Return the grid with a filter on a column, sorted by it."""
        return self._view({"sort": column}, facets=column)

    def bucket(self, score: Score, bucket: int) -> str:
        """Return the clips of one bar of a histogram; the outermost bars hold what lies beyond them."""
        low, high = (score.start + at * score.step for at in (bucket, bucket + 1))
        first = bucket == 0 and score.is_cut
        last = bucket == len(score.buckets) - 1
        bounds = [None if first else low, None if last else high]
        if bounds == [None, None]:
            return self.column(score.name)
        return self._view({"ranges": {score.name: bounds}, "sort": score.name}, facets=score.name)

    def word(self, column: str, value: str) -> str:
        """Return the clips with this value of a column."""
        return self._view({"values": {column: [None if value == NOT_KNOWN else value]}}, facets=column)

    def cluster(self, name: str) -> str:
        """Return the clips of a cluster."""
        return self.word("cluster_name", name)

    def failed(self, example: str) -> str:
        """Return what shows something that failed: a clip's page; of a file, the failures."""
        return self.clip(example) if CLIP_ID.fullmatch(example) else self.failures()

    def snapshot(self, name: str) -> str:
        """Return the clips of a snapshot, as they are now."""
        chosen = f"clip_id in (select clip_id from snapshot_rows where snapshot = {literal(name)})"
        return self._view({"where": chosen})

    def failures(self) -> str:
        """Return the failures, live."""
        return self._to("/runs", fragment="failures")

    def run(self, run_id: str) -> str:
        """Return one run."""
        return self._to(f"/runs/{quote(run_id, safe='')}")

    def runs(self) -> str:
        """Return the runs and the funnel, live."""
        return self._to("/runs")

    def _view(self, view: dict[str, Any], **more: str) -> str:
        return self._to("/", v=json.dumps(view, ensure_ascii=False), **more)

    def _to(self, path: str, *, fragment: str = "", **query: str) -> str:
        return self.base + path + (f"?{urlencode(query)}" if query else "") + (f"#{fragment}" if fragment else "")
