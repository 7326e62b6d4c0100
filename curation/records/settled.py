"""Which inputs need nothing, found for tens of thousands at a time: the others are looked at one by one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.ingest.input_list import InputList
from reelwright.curation.ingest.inputs import Input
from reelwright.curation.store.known_sources import DUPLICATE, FAILED, NO_TIME, OK, STATES, KnownSources

AT_ONCE = 262_144
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

    def sort(self, files: InputList) -> tuple[np.ndarray, list[int]]:
        """Count the inputs that are settled; return the numbers of new ones, and of those to be looked at."""
        told = np.array(sorted(files.told), np.int64)
        new, others = [np.zeros(0, np.int64)], list[int]()
        for start in range(0, len(files), AT_ONCE):
            uris = files.uris(start, min(start + AT_ONCE, len(files)))
            first, last = np.searchsorted(told, [start, start + len(uris)])
            places, settled = self._sort(files, start, uris, told[first:last] - start)
            new.append(start + np.flatnonzero(places == NEW))
            others += (start + np.flatnonzero((places != NEW) & ~settled)).tolist()
        return np.concatenate(new), others

    def is_done(self, md5: str) -> bool:
        """Return whether a source that is ok and settled has this MD5."""
        return bool(self._is_done[self.known.with_md5(md5)].any())

    def _sort(self, files: InputList, start: int, uris: pa.Array, told: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of inputs from `start` on, and whether they are settled.

        uris: their addresses. told: int64, which of them say more than an address.
        """
        places = self.known.find(uris)
        settled = self._may_be_settled(uris, places)
        some = told[settled[told]]
        settled[some] = ~self._says_more([files.told[start + n] for n in some.tolist()], places[some])
        self._look(uris, places, settled)
        self._count(places[settled])
        return places, settled

    def _may_be_settled(self, uris: pa.Array, places: np.ndarray) -> np.ndarray:
        """Return bool [N]: what the table says of inputs. places: int64 [N]."""
        known, there = self.known, places != NEW
        settled = np.zeros(len(places), bool)
        at = places[there]
        state = known.state[at]
        open_ = self._is_open[at]
        open_ |= (state == FAILED) & self.retry_failed
        open_ |= (state == DUPLICATE) & self.keep_ids
        open_ |= (state == OK) & known.is_otherwise[at] & self.recut
        if len(known.mtime_ns):  # of a file on a disk whose time is not known
            local = ~pc.match_substring(uris, "://").to_numpy(zero_copy_only=False)[there]
            open_ |= local & (known.mtime_ns[at] == NO_TIME)
        settled[there] = ~open_
        return settled

    def _says_more(self, inputs: Sequence[Input], places: np.ndarray) -> np.ndarray:
        """Return bool [M]: which inputs a manifest has parts of, several captions, or another than the store."""
        known = self.known
        lists = np.array([bool(item.spans or item.refused or len(item.captions) > 1) for item in inputs], bool)
        captions = known.caption_keys(pa.array([item.caption for item in inputs], pa.string()))
        otherwise = (captions != known.caption_key[places]) | known.has_lists[places]
        return np.asarray(lists | ((captions != 0) & otherwise & (known.state[places] == OK)))

    def _look(self, uris: pa.Array, places: np.ndarray, settled: np.ndarray) -> None:
        """Unsettle local files whose size or time changed, and those that are gone."""
        if not len(self.known.mtime_ns):
            return
        known = np.flatnonzero(settled)
        known = known[self.known.mtime_ns[places[known]] != NO_TIME]
        sizes, times = (v[places[known]].tolist() for v in (self.known.num_bytes, self.known.mtime_ns))
        names = uris.take(pa.array(known)).to_pylist()
        for n, uri, size, time_ns in zip(known.tolist(), names, sizes, times, strict=True):
            try:
                status = os.stat(uri)
            except OSError:
                settled[n] = False
                continue
            settled[n] = (status.st_size, status.st_mtime_ns) == (size, time_ns)

    def _count(self, places: np.ndarray) -> None:
        state, reason = self.known.state[places], self.known.reason[places]
        self.done_before.update(dict(zip(STATES, np.bincount(state, minlength=len(STATES)).tolist(), strict=True)))
        ok = places[state == OK]
        self._is_done[ok] = True
        self.cut_otherwise += int(self.known.is_otherwise[ok].sum())
        counts = np.bincount(reason[reason >= 0], minlength=len(self.known.reasons)).tolist()
        self.no_clip.update({why: n for why, n in zip(self.known.reasons, counts, strict=True) if n})
