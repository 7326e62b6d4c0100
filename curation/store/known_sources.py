"""The sources of a store at one version, found by address, MD5 and id without being held: sorted hashes and places.

A place is a row's position in the table at that version. Per source there are 64 bytes in memory, or 16 more for a
local file's size and time, and 24 for a publisher's id; a row is read from the table when it is asked for.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.store import datasets
from reelwright.curation.store.connection import Connection

READ = ("uri", "md5", "source_id", "state", "duplicate_of", "cutting_fingerprint", "num_clips", "no_clip_reason",
        "caption", "captions", "spans", "mtime_ns", "bytes")  # fmt: skip
OK, DUPLICATE, FAILED = range(3)
STATES = ("ok", "duplicate", "failed")
NO_TIME = -1
BATCH_ROWS = 262_144
ROWS_A_READ = 10_000
NOWHERE = np.zeros(0, np.uint32)
HASH_DIGITS = 32
IS_HASH = re.compile(f"[0-9a-f]{{{HASH_DIGITS}}}")
DIGIT = np.full(256, 255, np.uint8)
DIGIT[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
UNREASONED = "no reason recorded"


class KnownSources:
    """Read the table once, by batches.

    Args:
        store: has it.
        columns: of the rows that `rows` returns.
        cutting: fingerprint of the settings that a source is cut by now.

    Attributes, one value per place:
        state: of OK, DUPLICATE, FAILED.
        is_otherwise: whether it was cut by other settings.
        reason: number in `reasons` of why it is ok and gave no clip; -1 for others.
        caption_key: hash of its caption; 0 for none.
        has_lists: whether it has several captions, or spans.
        mtime_ns, num_bytes: of a local file; NO_TIME where nothing is known.
        is_unsure: whether a row says less than it seems: its address has several, or it repeats a file that failed, or
            one on a disk, which may be gone.
        several: places of rows whose address has several.
    """

    def __init__(self, store: Connection, columns: Sequence[str], cutting: str) -> None:
        dataset = store.dataset("sources")
        self._dataset = store.dataset("sources", dataset.version)  # stays there while the run adds rows
        self._columns, self._absent = list(columns), {f.name: f for f in datasets.missing_fields(dataset, "sources")}
        self.count = count = self._dataset.count_rows()
        self.state, self.reason = np.zeros(count, np.uint8), np.full(count, -1, np.int16)
        self.is_otherwise, self.has_lists = np.zeros(count, bool), np.zeros(count, bool)
        self.caption_key = np.zeros(count, np.uint64)
        self.mtime_ns = self.num_bytes = np.zeros(0, np.int64)
        self.reasons: list[str] = []
        self._hash = Hasher()
        self._read(cutting)

    def find(self, uris: pa.Array) -> np.ndarray:
        """Return the place of each address, int64 [N]; -1 where the store does not know it."""
        return self._by_uri.first(*self._hash(uris))

    def with_uri(self, uri: str) -> np.ndarray:
        """Return the places of an address's rows."""
        return self._by_uri.all(uri)

    def with_md5(self, md5: str) -> np.ndarray:
        """Return the places of the rows with this MD5."""
        return self._by_md5.all(md5)

    def with_id(self, source_id: str) -> np.ndarray:
        """Return the places of the rows with this publisher's id."""
        return self._by_id.all(source_id)

    def rows(self, places: Iterable[int]) -> list[dict[str, Any]]:
        """Return rows as dicts, in the order of `places`."""
        wanted, found = list(map(int, places)), list[dict[str, Any]]()
        there = [name for name in self._columns if name not in self._absent]
        for start in range(0, len(wanted), ROWS_A_READ):
            part = self._dataset.take(wanted[start : start + ROWS_A_READ], columns=there)
            found += datasets.with_nulls(part, self._columns, self._absent).to_pylist()
        return found

    # --- reading -------------------------------------------------------------------------------------------------

    def _read(self, cutting: str) -> None:
        uris, md5s, ids = (_Building() for _ in range(3))
        repeats, failed = list[tuple[np.ndarray, np.ndarray, np.ndarray]](), list[np.ndarray]()
        there = [name for name in READ if name not in self._absent]
        start = 0
        for batch in self._dataset.scanner(columns=there, batch_size=BATCH_ROWS).to_batches():
            rows = datasets.with_nulls(batch, READ, self._absent)
            places = np.arange(start, start + rows.num_rows)
            column = {name: rows.column(name) for name in READ}
            keys = self._hash(column["uri"])
            uris.add(*keys, places)
            known = pc.is_valid(column["md5"]).to_numpy(zero_copy_only=False)
            md5s.add(*self._hash(column["md5"].filter(pa.array(known))), places[known])
            own = pc.fill_null(pc.not_equal(column["source_id"], column["uri"]), False).to_numpy(zero_copy_only=False)
            ids.add(*self._hash(column["source_id"].filter(pa.array(own))), places[own])
            self._note(places, column, cutting)
            state = self.state[places]
            failed.append(keys[0][state == FAILED])
            repeated = state == DUPLICATE
            survivors = column["duplicate_of"].filter(pa.array(repeated))
            repeats.append((places[repeated], self._hash(survivors)[0], _is_local(survivors)))
            start += rows.num_rows
        self._by_uri, self._by_md5, self._by_id = uris.done(), md5s.done(), ids.done()
        self.is_unsure = np.zeros(self.count, bool)
        self.several = self._by_uri.repeated()
        self.is_unsure[self.several] = True
        not_good = np.concatenate([*failed, np.zeros(0, np.uint64)])
        for places, survivors, are_local in repeats:
            self.is_unsure[places[np.isin(survivors, not_good) | are_local]] = True

    def _note(self, places: np.ndarray, column: dict[str, Any], cutting: str) -> None:
        """Note what decides whether a source is looked at again."""
        states = pc.index_in(column["state"], pa.array(STATES)).to_numpy(zero_copy_only=False)
        self.state[places] = states
        same = pc.fill_null(pc.equal(column["cutting_fingerprint"], cutting), False)
        self.is_otherwise[places] = ~same.to_numpy(zero_copy_only=False)
        lists = pc.or_(pc.is_valid(column["captions"]), pc.is_valid(column["spans"]))
        self.has_lists[places] = lists.to_numpy(zero_copy_only=False)
        self.caption_key[places] = self.caption_keys(column["caption"])
        none = (states == OK) & pc.fill_null(pc.equal(column["num_clips"], 0), False).to_numpy(zero_copy_only=False)
        for place, told in zip(places[none], column["no_clip_reason"].filter(pa.array(none)).to_pylist(), strict=True):
            why = told or UNREASONED
            if why not in self.reasons:
                self.reasons.append(why)
            self.reason[place] = self.reasons.index(why)
        local = _is_local(column["uri"])
        if local.any() and not len(self.mtime_ns):
            self.mtime_ns, self.num_bytes = (np.full(self.count, NO_TIME, np.int64) for _ in range(2))
        if local.any():
            for values, name in ((self.mtime_ns, "mtime_ns"), (self.num_bytes, "bytes")):
                given = pc.fill_null(column[name], NO_TIME).to_numpy(zero_copy_only=False)
                values[places] = np.where(local, given, NO_TIME)

    def caption_keys(self, captions: pa.Array) -> np.ndarray:
        """Return uint64 [N]: equal for equal captions; 0 for none."""
        known = pc.is_valid(captions).to_numpy(zero_copy_only=False)
        keys = np.zeros(len(captions), np.uint64)
        if known.any():
            keys[known] = self._hash(captions.filter(pa.array(known)))[0]
        return keys


def _is_local(uris: pa.Array) -> np.ndarray:
    return ~pc.fill_null(pc.match_substring(uris, "://"), False).to_numpy(zero_copy_only=False)


class Hasher:
    """Texts as two halves, uint64 each, that no two texts share: a hash's own digits, or the MD5 of any other text."""

    def __init__(self) -> None:
        import duckdb

        self._duckdb = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False})

    def __call__(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:  # noqa: D102 - as the class says
        if not len(texts):
            return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        if pc.any(pc.equal(pc.binary_length(texts), HASH_DIGITS)).as_py():
            return _digits(texts) or _each(texts)
        self._duckdb.register("texts", pa.table({"t": texts}))
        halves_of = f"(md5_number(t) >> 64)::UBIGINT, (md5_number(t) & {2**64 - 1}::UHUGEINT)::UBIGINT"
        upper, lower = self._duckdb.execute(f"SELECT {halves_of} FROM texts").fetchnumpy().values()
        return upper, lower


@functools.lru_cache(maxsize=1024)
def halves(text: str) -> tuple[np.uint64, np.uint64]:
    """Return what `Hasher` gives for one text."""
    number = int(text, 16) if IS_HASH.fullmatch(text) else _md5_number(text)
    return np.uint64(number >> 64), np.uint64(number & (2**64 - 1))


def _md5_number(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest(), "little")


def _digits(texts: pa.Array) -> tuple[np.ndarray, np.ndarray] | None:
    """Read hashes written as HASH_DIGITS small hexadecimal digits; None if any is another text."""
    if not pc.all(pc.equal(pc.binary_length(texts), HASH_DIGITS)).as_py():
        return None
    joined = texts.cast(pa.large_string())
    first = joined.slice(0, 1).buffers()[1]
    start = int(np.frombuffer(first, np.int64)[joined.offset])
    data = np.frombuffer(joined.buffers()[2], np.uint8, HASH_DIGITS * len(joined), start)
    digits = DIGIT[data.reshape(len(joined), HASH_DIGITS)]
    if (digits > 15).any():
        return None
    upper, lower = (np.zeros(len(joined), np.uint64) for _ in range(2))
    for at in range(HASH_DIGITS // 2):
        upper = upper << np.uint64(4) | digits[:, at]
        lower = lower << np.uint64(4) | digits[:, at + HASH_DIGITS // 2]
    return upper, lower


def _each(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """For texts of which some are hashes and others are not, one by one."""
    upper, lower = zip(*map(halves, texts.to_pylist()), strict=True)
    return np.array(upper, np.uint64), np.array(lower, np.uint64)


class _Index:
    """Hashes in order, with their places. upper, lower: uint64 [N]; places: uint32 [N]."""

    def __init__(self, upper: np.ndarray, lower: np.ndarray, places: np.ndarray) -> None:
        order = np.argsort(upper, kind="stable")
        self.upper, self.lower, self.places = upper[order], lower[order], places[order]

    def first(self, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Return a place for each hash, int64; -1 for those that are not there."""
        asked = np.argsort(upper)  # neighbours one after the other: memory is read in order
        at = np.searchsorted(self.upper, upper[asked])
        found = np.full(len(upper), -1, np.int64)
        inside = at < len(self.upper)
        asked, at = asked[inside], at[inside]
        same = self.upper[at] == upper[asked]
        asked, at = asked[same], at[same]
        exact = self.lower[at] == lower[asked]
        found[asked[exact]] = self.places[at[exact]]
        for n in asked[~exact]:  # halves that two texts share: hardly ever
            hits = self._range(upper[n], lower[n])
            found[n] = hits[0] if len(hits) else -1
        return found

    def all(self, text: str) -> np.ndarray:
        """Return the places of a text, ascending."""
        return self._range(*halves(text))

    def repeated(self) -> np.ndarray:
        """Return the places of texts that are there more than once."""
        same = (self.upper[1:] == self.upper[:-1]) & (self.lower[1:] == self.lower[:-1])
        return self.places[np.append(same, False) | np.append(False, same)] if len(self.upper) else self.places

    def _range(self, upper: np.uint64, lower: np.uint64) -> np.ndarray:
        start = int(self.upper.searchsorted(upper))
        if start == len(self.upper) or self.upper[start] != upper:  # nearly always: most files of a run are new
            return NOWHERE
        end = int(self.upper.searchsorted(upper, "right"))
        return self.places[start:end][self.lower[start:end] == lower]


class _Building:
    """Hashes as they come."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, upper: np.ndarray, lower: np.ndarray, places: np.ndarray) -> None:
        self._parts.append((upper, lower, places.astype(np.uint32)))

    def done(self) -> _Index:
        kinds = (np.uint64, np.uint64, np.uint32)
        columns = [[part[n] for part in self._parts] for n in range(len(kinds))]
        self._parts.clear()
        return _Index(*(np.concatenate([*c, np.zeros(0, kind)]) for c, kind in zip(columns, kinds, strict=True)))
