"""Inputs of which a list says more than the address, as columns: a row for each, in files, found by number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.ingest.inputs import Input, Span
from reelwright.curation.ingest.spool import TEXT
from reelwright.curation.keys.hashing import Hasher
from reelwright.curation.keys.said import CAPTIONS, NEVER, PARTS_OF_A_FILE, said_keys
from reelwright.curation.signed import is_signed, link_of, with_link

SAID = "said"
TOLD = pa.schema([
    (TEXT, pa.large_string()), ("link", pa.large_string()), ("source_id", pa.large_string()),
    ("licence", pa.large_string()), ("captions", CAPTIONS), ("spans", PARTS_OF_A_FILE), ("refused", pa.large_string()),
    ("is_row", pa.bool_()), (SAID, pa.uint64()),
])  # fmt: skip
"""An `Input`, its address as TEXT; link: of a `SignedAddress`. said: what is told of its captions and parts, a key."""
FIELDS = TOLD.names[:-1]


def is_told(item: Input) -> bool:
    """Return whether more is known of an input than its address."""
    said = (item.source_id, item.licence, item.refused)
    return bool(item.captions or item.spans) or is_signed(item.uri) or any(value is not None for value in said)


def as_columns(items: Sequence[Input], hasher: Hasher) -> pa.RecordBatch:
    """Return inputs as TOLD."""
    columns: dict[str, Iterable[Any]] = {
        TEXT: (str(item.uri) for item in items),
        "link": (link_of(item.uri) if is_signed(item.uri) else None for item in items),
        "source_id": (item.source_id for item in items),
        "licence": (item.licence for item in items),
        "captions": (item.captions for item in items),
        "spans": ([(s.start_s, s.end_s, s.captions) for s in item.spans] for item in items),
        "refused": (item.refused for item in items),
        "is_row": (item.is_row for item in items),
    }
    return with_keys([pa.array(list(columns[name]), TOLD.field(name).type) for name in FIELDS], hasher)


def with_keys(columns: Sequence[pa.Array], hasher: Hasher) -> pa.RecordBatch:
    """Return TOLD of its columns but the last."""
    captions, spans, refused = (columns[FIELDS.index(name)] for name in ("captions", "spans", "refused"))
    keys = said_keys(hasher, captions, spans)
    keys[np.asarray(refused.is_valid())] = NEVER
    return pa.record_batch([*columns, pa.array(keys)], schema=TOLD)


def as_inputs(rows: pa.RecordBatch) -> list[Input]:
    """Return the inputs that TOLD describes."""
    return [
        Input(with_link(uri, link), source_id, licence, tuple(captions), tuple(map(_span, spans)), refused, is_row)
        for uri, link, source_id, licence, captions, spans, refused, is_row in zip(
            *(rows.column(name).to_pylist() for name in FIELDS), strict=True
        )
    ]


def _span(part: Mapping[str, Any]) -> Span:
    return Span(part["start"], part["end"], tuple(part["captions"]))
