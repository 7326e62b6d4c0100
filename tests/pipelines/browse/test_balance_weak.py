"""From an evaluation to weights: weak categories, clusters near their prompts, a snapshot that evens them out."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate.backends.sentences import SentenceModel
from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.given_weights import GivenWeights, read_weights
from reelwright.curation.store.schema import field
from reelwright.curation.store.weighting import effective_size
from reelwright.pipelines.browse.balance.evaluated import read_evaluated
from reelwright.pipelines.browse.balance.weak import advise
from reelwright.pipelines.browse.balance.weak_words import words
from tests.curation.store.conftest import fake_mp4

THEMES = {
    "forest": (30, ("a walk through a forest", "trees in a dense green forest", "sunlight between forest trees")),
    "city": (26, ("a city street at night", "tall buildings of a city at night", "night traffic in a big city")),
    "sea": (4, ("waves of the open sea", "a boat on the sea at sunset", "the sea under clouds")),
}
PROMPTS = {
    "forest": ["a path in the forest", "old trees in a forest", "forest in autumn", "a forest in fog"],
    "city": ["a city by night", "lights of a city street", "cars in a city", "towers of a big city"],
    "sea": ["sea waves at dawn", "a ship at sea", "the sea in a storm", "a quiet sea and a boat"],
    "accounts": ["a spreadsheet of taxes", "an invoice with numbers", "quarterly accounts in a table", "a tax form"],
}
VALUES = {"forest": 0.9, "city": 0.8, "sea": 0.3, "accounts": 0.35}
MADE = "clusters/3/abc"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Sixty clips in three clusters, embedded by the sentence model; two models' generations."""
    store = Store.open(tmp_path_factory.mktemp("weak") / "store", create=True)
    texts = [texts[i % 3] for count, texts in THEMES.values() for i in range(count)]
    cluster = [i for i, (count, _) in enumerate(THEMES.values()) for _ in range(count)]
    model = SentenceModel()
    known = {text: model.embed_query(text) for text in dict.fromkeys(texts)}
    vectors = np.stack([known[text] for text in texts]).astype(np.float32)
    ids = [f"{i:024x}" for i in range(len(texts))]
    table = pa.table({
        "clip_id": ids, "source_md5": ["m"] * len(ids), "duration_s": [3.6] * len(ids),
        "cluster_id": pa.array(cluster, pa.int32()), "cluster_name": [list(THEMES)[i] for i in cluster],
        "clusters_fingerprint": [MADE] * len(ids), "caption_embedding_model": [model.origin] * len(ids),
        "caption_embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
    })  # fmt: skip
    makers = {"cluster_id": "clusters", "cluster_name": "cluster_names", "clusters_fingerprint": "clusters",
              "caption_embedding": "caption_embedding", "caption_embedding_model": "caption_embedding"}  # fmt: skip
    store.ensure_columns("clips", [field(n, table.schema.field(n).type, n, computed_by=m) for n, m in makers.items()])
    store.commit_media([store.write_media(ids, [fake_mp4(i) for i in ids])])
    store.append("clips", table)
    store.append("sources", [{"source_id": "s", "md5": "m", "uri": "/f/s.mp4", "state": "ok"}])
    add_evaluation(store)
    return store


def add_evaluation(store: Store) -> None:
    store.append("evaluations", [
        {"evaluation_id": "e1", "name": "first", "at": datetime.now(UTC), "models": ["base"]},
        {"evaluation_id": "e2", "name": "both", "at": datetime.now(UTC), "models": ["base", "tuned"]},
    ])  # fmt: skip
    store.ensure_columns("generations", [field("match", pa.float64(), "how well it shows its prompt")])
    rng = np.random.default_rng(0)
    rows = [
        {"generation_id": f"{category}-{i}-{k}", "evaluation_id": "e1", "model": "base", "prompt_id": f"{category}-{i}",
         "prompt": prompt, "category": category, "state": "ok", "match": VALUES[category] + rng.normal(0, 0.05)}
        for category, prompts in PROMPTS.items() for i, prompt in enumerate(prompts) for k in range(2)
    ]  # fmt: skip
    store.append("generations", rows)


def test_it_says_what_to_weigh_up_and_what_to_collect(store: Store) -> None:
    found = advise(store, read_evaluated(store, "first", measure="match"))
    assert [one.score.name for one in found.weak] == ["sea", "accounts"]
    sea, accounts = found.weak
    assert [near.cluster.name for near in sea.near] == ["sea"]
    assert accounts.near == [], "there is no footage of it"
    ((cluster, factor),) = found.scarce
    assert cluster.name == "sea"
    assert cluster.share == pytest.approx(4 / 60)
    assert factor == pytest.approx((1 / 3) / (4 / 60) / ((2 / 3) / (56 / 60)))
    assert found.collect == {2: 24}, "28 of 84 are a third, and the others stay"
    assert found.effective[0] == pytest.approx(60)


def test_a_snapshot_takes_the_weights_and_the_shares_come_out_even(store: Store, tmp_path: Path) -> None:
    found = advise(store, read_evaluated(store, "e1", measure="match"))
    assert found.weights is not None
    path = tmp_path / "weights.json"
    path.write_text(found.weights.to_json(), "utf-8")
    made = store.snapshots.create("weighed", "select clip_id from clips", weights=read_weights(path))
    weights = store.snapshots.clips_table("weighed", ["cluster_id"])
    of_sea = sum(row["weight"] for row in weights.to_pylist() if row["cluster_id"] == 2)
    assert of_sea / 60 == pytest.approx(1 / 3, rel=1e-5)
    assert made.balance is not None
    assert made.balance["why"]["categories"] == ["sea", "accounts"]
    assert made.balance["effective_size"] == pytest.approx(effective_size(weights["weight"].to_numpy()))
    assert found.effective[1] == pytest.approx(made.balance["effective_size"])
    again = advise(store, read_evaluated(store, "first", measure="match"), snapshot="weighed")
    assert again.scarce == [], "in the weighed snapshot nothing is scarce any more"
    store.snapshots.delete("weighed")


def test_no_clip_weighs_more_than_the_cap(store: Store) -> None:
    found = advise(store, read_evaluated(store, "first", measure="match"), cap=2.0)
    assert found.weights is not None
    store.snapshots.create("capped", "select clip_id from clips", weights=found.weights)
    weights = store.snapshots.rows("capped")["weight"].to_numpy()
    assert weights.max() == pytest.approx(2.0)
    assert weights.mean() == pytest.approx(1.0)
    assert found.at_cap == 4
    store.snapshots.delete("capped")


def test_weights_of_other_clusters_are_refused(store: Store, tmp_path: Path) -> None:
    old = GivenWeights("cluster_id", {"2": 4.0}, fingerprint="clusters/2/old")
    with pytest.raises(StoreError, match="make the weights again: reel balance --weak"):
        store.snapshots.create("stale", "select clip_id from clips", weights=old)
    with pytest.raises(StoreError, match="no clip of the query has one of the values of cluster_id"):
        store.snapshots.create("none", "select clip_id from clips", weights=GivenWeights("cluster_id", {"9": 4.0}))
    with pytest.raises(StoreError, match="the weight of cluster_id 2 is -1"):
        GivenWeights("cluster_id", {"2": -1.0})
    for text in ("[]", "{", '{"kind": "reelwright weights"}', '{"kind": "reelwright weights", "weights": {"2": "x"}}'):
        (tmp_path / "w.json").write_text(text)
        with pytest.raises(StoreError, match="weights"):
            read_weights(tmp_path / "w.json")


def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match="'frst' is not a known evaluation.*first"):
        read_evaluated(store, "frst")
    with pytest.raises(StoreError, match="both compares base, tuned; choose one with --model"):
        read_evaluated(store, "both")
    with pytest.raises(StoreError, match="has a value of mos:overall; choose one with --measure: match"):
        read_evaluated(store, "first")
    with pytest.raises(StoreError, match="a measure is a number"):
        read_evaluated(store, "first", measure="prompt")


def test_categories_of_too_few_prompts_are_counted(store: Store) -> None:
    every = read_evaluated(store, "first", measure="match")
    kept = [one for one in every.generations if one.category != "sea" or one.prompt_id in ("sea-0", "sea-1")]
    lines = "\n".join(words(advise(store, replace(every, generations=kept))))
    assert "1 of 4 categories have fewer than 3 prompts, too few to be called weak" in lines
    assert "below the others all the same: sea" in lines


def test_ratings_and_lower_is_better(store: Store) -> None:
    def rows(rater: str, low: str, *, is_human: bool, repeat: int = 0) -> list[dict]:
        return [
            {"rating_id": f"{rater}-{repeat}-{category}-{i}", "evaluation_id": "e1", "kind": "mos", "rater": rater,
             "generation_id": f"{category}-{i}-0", "dimension": "overall", "is_human": is_human, "repeat": repeat,
             "value": (2.0 if category == low else 4.0) + i / 10}
            for category, prompts in PROMPTS.items() for i in range(len(prompts))
        ]  # fmt: skip

    store.append("ratings", rows("judge", "sea", is_human=False))
    assert [one.score.name for one in advise(store, read_evaluated(store, "first")).weak] == ["sea"]
    store.append("ratings", rows("other", "forest", is_human=False))
    with pytest.raises(StoreError, match="several judges; .* mos:overall@judge or mos:overall@other"):
        read_evaluated(store, "first")
    store.append("ratings", rows("ann", "city", is_human=True) + rows("ann", "forest", is_human=True, repeat=1))
    own = read_evaluated(store, "first", measure="mos:overall@other")
    assert [one.score.name for one in advise(store, own).weak] == ["forest"]
    assert read_evaluated(store, "first").measure == "mos:overall@people"
    rated = advise(store, read_evaluated(store, "first"))
    assert [one.score.name for one in rated.weak] == ["city"]
    assert rated.scarce == []
    assert rated.weights is None
    turned = read_evaluated(store, "first", measure="-match")
    assert max(one.value or 0 for one in turned.generations) < 0
    store.delete("ratings", "true")


def test_the_command_prints_it_and_writes_the_file(store: Store, call, tmp_path: Path) -> None:
    asked = ("balance", "--store", store.uri, "--weak", "first", "--measure", "match")
    done = call(*asked, "--out", tmp_path / "w.json")
    assert done.returncode == 0, done.stderr
    assert "weigh up x" in done.stdout
    assert "collect: no footage is near" in done.stdout
    assert "as good as" in done.stdout
    made = call("snapshot", "create", "up", "--store", store.uri, "--sql", "select clip_id from clips",
                "--weights", tmp_path / "w.json")  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "weights by the evaluation first per cluster_id: 2 x 7" in made.stdout
    assert "the weights of a file" in call("snapshot", "list", "--store", store.uri).stdout
    facts = json.loads(call(*asked, "--json").stdout)
    assert facts["categories"][0]["near"][0]["cluster_name"] == "sea"
    assert "belong to --weak" in call("balance", "--store", store.uri, "--measure", "match").stderr
    store.snapshots.delete("up")
