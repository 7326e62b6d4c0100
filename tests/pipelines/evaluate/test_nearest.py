"""The nearest training clip of a generation, against a plain search over all of them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from reelwright.evaluation.memorisation import nearest_clips
from reelwright.pipelines.evaluate.counts import Measured
from reelwright.pipelines.evaluate.nearest import embedding_of, fill_nearest
from tests.curation.store.conftest import add_source

MODEL = "somewhere/clip#0123456789abcdef"
VECTOR = pa.list_(pa.float32(), 8)


def test_it_is_the_clip_of_largest_cosine_whatever_the_parts() -> None:
    rng = np.random.default_rng(0)
    ours, clips = rng.normal(size=(5, 8)), rng.normal(size=(40, 8))
    ids = [f"c{i}" for i in range(40)]
    cosine = (ours / np.linalg.norm(ours, axis=1)[:, None]) @ (clips / np.linalg.norm(clips, axis=1)[:, None]).T
    for size in (1, 7, 40):
        parts = [(ids[i : i + size], clips[i : i + size]) for i in range(0, 40, size)]
        found = nearest_clips(ours, parts)
        assert [name for name, _ in found] == [ids[i] for i in cosine.argmax(1)]
        assert [value for _, value in found] == pytest.approx(cosine.max(1).tolist())
    assert nearest_clips(ours, []) == [(None, -1.0)] * 5


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture
def embedded(store: Store) -> tuple[Store, np.ndarray]:
    """Clips with vectors; generation g0 is a copy of clip 2 (which is not in the snapshot), g1 of clip 0."""
    rng = np.random.default_rng(1)
    ids, vectors = add_source(store, "aa", 4), rng.normal(size=(4, 8)).astype(np.float32)
    store.merge("clips", pa.table({
        "clip_id": ids, "visual_embedding": pa.array(vectors.tolist(), VECTOR), "visual_embedding_model": [MODEL] * 4,
    }), on="clip_id")  # fmt: skip
    some = store.snapshots.create("some", f"select clip_id from clips where clip_id <> '{ids[2]}'")
    lineage = json.dumps({"snapshot": {"name": "some", "content_hash": some.content_hash}})
    rows = [{"generation_id": f"g{i}", "evaluation_id": "e", "state": "ok", "lineage": text}
            for i, text in enumerate([lineage, lineage, "{}"])]  # fmt: skip
    store.add_generations(rows, {row["generation_id"]: b"x" for row in rows})
    store.merge("generations", pa.table({
        "generation_id": ["g0", "g1", "g2"],
        "visual_embedding": pa.array([vectors[i].tolist() for i in (2, 0, 2)], VECTOR),
        "visual_embedding_model": [MODEL] * 3, "visual_embedding_fingerprint": ["f"] * 3,
    }), on="generation_id")  # fmt: skip
    return store, vectors


def test_a_copy_is_found_among_the_clips_that_were_trained_on(embedded: tuple[Store, np.ndarray]) -> None:
    store, vectors = embedded
    found = Measured(3)
    fill_nearest(store, "e", found)
    rows = {r["generation_id"]: r for r in store.read("generations").to_pylist()}
    ids = sorted(store.read("clips", ["clip_id"]).column(0).to_pylist())
    assert (rows["g1"]["nearest_clip"], rows["g1"]["nearest_similarity"]) == (ids[0], pytest.approx(1))
    assert rows["g2"]["nearest_clip"] == ids[2], "no snapshot is known: any clip of the store"
    assert rows["g0"]["nearest_clip"] != ids[2], "the model was not trained on it"
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    assert rows["g0"]["nearest_similarity"] == pytest.approx(max(float(unit[2] @ unit[i]) for i in (0, 1, 3)), abs=1e-6)
    assert found.made["nearest"] == 3
    again = Measured(3)
    fill_nearest(store, "e", again)
    assert (again.made["nearest"], again.current["nearest"]) == (0, 3)


def test_parents_and_loras_count_and_what_is_missing_is_said(embedded: tuple[Store, np.ndarray]) -> None:
    """g0 is a copy of clip 2, which only the parent, or the LoRA, was trained on."""
    store, _ = embedded
    ids = sorted(store.read("clips", ["clip_id"]).column(0).to_pylist())
    other = store.snapshots.create("other", f"select clip_id from clips where clip_id = '{ids[2]}'")
    some = {"name": "some", "content_hash": store.snapshots.show("some").content_hash}
    more = {"name": "other", "content_hash": other.content_hash}
    gone = {"mix": [some, {"name": "gone", "content_hash": "sha256:x"}]}
    lineages = {
        "g0": {"snapshot": some, "trained_before": [{"path": "/gone/runs/base/checkpoints/step-1", "snapshot": more}]},
        "g1": {"snapshot": gone, "loras": [{"file": "/x/style/lora.safetensors"}]},
        "g2": {"snapshot": some, "loras": [{"file": "/x/style/lora.safetensors", "snapshot": more}]},
    }
    said = pa.table({"generation_id": list(lineages), "lineage": [json.dumps(one) for one in lineages.values()]})
    store.merge("generations", said, on="generation_id")
    found = Measured(3)
    fill_nearest(store, "e", found)
    rows = {r["generation_id"]: r["nearest_clip"] for r in store.read("generations").to_pylist()}
    assert rows == {"g0": ids[2], "g1": ids[0], "g2": ids[2]}
    without = "nearest does not look among the clips of "
    assert found.notes == [
        f"{without}snapshot gone (the training): this store has no snapshot of that name",
        f"{without}LoRA style/lora.safetensors: no record says what it was trained on",
    ]


def test_a_replaced_clip_makes_it_anew(embedded: tuple[Store, np.ndarray]) -> None:
    """As many clips as before, and another among them."""
    store, vectors = embedded
    fill_nearest(store, "e", Measured(3))
    ids = sorted(store.read("clips", ["clip_id"]).column(0).to_pylist())
    store.delete("clips", f"clip_id = '{ids[2]}'")
    [new] = add_source(store, "bb", 1)
    vector = pa.array([vectors[2].tolist()], VECTOR)
    row = {"clip_id": [new], "visual_embedding": vector, "visual_embedding_model": [MODEL]}
    store.merge("clips", pa.table(row), on="clip_id")
    again = Measured(3)
    fill_nearest(store, "e", again)
    assert again.made["nearest"] == 3


def test_without_embedded_clips_it_is_left_out_with_a_sentence(store: Store) -> None:
    params, why = embedding_of(store)
    assert not params
    assert "reel annotate --only visual_embedding" in why


def test_the_generations_are_embedded_by_the_clips_model(embedded: tuple[Store, np.ndarray]) -> None:
    assert embedding_of(embedded[0]) == ({"clip": {"model": "somewhere/clip", "revision": ""}}, "")
