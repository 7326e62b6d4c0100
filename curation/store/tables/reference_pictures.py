"""Table `reference_pictures`: what videos of an evaluation begin with, as raters are shown it."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import Table, field, register


def _columns() -> list[pa.Field]:
    by = {"computed_by": "evaluate"}
    return [
        field("picture_id", pa.string(), "the reference's MD5, and the size: generations.reference_md5, WIDTHxHEIGHT",
              **by),
        field("jpeg", pa.binary(), "the picture, or the last frame that a video goes on from, as models were given it",
              **by),
    ]  # fmt: skip


TABLE = register(Table("reference_pictures", _columns, key="picture_id", payload=("jpeg",), lock="evaluation"))
