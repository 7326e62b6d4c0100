"""Rows of a list by the column, where each cell holds what one expects: the inputs that a look at each row finds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reelwright.curation.ingest.inputs import ManifestConfig
from reelwright.curation.ingest.manifest_names import CAPTION_COLUMNS, ID_COLUMNS, LICENCE_COLUMNS, URI_COLUMNS
from reelwright.curation.ingest.span_columns import ENDS, PAIRS, STARTS
from reelwright.curation.ingest.spool import TEXT
from reelwright.curation.ingest.tidy_columns import Columns, addresses, first_texts, first_times
from reelwright.curation.ingest.told import FIELDS, TOLD, with_keys
from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.said import PARTS_OF_A_FILE


@dataclass
class TidyRows:
    """Makes TOLD of rows.

    Args:
        manifest: path of the list.
        allow_http: whether addresses on the web are read.
        config: how lists are understood.
    """

    manifest: str
    allow_http: bool
    config: ManifestConfig
    _hash: Hasher = field(default_factory=Hasher)

    def told(self, columns: Columns) -> pa.RecordBatch | None:
        """Return rows as TOLD; None where a look at each is needed. columns: by name, KNOWN ones, at least one."""
        try:
            return self._told(columns)
        except pa.ArrowInvalid:  # what is wrong is told by row
            return None

    def _told(self, columns: Columns) -> pa.RecordBatch | None:
        uris = addresses(columns, URI_COLUMNS, self.manifest, allow_http=self.allow_http)
        if uris is None:
            return None
        ids, licences = first_texts(columns, ID_COLUMNS), first_texts(columns, LICENCE_COLUMNS)
        captions = first_texts(columns, CAPTION_COLUMNS)
        none = np.zeros(len(uris), bool)
        times = self._times(columns) if self.config.spans == "cut" else (none, none, none)
        if ids is None or licences is None or captions is None or times is None:
            return None
        has_part, start, end = times
        captioned = np.asarray(captions.is_valid())
        each = _lists(captions, has_part & captioned, has_part)
        kind = list(PARTS_OF_A_FILE.value_type)
        parts = pa.StructArray.from_arrays([pa.array(start[has_part], pa.float64()),
                                            pa.array(end[has_part], pa.float64()), each], fields=kind)  # fmt: skip
        found = {
            TEXT: uris, "source_id": ids, "licence": licences,
            "captions": _lists(captions, captioned & ~has_part, np.ones(len(uris), bool)),
            "spans": pa.ListArray.from_arrays(_offsets(has_part), parts), "is_row": pa.array(~none),
        }  # fmt: skip
        return with_keys([found.get(name, pa.nulls(len(uris), TOLD.field(name).type)) for name in FIELDS], self._hash)

    def _times(self, columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return of each row whether it names a part, and the part's start and end in seconds."""
        if any(columns[name].null_count < len(columns[name]) for name in PAIRS if name in columns):
            return None
        start, end = first_times(columns, STARTS), first_times(columns, ENDS)
        if start is None or end is None:
            return None
        known = np.asarray(start.is_valid()) | np.asarray(end.is_valid())
        starts, ends = np.asarray(pc.fill_null(start, 0.0)), np.asarray(pc.fill_null(end, np.inf))
        return None if (known & (ends <= starts)).any() else (known, starts, ends)


def _lists(texts: pa.Array, filled: np.ndarray, rows: np.ndarray) -> pa.ListArray:
    """Return for some rows a list of their text where it is wanted, else of none. filled: bool, among `rows`."""
    return pa.ListArray.from_arrays(_offsets(filled[rows]), texts.filter(pa.array(filled)))


def _offsets(mask: np.ndarray) -> pa.Array:
    return pa.array(np.append(0, np.cumsum(mask)), pa.int32())
