"""Footage of five kinds, drawn by the demonstration's scenes; one of them is nearly missing from the store."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.backends.sentences import SentenceModel
from reelwright.annotate.sets.cluster_names import ClusterNames
from reelwright.annotate.sets.clusters import Clusters
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.pipelines.demo import footage, scenes

WIDTH, HEIGHT, FRAMES, FPS = 112, 64, 9, 8
DRAWN = 3  # times as large as kept: scenes have details of a pixel

KINDS = {
    "sea": (scenes.sea, ("waves of the sea", "a boat on the open sea", "the sea under a low sun")),
    "city": (scenes.city_night, ("a city at night", "lit windows of a city", "cars in a city street at night")),
    "wheel": (scenes.ferris_wheel, ("a ferris wheel turns", "gondolas of a ferris wheel", "a wheel at the fair")),
    "balls": (scenes.playroom, ("balls in a playroom", "balls bounce on the floor", "a playroom with balls")),
    "hills": (scenes.landscape, ("hills in a haze", "hills and clouds", "a landscape of hills")),
}
PROMPTS = {kind: (*captions, f"the {kind}") for kind, (_, captions) in KINDS.items()}
"""Captions, which a network of this size has to know by heart, and one that no clip has."""
STARVED = "wheel"


def frames_of(kind: str, seed: int) -> np.ndarray:
    """Return one clip as a network sees it, uint8 [FRAMES, HEIGHT, WIDTH, 3] RGB."""
    large = take(kind, seed, DRAWN * WIDTH, DRAWN * HEIGHT, FRAMES, FPS)
    return np.stack([cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for frame in large])


def take(kind: str, seed: int, width: int, height: int, frames: int, fps: int) -> np.ndarray:
    """Film a scene, uint8 [frames, height, width, 3] RGB: every seed is another place, time, light and side."""
    rng = np.random.default_rng([list(KINDS).index(kind), seed])
    scene = KINDS[kind][0](rng, width, height)
    begins, mirrored = float(rng.uniform(0, 3)), bool(rng.integers(2))
    light = rng.uniform(0.85, 1.15)
    drawn = np.stack([scene(begins + i / fps) for i in range(frames)])
    lit = np.clip(drawn.astype(np.float32) * light, 0, 255).astype(np.uint8)
    return lit[:, :, ::-1] if mirrored else lit


def build(folder: Path, *, each: int, starved: int) -> Store:
    """Make a store with `each` clips of every kind and `starved` of STARVED, with captions, embeddings and clusters."""
    store = Store.open(folder, create=True)
    clips = list(_clips(each, starved))
    ids = [name for name, *_ in clips]
    store.append("sources", [
        {"source_id": name, "uri": f"/footage/{kind}-{i}.mp4", "md5": f"md5{name}", "caption": caption, "state": "ok"}
        for i, (name, kind, caption, _) in enumerate(clips)
    ])  # fmt: skip
    store.commit_media([store.write_media(ids, [mp4 for *_, mp4 in clips])])
    model = SentenceModel()
    known = {text: model.embed_query(text) for text in sorted({caption for _, _, caption, _ in clips})}
    vectors = np.stack([known[caption] for _, _, caption, _ in clips]).astype(np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    rows = pa.table({
        "clip_id": ids, "source_md5": [f"md5{name}" for name in ids], "source_caption": [c for _, _, c, _ in clips],
        "caption_embedding": flat, "caption_embedding_model": [model.origin] * len(ids),
        "caption_embedding_of": ["source_caption"] * len(ids),
    })  # fmt: skip
    found, _ = Clusters(k=len(set(rows["source_caption"].to_pylist())))(rows, None)  # one per caption
    rows = rows.append_column("cluster_id", found["cluster_id"])
    named, _ = ClusterNames(of=("source_caption",))(rows, None)
    rows = rows.append_column("cluster_name", named["cluster_name"]).drop_columns(["source_caption"])
    makers = {"caption_embedding": "caption_embedding", "caption_embedding_model": "caption_embedding",
              "caption_embedding_of": "caption_embedding", "cluster_id": "clusters",
              "cluster_name": "cluster_names"}  # fmt: skip
    store.ensure_columns("clips", [field(n, rows.schema.field(n).type, n, computed_by=m) for n, m in makers.items()])
    size = {"width": WIDTH, "height": HEIGHT, "fps": float(FPS), "num_frames": FRAMES, "duration_s": FRAMES / FPS,
            "start_s": 0.0, "end_s": FRAMES / FPS}  # fmt: skip
    for name, value in size.items():
        rows = rows.append_column(name, pa.array([value] * len(ids)))
    store.append("clips", rows)
    return store


def mp4_of(video: np.ndarray) -> bytes:
    """Return the mp4 of frames uint8 [F, H, W, 3] RGB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        footage.write_clip(path, video, fps=FPS)
        return path.read_bytes()


def _clips(each: int, starved: int) -> Iterator[tuple[str, str, str, bytes]]:
    """(clip_id, kind, caption, mp4)."""
    for kind, (_, captions) in KINDS.items():
        for i in range(starved if kind == STARVED else each):
            name = hashlib.sha256(f"{kind} {i}".encode()).hexdigest()[:24]
            yield name, kind, captions[i % len(captions)], mp4_of(frames_of(kind, i))
