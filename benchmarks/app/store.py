"""A store of many made-up clips: rows of real shape, and media for the first of them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.schema import field

MOTIONS = ("static", "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out", "handheld")
WORDS = ("a red boat", "two people", "a busy street", "waves", "a dog", "snow", "a kitchen", "an empty road")
CLUSTERS = 64
BATCH_ROWS = 65_536
MEASURES = {
    "aesthetic_standin_score": ("0 to 1", "stand-in of composition, colour, contrast, sharpness and exposure"),
    "blur_score": ("level²", "median variance of the Laplacian over frames; higher is sharper"),
    "motion_score": ("frame heights per second", "mean length of the flow"),
    "brightness": ("level, 0 to 255", "mean grey level"),
    "contrast": ("level", "standard deviation of grey levels inside frames"),
    "colorfulness": ("", "Hasler & Süsstrunk's M"),
    "text_coverage": ("share of frame", "area of text lines in the sampled frame with most"),
    "watermark_score": ("0 to 1", "how surely a static overlay lies over the picture"),
    "camera_shake": ("shorter sides of the frame", "rms of the shift less its smooth part"),
    "density": ("", "crowding among caption embeddings; 1 is the mean of all clips"),
}


def make_store(path: Path, rows: int, mp4s: list[bytes], with_media: int) -> Store:
    """Make a store of `rows` clips, of which the first `with_media` have one of `mp4s` each."""
    store = Store.open(path, create=True)
    text, f32 = pa.string(), pa.float32()
    fields = [field(name, f32, meaning, unit=unit, computed_by=name) for name, (unit, meaning) in MEASURES.items()]
    fields += [
        field("camera_motion", text, "kind of camera motion", computed_by="camera_motion"),
        field("cluster_id", pa.int32(), "cluster of the clip's caption", computed_by="clusters"),
        field("cluster_name", text, "what the cluster's captions have in common", computed_by="cluster_names"),
        field("map_x", f32, "place on the map of captions, to the right", computed_by="caption_map"),
        field("map_y", f32, "place on the map of captions, upwards", computed_by="caption_map"),
        field("near_duplicate_group", text, "smallest clip_id of its group", computed_by="near_duplicates"),
        field("composed_caption", text, "caption composed from measured attributes", computed_by="composed_caption"),
    ]
    store.ensure_columns("clips", fields)
    made = [_clips(start, min(BATCH_ROWS, rows - start)) for start in range(0, rows, BATCH_ROWS)]
    for part in made:
        store.append("clips", part)
    ids = made[0].column("clip_id").to_pylist()[:with_media]
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        store.commit_media([store.write_media(some, [mp4s[(start + i) % len(mp4s)] for i in range(len(some))])])
    store.append("sources", [_source(i) for i in range(1 + rows // 100)])
    return store


def _on_the_map(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Return clusters of uneven size, each around a place of its own."""
    cluster = np.minimum(rng.geometric(0.06, count) - 1, CLUSTERS - 1)
    middle = np.random.default_rng(1).uniform(-60, 60, (CLUSTERS, 2))
    at = middle[cluster] + rng.normal(size=(count, 2)) * (2 + cluster % 5)[:, None]
    return {
        "cluster_id": cluster.astype(np.int32),
        "cluster_name": np.array([f"{WORDS[i % 8]}, {MOTIONS[i // 8 % 8]}" for i in range(CLUSTERS)])[cluster],
        "map_x": at[:, 0].astype(np.float32), "map_y": at[:, 1].astype(np.float32),
    }  # fmt: skip


def _source(number: int) -> dict:
    now = datetime.now(UTC)
    return {"uri": f"/footage/{number:06}.mp4", "source_id": str(number), "md5": _hash("source", number), "state": "ok",
            "duration_s": 900.0, "fps": 24.0, "ingested_at": now, "num_clips": 100}  # fmt: skip


def _hash(kind: str, number: int, length: int = 32) -> str:
    return hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest()[:length]


def _clips(start: int, count: int) -> pa.Table:
    rng = np.random.default_rng(start)
    number = np.arange(start, start + count)
    ids = [_hash("clip", int(i), 24) for i in number]
    width = rng.choice([640, 1280, 1920], count)
    duration = rng.gamma(3.0, 2.0, count) + 1
    columns: dict[str, object] = {
        "clip_id": ids,
        "source_md5": [_hash("source", int(i) // 100) for i in number],
        "shot_index": (number % 100).astype(np.int32),
        "start_frame": (number % 100) * 216, "end_frame": (number % 100) * 216 + 200,
        "start_s": (number % 100) * 9.0, "end_s": (number % 100) * 9.0 + duration,
        "width": width.astype(np.int32), "height": (width * 9 // 16).astype(np.int32),
        "fps": np.full(count, 24.0), "num_frames": (duration * 24).astype(np.int64), "duration_s": duration,
        "bitrate_bps": rng.integers(1_000_000, 9_000_000, count),
        "is_still": rng.random(count) < 0.02,
        "camera_motion": np.array(MOTIONS)[rng.integers(0, len(MOTIONS), count)],
        **_on_the_map(rng, count),
        "near_duplicate_group": [ids[i - i % 5] if i % 50 < 5 else ids[i] for i in range(count)],
        "composed_caption": [f"{WORDS[i % 8]}, clip {i}" for i in number.tolist()],
    }  # fmt: skip
    for i, name in enumerate(MEASURES):
        columns[name] = rng.gamma(2.0 + i / 4, 20.0 if i in (1, 3, 4, 5) else 0.1, count).astype(np.float32)
    return pa.table(columns)
