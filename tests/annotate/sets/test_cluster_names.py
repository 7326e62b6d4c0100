"""Names of clusters: each from its own captions, kept while the cluster stays, and never another's in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate import PartialResult, Postponed
from reelwright.annotate.chat.base import ChatError
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.chat.registry import close_chats
from reelwright.annotate.sets.cluster_names import ClusterNames
from reelwright.annotate.sets.clustering.names import by_terms, told_apart
from reelwright.annotate.sets.clustering.stop_words import ENGLISH
from tests.annotate.chat.conftest import Server
from tests.annotate.sets.embedded_clips import about, blobs, clips_of


def clustered(vectors: np.ndarray, which: np.ndarray, captions: list | None = None, **more: Any) -> pa.Table:
    """As `clusters` leaves them: the clusters are the blobs."""
    return clips_of(vectors, captions, **more).append_column("cluster_id", pa.array(which, pa.int32()))


def run(clips: pa.Table, state: Any = None, **parameters: Any) -> tuple[dict[int, str], Any]:
    """Cluster -> name, and the state as it comes back from the store's JSON."""
    try:
        found, state = ClusterNames(**parameters)(clips, state)
        problem = None
    except PartialResult as part:
        found, state, problem = part.columns, part.state, part.__cause__
    assert set(found) == {"cluster_name", "cluster_named_by"}
    named = dict(zip(clips["cluster_id"].to_pylist(), found["cluster_name"].to_pylist(), strict=True))
    by = parameters["chat"].model if "chat" in parameters else "c-tf-idf"
    assert [one and by for one in found["cluster_name"].to_pylist()] == found["cluster_named_by"].to_pylist()
    if problem:
        raise PartialResult(named, json.loads(json.dumps(state))) from problem
    return named, json.loads(json.dumps(state))


def test_clusters_are_named_by_their_own_words() -> None:
    vectors, which = blobs([60, 50, 40, 30, 20])
    named, _ = run(clustered(vectors, which, about(which)))
    assert [set(named[i].split(", ")) for i in range(5)] == [
        {"dog", "beach", "waves"}, {"city", "traffic", "night"}, {"kitchen", "onions", "chef"},
        {"mountain", "snow", "peak"}, {"robot", "castle", "cartoon"},
    ]  # fmt: skip


def test_without_clips_or_captions_there_is_no_name() -> None:
    vectors, which = blobs([5])
    assert run(clustered(vectors, which))[0] == {0: None}
    assert run(clustered(vectors[:0], which[:0]))[0] == {}
    assert run(clustered([*vectors[:4], None], which, ["a dog"] * 5))[0] == {0: None}  # of the last clip


@pytest.mark.parametrize("change", ["another place", "another id", "another model of embeddings"])
def test_a_name_is_kept_while_its_cluster_stays(change: str) -> None:
    vectors, which = blobs([30, 20])
    clips = clustered(vectors, which, ["a dog"] * 50)
    _, state = run(clips)
    others = ["a cat"] * 50
    assert run(clustered(vectors, which, others), state)[0] == {0: "dog", 1: "dog (2)"}
    if change == "another place":
        moved = clustered(blobs([30, 20], offset=5)[0], which, others)
    elif change == "another id":
        moved = clustered(vectors, which + 7, others)
    else:
        moved = clustered(vectors, which, others, model="new")
    assert set(run(moved, state)[0].values()) == {"cat", "cat (2)"}


def test_words_that_all_clusters_share_name_none_of_them() -> None:
    names = by_terms([
        ["A dog runs on the beach.", "Dogs on a beach; the video shows dogs."],
        ["一只狗在沙滩上奔跑", "一只狗在沙滩上"],
        ["the of and", ""],
        ["a cat on the beach", "the cat's beach"],
        ["a cat on the beach", "the cat's beach"],
    ])  # fmt: skip
    assert names[0] is not None
    assert names[1] is not None
    assert "dog" in names[0]
    assert "dogs" not in names[0].split(", ")
    assert set(names[1].split(", ")) <= {"一只", "只狗", "狗在", "在沙", "沙滩", "滩上"}, "pairs, as it has no spaces"
    assert names[2] is None
    assert len(set(told_apart(names[3:], [None] * 2))) == 2, "clusters are told apart by name"


def test_a_number_is_added_where_a_name_is_taken() -> None:
    assert told_apart(["dog", None, "dog", "dog"], [None] * 4) == ["dog", None, "dog (2)", "dog (3)"]
    assert told_apart(["dog", "dog (2)", "dog"], [None, "dog (2)", "dog"]) == ["dog (3)", "dog (2)", "dog"]


# --- names by a chat model: a real server on loopback, told by the captions what to answer ---


@pytest.fixture(scope="module")
def lasting() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def server(lasting: Server) -> Iterator[Server]:
    lasting.forget()
    yield lasting
    close_chats()


def told(which: np.ndarray, answers: list[str]) -> list[str]:
    """Captions that hold what the server is to answer about their cluster."""
    return [f"token=t{w} {answers[w]} clip {i}" for i, w in enumerate(which)]


def test_a_chat_model_names_each_cluster_from_its_own_captions(server: Server) -> None:
    vectors, which = blobs([30, 20, 10])
    answers = [f'faults={fault} answer={{"name":"{name}"}}' for fault, name in
               (("429", "dogs"), ("", "night_city"), ("500,cut", "dogs"))]  # fmt: skip
    clips = clustered(vectors, which, told(which, answers))
    named, state = run(clips, chat=server.chat())
    assert named == {0: "dogs", 1: "night_city", 2: "dogs (2)"}
    asked = server.stats()["seen"]
    assert set(asked) == {"t0", "t1", "t2"}
    assert run(clips, state, chat=server.chat())[0] == named
    assert server.stats()["seen"] == asked, "names are kept"


@pytest.mark.parametrize("answer", ['{"name":""}', '{"name":7}', '{"label":"x"}', "dogs", f'{{"name":"{"x" * 61}"}}'])
def test_a_cluster_that_is_not_named_costs_no_other_its_name(server: Server, answer: str) -> None:
    vectors, which = blobs([30, 20])
    clips = clustered(vectors, which, told(which, ['answer={"name":"dogs"}', f"answer={answer}"]))
    with pytest.raises(PartialResult) as part:
        run(clips, chat=server.chat(), attempts=2)
    assert isinstance(part.value.__cause__, ChatError)
    assert "still no valid answer" in str(part.value.__cause__)
    assert part.value.columns == {0: "dogs", 1: None}
    server.forget()
    better = clustered(vectors, which, told(which, ['answer={"name":"cats"}', 'answer={"name":"waves"}']))
    assert run(better, part.value.state, chat=server.chat())[0] == {0: "dogs", 1: "waves"}
    assert set(server.stats()["seen"]) == {"t1"}, "only what has no name is asked about"


def test_a_server_that_is_away_postpones_the_names_and_keeps_those_that_are_known(server: Server) -> None:
    vectors, which = blobs([30, 20])
    first, captions = which == 0, ['answer={"name":"dogs"}']
    _, state = run(clustered(vectors[first], which[first], told(which[first], captions)), chat=server.chat())
    away = ChatModel(model="m", url="http://127.0.0.1:9/v1", patience_s=0, timeout_s=1)
    with pytest.raises(PartialResult) as part:
        run(clustered(vectors, which, about(which)), state, chat=away)
    assert isinstance(part.value.__cause__, Postponed)
    assert part.value.columns == {0: "dogs", 1: None}


def test_the_model_and_prompt_are_in_the_fingerprint_and_the_address_is_not() -> None:
    plain, named = ClusterNames(), ClusterNames(chat=ChatModel(model="m"))
    assert plain.fingerprint != named.fingerprint
    assert named.fingerprint == ClusterNames(chat=ChatModel(model="m", url="http://elsewhere/v1")).fingerprint
    assert any("cluster_name" in one for one in named.models)
    with pytest.raises(ValueError, match="attempts = 0"):
        ClusterNames(attempts=0)


def test_a_name_of_composed_captions_says_so() -> None:
    """Three clusters: captions of a model, composed ones, and most of them composed."""
    vectors, which = blobs([6, 6, 6])
    captions = about(which)
    seen = [text if cluster == 0 or (cluster == 2 and i % 3 == 0) else None
            for i, (text, cluster) in enumerate(zip(captions, which, strict=True))]  # fmt: skip
    composed = [None if text else caption for text, caption in zip(seen, captions, strict=True)]
    clips = clustered(vectors, which, seen)
    place = clips.schema.get_field_index("composed_caption")
    clips = clips.set_column(place, "composed_caption", pa.array(composed, pa.string()))
    found, _ = ClusterNames()(clips, None)
    by = dict(zip(clips["cluster_id"].to_pylist(), found["cluster_named_by"].to_pylist(), strict=True))
    assert by == {0: "c-tf-idf", 1: "c-tf-idf of composed captions", 2: "c-tf-idf of composed captions"}


def test_stop_words_are_those_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    assert ENGLISH == ENGLISH_STOP_WORDS
