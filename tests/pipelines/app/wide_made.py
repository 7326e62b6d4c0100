"""A store of more clips than a browser can scroll through pixel by pixel, of which a few have vectors of two kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from reelwright.annotate import schema_of
from reelwright.annotate.captions.caption_embedding import CaptionEmbedding
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from tests.footage import frames, write
from tests.pipelines.app.made import clip_id

CLIPS = 40_000
CAPTIONS = (
    "A brown dog runs along the shore, splashing through shallow waves.",
    "A chef chops onions on a wooden board.",
    "Cars and trams cross a busy intersection at night.",
    "A puppy plays in the sand by the sea.",
)
"""Of the first clips: the real MiniLM embeds them."""
LOOKS = ((1.0, 0.0), (0.6, 0.8), (0.0, 1.0), (-1.0, 0.0))
"""What they look like, made up: the first is nearest to the second."""


def make_wide_store(path: Path) -> Store:
    """Make the store; the clips with vectors have videos too."""
    store = Store.open(path, create=True)
    number = np.arange(CLIPS)
    ids = [clip_id(i) for i in number.tolist()]
    store.append("clips", pa.table({
        "clip_id": ids, "source_md5": pa.array(["source"] * CLIPS), "duration_s": 1.0 + number[::-1] / 1_000,
        "width": np.full(CLIPS, 160, np.int32), "height": np.full(CLIPS, 96, np.int32), "fps": np.full(CLIPS, 25.0),
        "num_frames": np.full(CLIPS, 24),
    }))  # fmt: skip
    mp4 = write(path.parent / "wide.mp4", frames(24, seed=5)).read_bytes()
    some = ids[: len(CAPTIONS)]
    store.commit_media([store.write_media(some, [mp4] * len(some))])
    store.merge("clips", pa.table({"clip_id": some, "caption": list(CAPTIONS)}), on="clip_id")
    embedding = CaptionEmbedding()
    rows = embedding.batch([(text, None, None) for text in CAPTIONS])
    fields = [f for f in schema_of(embedding) if not f.name.endswith("_fingerprint")]
    looks = [
        field("visual_embedding", pa.list_(pa.float32(), 2), "made-up look", computed_by="visual_embedding"),
        field("visual_embedding_model", pa.string(), "none", computed_by="visual_embedding"),
    ]
    columns = [pa.array([row[f.name] for row in rows], f.type) for f in fields]
    columns += [pa.array(LOOKS, looks[0].type), pa.array(["made-up"] * len(some))]
    schema = pa.schema([pa.field("clip_id", pa.string()), *fields, *looks])
    store.merge("clips", pa.Table.from_arrays([pa.array(some), *columns], schema=schema), on="clip_id")
    return store
