"""A small real store to start from."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from reelwright.curation.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def fake_mp4(clip_id: str, size: int | None = None) -> bytes:
    """Bytes that depend on the id alone; the store never looks inside."""
    rng = random.Random(clip_id)
    return rng.randbytes(rng.randint(1, 5_000) if size is None else size)


def clip_rows(source: str, count: int) -> list[dict[str, Any]]:
    return [
        {"clip_id": f"{source}-{i:03d}", "source_md5": source, "shot_index": i, "start_frame": i * 50,
         "end_frame": i * 50 + 50, "start_s": i * 2.0, "end_s": i * 2.0 + 2.0, "width": 640 + i, "height": 360,
         "fps": 25.0, "num_frames": 50, "duration_s": 2.0}
        for i in range(count)
    ]  # fmt: skip


def add_source(store: Store, source: str, count: int, *, finish: bool = True) -> list[str]:
    """Commit a source with `count` clips as curation does: media, clips, shots, and the source's own row last."""
    rows = clip_rows(source, count)
    ids = [row["clip_id"] for row in rows]
    store.commit_media([store.write_media(ids, [fake_mp4(i) for i in ids])])
    store.append("clips", rows)
    store.append("shots", [{"source_md5": source, "shot_index": 0, "start_frame": 0, "end_frame": count * 50}])
    if finish:
        store.append(
            "sources", [{"source_id": f"id-{source}", "md5": source, "uri": f"/f/{source}.mp4", "state": "ok"}]
        )
    return ids
