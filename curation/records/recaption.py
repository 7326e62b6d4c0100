"""Captions that a manifest changed since its files were cut: they are taken over, and nothing is cut again.

A clip's fingerprints say nothing of its source's caption. So the annotators that read it, or what others made of it,
lose their fingerprints for the clips of that source, and run again as if they never had.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from reelwright.curation.ingest.inputs import Input
from reelwright.curation.records.rows import caption_columns
from reelwright.curation.spans import SLACK_S
from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import literals

CHUNK = 1000
PLACE = ["clip_id", "source_md5", "start_s", "end_s", "longest_frame_s"]


def is_recaptioned(item: Input, row: Mapping[str, Any]) -> bool:
    """Whether an input brings other captions than its row in `sources` has; one without any brings none.

    Where a manifest names other parts than before, their captions come with cutting them.
    """
    if not (item.captions or any(span.captions for span in item.spans)):
        return False
    before = [part[:2] for part in json.loads(row["spans"] or "[]")]
    now = [[s.start_s, s.end_s if math.isfinite(s.end_s) else None] for s in item.spans]
    return before == now and any(row[name] != value for name, value in caption_columns(item).items())


def take_over(store: Store, items: Sequence[Input], readers: Sequence[str]) -> None:
    """Write the captions of `items` to their sources and clips.

    The sources come last, so that a run that was killed in between is made up for by the next.

    Args:
        store: It holds them.
        items: The inputs, with their new captions.
        readers: Annotators whose values go back to captions, and lose their fingerprints.
    """
    columns = [f"{name}_fingerprint" for name in readers]
    for start in range(0, len(items), CHUNK):
        some = {item.uri: item for item in items[start : start + CHUNK]}
        known = store.read("sources", ["uri", "md5"], f"uri IN ({literals(some)}) AND state = 'ok'").to_pylist()
        by_md5 = {row["md5"]: some[row["uri"]] for row in known}
        clips = store.read("clips", PLACE, f"source_md5 IN ({literals(by_md5)})").to_pylist() if by_md5 else []
        ids = [clip["clip_id"] for clip in clips]
        if clips and columns:
            nothing = {name: pa.nulls(len(clips), pa.string()) for name in columns}
            store.merge("clips", pa.table({"clip_id": ids, **nothing}), on="clip_id")
        if any(item.spans for item in by_md5.values()) and clips:
            captions = [_captions_of(clip, by_md5[clip["source_md5"]]) for clip in clips]
            texts = pa.array([texts or None for texts in captions], pa.list_(pa.string()))
            firsts = pa.array([texts[0] if texts else None for texts in captions], pa.string())
            values = {"clip_id": ids, "span_caption": firsts, "span_captions": texts}
            store.merge("clips", pa.table(values), on="clip_id")
        rows = [{"uri": uri, **caption_columns(item)} for uri, item in some.items()]
        fields = [store.schema("sources").field(name) for name in rows[0]]
        store.merge("sources", pa.Table.from_pylist(rows, pa.schema(fields)), on="uri")


def _captions_of(clip: Mapping[str, Any], item: Input) -> list[str]:
    """Captions of the parts that a clip lies in: its last frame begins before a part ends."""
    last_s = clip["end_s"] - (clip["longest_frame_s"] or 0.0)
    around = [s for s in item.spans if s.start_s - SLACK_S <= clip["start_s"] and last_s < s.end_s + SLACK_S]
    return list(dict.fromkeys(caption for span in around for caption in span.captions))
