"""Which inputs need nothing, found for tens of thousands at a time: the others are looked at one by one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.ingest.inputs import Input
from reelwright.curation.store.known_sources import DUPLICATE, FAILED, NO_TIME, OK, STATES, KnownSources

AT_ONCE = 65_536
NEW = -1


@dataclass
class Settled:
    """Counts of inputs that are settled: what the store says of them holds, and this run does nothing for them.

    Args:
        known: the store's sources.
        retry_failed: no failed file is settled.
        recut: no file is that was cut by other settings.
        keep_ids: no duplicate is.
        done_before: by state.
        no_clip: sources that are ok and gave no clip, by the reason.
        cut_otherwise: sources that are ok and were cut by other settings.
    """

    known: KnownSources
    retry_failed: bool
    recut: bool
    keep_ids: bool
    done_before: Counter[str] = field(default_factory=Counter)
    no_clip: Counter[str] = field(default_factory=Counter)
    cut_otherwise: int = 0

    def __post_init__(self) -> None:
        self._is_open = self.known.is_unsure.copy()
        self._is_done = np.zeros(self.known.count, bool)

    def leave(self, md5s: Collection[str], uris: Collection[str]) -> None:
        """Let none of these be settled: MD5s of sources that lack clips, addresses of files that could not be read."""
        for md5 in md5s:
            self._is_open[self.known.with_md5(md5)] = True
        for uri in uris:
            self._is_open[self.known.with_uri(uri)] = True

    def others(self, files: Sequence[Input]) -> Iterator[tuple[Input, int]]:
        """Count the inputs that are settled; yield each other in order, with the place of a row of it, or NEW."""
        for start in range(0, len(files), AT_ONCE):
            yield from self._others(files[start : start + AT_ONCE])

    def is_done(self, md5: str) -> bool:
        """Return whether a source that is ok and settled has this MD5."""
        return bool(self._is_done[self.known.with_md5(md5)].any())

    def _others(self, files: Sequence[Input]) -> Iterator[tuple[Input, int]]:
        uris = pa.array([item.uri for item in files], pa.string())
        places = self.known.find(uris)
        settled = np.zeros(len(files), bool)
        there = np.flatnonzero(places != NEW)
        settled[there] = self._may_be_settled(files, uris, there, places[there])
        self._look(files, places, settled)
        self._count(places[settled])
        for n in np.flatnonzero(~settled).tolist():
            yield files[n], int(places[n])

    def _may_be_settled(
        self, files: Sequence[Input], uris: pa.Array, there: np.ndarray, places: np.ndarray
    ) -> np.ndarray:
        """Return bool [M]: what the table and the inputs say. there, places: int64 [M], of inputs that are known."""
        known, state = self.known, self.known.state[places]
        some = [files[n] for n in there]
        lists = np.array([bool(item.spans or item.refused or len(item.captions) > 1) for item in some], bool)
        captions = known.caption_keys(pa.array([item.caption for item in some], pa.string()))
        is_told = captions != 0
        told_otherwise = is_told & ((captions != known.caption_key[places]) | known.has_lists[places])
        open_ = self._is_open[places] | lists | (told_otherwise & (state == OK))
        open_ |= (state == FAILED) & self.retry_failed
        open_ |= (state == DUPLICATE) & self.keep_ids
        open_ |= (state == OK) & known.is_otherwise[places] & self.recut
        if len(known.mtime_ns):  # of a file on a disk whose time is not known
            local = ~pc.match_substring(uris.take(pa.array(there)), "://").to_numpy(zero_copy_only=False)
            open_ |= local & (known.mtime_ns[places] == NO_TIME)
        return np.asarray(~open_)

    def _look(self, files: Sequence[Input], places: np.ndarray, settled: np.ndarray) -> None:
        """Unsettle local files whose size or time changed, and those that are gone."""
        if not len(self.known.mtime_ns):
            return
        known = np.flatnonzero(settled)
        known = known[self.known.mtime_ns[places[known]] != NO_TIME]
        sizes, times = (v[places[known]].tolist() for v in (self.known.num_bytes, self.known.mtime_ns))
        was = zip(sizes, times, strict=True)
        for n, before in zip(known.tolist(), was, strict=True):
            try:
                status = os.stat(files[n].uri)
            except OSError:
                settled[n] = False
                continue
            settled[n] = (status.st_size, status.st_mtime_ns) == before

    def _count(self, places: np.ndarray) -> None:
        state, reason = self.known.state[places], self.known.reason[places]
        self.done_before.update(dict(zip(STATES, np.bincount(state, minlength=len(STATES)).tolist(), strict=True)))
        ok = places[state == OK]
        self._is_done[ok] = True
        self.cut_otherwise += int(self.known.is_otherwise[ok].sum())
        counts = np.bincount(reason[reason >= 0], minlength=len(self.known.reasons)).tolist()
        self.no_clip.update({why: n for why, n in zip(self.known.reasons, counts, strict=True) if n})
