"""What a run needs to know of each source, in 46 bytes: whether it is settled, by the key of its address."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.sorted_keys import KEY
from reelwright.curation.keys.sorter import Sorter
from reelwright.curation.store.known_said import is_valid, said_of
from reelwright.curation.store.known_words import Words

READ = ("uri", "md5", "source_id", "state", "duplicate_of", "cutting_fingerprint", "num_clips", "no_clip_reason",
        "caption", "captions", "spans", "mtime_ns", "bytes")  # fmt: skip
OK, DUPLICATE, FAILED = range(3)
STATES = ("ok", "duplicate", "failed")
STATE, LOCAL, SPANS, BESIDE, UNSURE = 3, 4, 8, 16, 32
"""Bits of `flags`: the state; a file on a disk; parts of it alone; a duplicate of a file on a disk; a source that is
looked at each time."""
URIS = np.dtype([*KEY, ("row", "<u8"), ("extra", "<u8"), ("stamp", "<u8"), ("cutting", "<u2"), ("reason", "<u2"),
                 ("flags", "<u2")])  # fmt: skip
"""extra: of a source that is ok, the key of its captions and parts (`said_keys`); of a duplicate, half its survivor's.
stamp: size and time of a local file, 0 where its time is not known. cutting, reason: numbers in `Words`; cutting: of
the settings, whatever the parts."""
ROWS = np.dtype([*KEY, ("row", "<u8"), ("state", "u1")])
KINDS = {"uris": URIS, "md5s": ROWS, "ids": ROWS, "failed": ROWS}
NO_TIME = -1
UNREASONED = "no reason recorded"
SIZE_FACTOR, TIME_FACTOR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


class Records:
    """Records of rows of `sources`, for sorting. cuttings, reasons: words so far; new ones are added."""

    def __init__(self, cuttings: Words, reasons: Words) -> None:
        self.cuttings, self.reasons, self._hash = cuttings, reasons, Hasher()
        self.sorters = {name: Sorter(kind) for name, kind in KINDS.items()}

    def add(self, rows: Any, ids: np.ndarray) -> None:
        """Take rows, with the columns READ. ids: uint64 [N], of the rows."""
        column = {name: rows.column(name) for name in READ}
        states = pc.index_in(column["state"], pa.array(STATES)).to_numpy(zero_copy_only=False).astype(np.uint8)
        known = is_valid(column["md5"])
        own = _bools(pc.not_equal(column["source_id"], column["uri"]))
        for name, texts, which in (("md5s", column["md5"], known), ("ids", column["source_id"], own)):
            self.sorters[name].add(self._rows(self._hash(texts.filter(pa.array(which))), ids[which], states[which]))
        records = self._uris(column, ids, states)
        self.sorters["uris"].add(records)
        failed = records.compress(states == FAILED)
        keys = failed["upper"], failed["lower"]
        self.sorters["failed"].add(self._rows(keys, failed["row"], states[states == FAILED]))

    def _rows(self, keys: tuple[np.ndarray, np.ndarray], ids: np.ndarray, states: np.ndarray) -> np.ndarray:
        found = np.empty(len(ids), ROWS)
        found["upper"], found["lower"] = keys
        found["row"], found["state"] = ids, states
        return found

    def _uris(self, column: dict[str, Any], ids: np.ndarray, states: np.ndarray) -> np.ndarray:
        found = np.empty(len(ids), URIS)
        found["upper"], found["lower"] = self._hash(column["uri"])
        found["row"] = ids
        said = said_of(self._hash, column, states == OK, self.cuttings)
        found["cutting"] = said.cuttings
        none = (states == OK) & _bools(pc.equal(column["num_clips"], 0))
        why = pc.if_else(pa.array(none), pc.fill_null(column["no_clip_reason"], UNREASONED), None)
        found["reason"] = self.reasons.numbers(why)
        found["extra"] = said.keys
        repeats = states == DUPLICATE
        found["extra"][repeats] = text_keys(self._hash, column["duplicate_of"].filter(pa.array(repeats)))
        local = is_local(column["uri"])
        given = (pc.fill_null(column[name], NO_TIME).to_numpy(zero_copy_only=False) for name in ("bytes", "mtime_ns"))
        found["stamp"] = np.where(local & is_valid(column["mtime_ns"]), stamps(*given), 0)
        late = (found["cutting"] == Words.OTHERS) | (found["reason"] == Words.OTHERS)
        beside = repeats & is_local(column["duplicate_of"])
        found["flags"] = states + LOCAL * local + SPANS * said.are_parts + BESIDE * beside + UNSURE * late
        return found


def state_of(records: np.ndarray) -> np.ndarray:
    """Return uint8 [N]: OK, DUPLICATE or FAILED, of URIS or ROWS records."""
    return records["state"] if records.dtype == ROWS else (records["flags"] & STATE).astype(np.uint8)


def text_keys(hasher: Hasher, texts: pa.Array) -> np.ndarray:
    """Return uint64 [N]: half a key, equal for equal texts; 0 for none."""
    known = is_valid(texts)
    keys = np.zeros(len(texts), np.uint64)
    if known.any():
        keys[known] = hasher(texts.filter(pa.array(known)))[0]
    return keys


def stamps(sizes: Any, times: Any) -> np.ndarray:
    """Return uint64 [N], never 0: what tells files of another size or time apart."""
    sizes, times = (np.asarray(v, np.int64).view(np.uint64) for v in (sizes, times))
    return np.maximum(sizes * SIZE_FACTOR + times * TIME_FACTOR, np.uint64(1))


def is_local(uris: pa.Array) -> np.ndarray:
    """Return bool [N]: whether an address is one on a disk; so is none at all."""
    return ~_bools(pc.match_substring(uris, "://"))


def _bools(values: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False))
