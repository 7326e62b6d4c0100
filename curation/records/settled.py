"""Which inputs need nothing, found for hundreds of thousands at a time: the others are looked at one by one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from reelwright.curation.ingest.listing import Listing
from reelwright.curation.keys.hashing import Hasher, halves
from reelwright.curation.keys.said import NEVER, NOTHING
from reelwright.curation.keys.sorted_keys import PARTS, match
from reelwright.curation.store.known_rows import (
    DUPLICATE,
    FAILED,
    LOCAL,
    OK,
    SPANS,
    STATES,
    stamps,
    state_of,
    text_keys,
)
from reelwright.curation.store.known_sources import KnownSources

NEW = -1


@dataclass
class Settled:
    """Counts of inputs that are settled: what the store says of them holds, and this run does nothing for them.

    Args:
        known: the store's sources.
        cutting: fingerprint of the settings that a source is cut by now.
        retry_failed: no failed file is settled.
        recut: no file is that was cut by other settings.
        keep_ids: no duplicate is.
        done_before: by state.
        no_clip: sources that are ok and gave no clip, by the reason.
        cut_otherwise: sources that are ok and were cut by other settings.
    """

    known: KnownSources
    cutting: str
    retry_failed: bool
    recut: bool
    keep_ids: bool
    done_before: Counter[str] = field(default_factory=Counter)
    no_clip: Counter[str] = field(default_factory=Counter)
    cut_otherwise: int = 0

    def __post_init__(self) -> None:
        self._open_rows, self._open_uris, self._watched = (np.zeros(0, np.uint64) for _ in range(3))
        self._done = set[int]()
        self._hash = Hasher()
        self._cutting = self.known.index.cuttings.number(self.cutting)

    def leave(self, md5s: Collection[str], uris: Collection[str]) -> None:
        """Let none of these be settled: MD5s of sources that lack clips, addresses of files that could not be read."""
        self._open_rows = self._rows_of(md5s)
        self._open_uris = np.sort(text_keys(self._hash, pa.array(list(uris), pa.string())))

    def watch(self, md5s: Collection[str]) -> None:
        """Remember which of these MD5s belong to a source that is settled: `is_done` will tell."""
        self._watched = self._rows_of(md5s)

    def is_done(self, md5: str) -> bool:
        """Return whether a source that is ok and settled has this MD5, one of those that are watched."""
        return any(row in self._done for row in self.known.good(md5).tolist())

    def sort(self, files: Listing) -> tuple[np.ndarray, np.ndarray]:
        """Count the inputs that are settled.

        Returns:
            bool, by an input's number, of those that are new; int64 [N], numbers of those to be looked at.
        """
        new, others = np.zeros(files.numbers, bool), [np.zeros(0, np.int64)]
        for part in range(PARTS):
            mine = files.part(part)
            if not len(mine):
                continue
            theirs = self.known.part(part)
            places = match(mine, theirs)
            there = places != NEW
            new[mine["number"][~there]] = True
            mine, places = mine.compress(there), places[there]
            unsure, theirs = self.known.are_unsure(theirs)[places], theirs.take(places)
            otherwise = self._are_cut_otherwise(mine, theirs)
            settled = ~unsure & self._settled(files, mine, theirs, otherwise)
            others.append(mine["number"][~settled])
            self._count(theirs.compress(settled), otherwise[settled])
        return new, np.concatenate(others)

    def _are_cut_otherwise(self, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """Return bool [N]: which sources that are ok were cut by other settings, or into parts that nobody asks for.

        Parts that an input does ask for are the same, where it is settled.
        """
        parts = (theirs["flags"] & SPANS != 0) & (mine["said"] == NOTHING)
        return np.asarray((state_of(theirs) == OK) & (parts | (theirs["cutting"] != self._cutting)))

    def _settled(self, files: Listing, mine: np.ndarray, theirs: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
        """Return bool [N]: which inputs are settled.

        Args:
            files: the inputs.
            mine: NAMED [N], of those that the store knows.
            theirs: URIS [N], the store's of each.
            otherwise: bool [N], of `_are_cut_otherwise`.
        """
        settled = ~(self._are_open(theirs) | self._say_more(mine, theirs))
        if self.recut:
            settled &= ~otherwise
        local = np.flatnonzero(settled & (theirs["stamp"] != 0))
        if len(local):
            settled[local] = _as_they_were(files.addresses(mine["number"][local]), theirs["stamp"][local])
        return settled

    def _are_open(self, records: np.ndarray) -> np.ndarray:
        """Return bool [N]: what the table says of sources that are looked at."""
        state = state_of(records)
        found = (records["flags"] & LOCAL != 0) & (records["stamp"] == 0)  # a file on a disk whose time is not known
        if self.retry_failed:
            found |= state == FAILED
        if self.keep_ids:
            found |= state == DUPLICATE
        return found | _among(records["row"], self._open_rows) | _among(records["upper"], self._open_uris)

    def _say_more(self, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """Return bool [N]: which inputs have captions or parts that the store has not, or cannot be used."""
        said = mine["said"]
        more = (said != NOTHING) & (said != theirs["extra"]) & (state_of(theirs) == OK)
        return np.asarray(more | (said == NEVER))

    def _count(self, records: np.ndarray, otherwise: np.ndarray) -> None:
        """Count inputs that are settled, by the store's records of them. otherwise: of `_are_cut_otherwise`."""
        state = state_of(records)
        self.done_before.update(dict(zip(STATES, np.bincount(state, minlength=len(STATES)).tolist(), strict=True)))
        self.cut_otherwise += int(otherwise.sum())
        rows = records["row"][state == OK]
        self._done.update(rows[_among(rows, self._watched)].tolist())
        counts = np.bincount(records["reason"]).tolist()
        self.no_clip.update({why: n for why, n in zip(self.known.index.reasons.texts, counts[1:], strict=False) if n})

    def _rows_of(self, md5s: Collection[str]) -> np.ndarray:
        found = [self.known.index.find("md5s", *halves(md5))["row"] for md5 in md5s]
        return np.unique(np.concatenate([np.zeros(0, np.uint64), *found]))


def _among(values: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Return bool [N]: which values are among some others, which are sorted."""
    if not len(some):
        return np.zeros(len(values), bool)
    return np.asarray(some[np.minimum(np.searchsorted(some, values), len(some) - 1)] == values)


def _as_they_were(paths: Sequence[str], known: np.ndarray) -> np.ndarray:
    """Return bool [N]: which local files are there, of the size and time that are known. known: `stamps`."""
    sizes, times, there = np.zeros(len(paths), np.int64), np.zeros(len(paths), np.int64), np.zeros(len(paths), bool)
    for n, path in enumerate(paths):
        try:
            status = os.stat(path)
        except OSError:
            continue
        sizes[n], times[n], there[n] = status.st_size, status.st_mtime_ns, True
    return there & (stamps(sizes, times) == known)
