"""Captions as vectors, by the real MiniLM and by small checkpoints of the same architecture."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate import annotate_clip, expected_fingerprint
from reelwright.annotate.backends.identity import content_hash, from_origin, model_id, origin_of, same_model
from reelwright.annotate.backends.sentences import SentenceModel, _pieces
from reelwright.annotate.captions.caption_embedding import CaptionEmbedding
from reelwright.annotate.errors import AnnotatorError


@pytest.fixture(scope="session")
def minilm() -> SentenceModel:
    return SentenceModel()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model of 32 + 8 numbers' width, random weights: BERT, two poolings, a dense layer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "runs", "on", "the", "beach", "."]
    (folder / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=24)  # fmt: skip
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert"), max_seq_length=24), Pooling(32, pooling_mode=("cls", "mean")),
               Dense(64, 40), Normalize()]  # fmt: skip
    SentenceTransformer(modules=modules).save(str(folder / "model"))
    return folder / "model"


def test_captions_that_mean_the_same_are_near_and_others_are_not(minilm: SentenceModel) -> None:
    dog, puppy, city, chef = minilm.embed([
        "A brown dog runs along the shore, splashing through shallow waves.",
        "A puppy plays in the sand by the sea.",
        "Cars and trams cross a busy intersection at night.",
        "A chef chops onions on a wooden board.",
    ])  # fmt: skip
    query = minilm.embed_query("a dog on a beach")
    assert min(dog @ query, puppy @ query) > max(city @ query, chef @ query) + 0.2
    assert dog @ puppy > dog @ city + 0.2


def test_the_first_caption_that_a_clip_has_is_embedded_and_said(minilm: SentenceModel) -> None:
    clips = [("a dog", "a cat", "dim"), (None, "a cat", "dim"), (" \n", None, "dim"), (None, None, None)]
    rows = CaptionEmbedding().batch(clips)
    assert [row["caption_embedding_of"] for row in rows] == ["caption", "source_caption", "composed_caption", None]
    expect = minilm.embed(["a dog", "a cat", "dim"])
    np.testing.assert_allclose(np.stack([row["caption_embedding"] for row in rows[:3]]), expect, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(expect, axis=1), 1, atol=1e-5)
    assert {row["caption_embedding_model"] for row in rows[:3]} == {minilm.id}
    assert set(rows[3].values()) == {None}


def test_a_clip_without_a_caption_is_done_and_no_failure() -> None:
    columns, failures = annotate_clip(None, [CaptionEmbedding()], {"clip_id": "a"})
    assert not failures
    assert columns["caption_embedding"] is None
    assert columns["caption_embedding_fingerprint"]


def test_another_caption_makes_the_vector_stale() -> None:
    embedding, made_by = CaptionEmbedding(), {"caption": "caption"}
    old = expected_fingerprint(embedding, {"caption_fingerprint": "1"}, made_by)
    assert old != expected_fingerprint(embedding, {"caption_fingerprint": "2"}, made_by)
    assert CaptionEmbedding(of=("caption",)).fingerprint != embedding.fingerprint


def test_its_columns_and_fingerprint_cost_no_weights_and_no_torch() -> None:
    code = (
        "import sys; from reelwright.annotate import load; a = load('caption_embedding'); a.fingerprint\n"
        "print(a.columns['caption_embedding'].type.list_size)\n"
        "print([m for m in ('torch', 'transformers', 'sentence_transformers') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split("\n")[:2] == ["384", "[]"]


def test_the_end_of_a_long_caption_counts(minilm: SentenceModel) -> None:
    cooking = "A chef chops onions, carrots and celery on a wooden board in a busy kitchen. " * 30
    turtle = "Then a sea turtle glides over a coral reef in deep blue water. " * 30
    query = minilm.embed_query("a sea turtle under water")
    alone, both = minilm.embed([cooking, cooking + turtle])
    assert both @ query > alone @ query + 0.2
    np.testing.assert_allclose(np.linalg.norm(both), 1, atol=1e-5)


def test_windows_hold_every_token_once_and_end_with_sentences() -> None:
    text = "One two three. Four five six seven! 八九。Ten " + "eleven " * 5
    tokens, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        tokens.append((at, at + len(word)))
        at += len(word)
    pieces = _pieces(text, tokens, 5)
    assert [one for one, _ in pieces] == [
        "One two three.", "Four five six seven! 八九。Ten"[:20], "八九。Ten eleven eleven eleven eleven", "eleven"
    ]  # fmt: skip
    assert sum(count for _, count in pieces) == len(tokens)
    assert _pieces("", [], 5) == [("", 1)]


def test_a_batch_gives_what_each_caption_gives_alone(minilm: SentenceModel) -> None:
    texts = ["a dog", "A long sentence about many things. " * 50, "x", "狗在沙滩上", "🐕" * 50, "word " * 600]
    together = minilm.embed(texts)
    np.testing.assert_allclose(together, np.concatenate([minilm.embed([one]) for one in texts]), atol=2e-5)
    assert minilm.embed([]).shape == (0, 384)


def test_a_model_of_ones_own_is_loaded_from_its_folder(tiny: Path) -> None:
    embedding = CaptionEmbedding(model=str(tiny))
    assert embedding.columns["caption_embedding"].type == pa.list_(pa.float32(), 40)
    (row,) = embedding.batch([("a dog runs on the beach . " * 9, None, None)])  # longer than the model reads
    assert len(row["caption_embedding"]) == 40
    assert row["caption_embedding_model"] == f"{tiny}#{content_hash(tiny)}"
    assert SentenceModel.of_origin(row["caption_embedding_model"]) == SentenceModel(str(tiny))


def test_the_model_counts_and_not_where_it_lies(tiny: Path, tmp_path: Path) -> None:
    moved, changed = (shutil.copytree(tiny, tmp_path / name / "model") for name in ("moved", "changed"))
    (changed / "config.json").write_text((changed / "config.json").read_text() + "\n")
    here, there, other = (CaptionEmbedding(model=str(one)) for one in (tiny, moved, changed))
    assert here.fingerprint == there.fingerprint != other.fingerprint
    assert same_model(origin_of(str(tiny)), origin_of(str(moved)))
    assert not same_model(origin_of(str(tiny)), origin_of(str(changed)))
    assert CaptionEmbedding(model="org/name", revision="1").fingerprint != CaptionEmbedding(
        model="org/name", revision="2").fingerprint  # fmt: skip
    assert from_origin(model_id("org/name", "v2")) == ("org/name", "v2")


def test_pickled_weights_are_not_loaded(tiny: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(tiny, tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(AnnotatorError, match="cannot be loaded"):
        SentenceModel(str(folder)).embed(["a dog"])


@pytest.mark.parametrize(("model", "says"), [("/no/such/model", "neither a folder here"), ("", "names no column")])
def test_mistakes_are_sentences(model: str, says: str) -> None:
    with pytest.raises((AnnotatorError, ValueError), match=says):
        CaptionEmbedding(of=("caption",) if model else (), model=model).columns


def test_a_folder_that_is_no_sentence_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AnnotatorError, match="is not a sentence-transformers model"):
        CaptionEmbedding(model=str(tmp_path)).columns


def test_equal_captions_get_one_vector_wherever_they_stand(minilm: SentenceModel) -> None:
    texts = ["a dog", "A cat sleeps on a red sofa, and rain falls outside.", "a dog", "", "a dog"]
    found = minilm.embed(texts)
    assert (found[0] == found[2]).all()
    assert (found[0] == found[4]).all()
    np.testing.assert_allclose(found, np.concatenate([minilm.embed([text]) for text in texts]), atol=1e-6)


def test_only_another_model_than_the_bundled_one_keeps_a_process(tiny: Path) -> None:
    assert not CaptionEmbedding().resources.own_process
    assert CaptionEmbedding(model=str(tiny)).resources.own_process
    assert CaptionEmbedding(gpus=0.5).resources.own_process
