"""Samples from SQL: what a person said becomes shares, choices and words, and the rest is left out by its reason."""

import json
from pathlib import Path

import pytest

from reelwright.curation.store import Store
from reelwright.training.errors import TrainError
from reelwright.training.tuning import rows
from reelwright.training.tuning.recipe import JudgeRecipe, RewardRecipe
from reelwright.training.tuning.samples import LeftOut, Pair, Sample, VideoRef
from reelwright.training.tuning.videos import VideoFacts
from tests.training.tuning.miniature import rated_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two prompts with two generations each, and clips of which one has no source and one no size."""
    made = rated_store(tmp_path_factory.mktemp("rated") / "store", 2)
    size = {"width": 64, "height": 48, "fps": 15.0, "num_frames": 9}
    made.append("clips", [
        {"clip_id": "a", "source_md5": "s", **size}, {"clip_id": "b", **size}, {"clip_id": "c", **size, "fps": 0.0},
    ])  # fmt: skip
    return made


def values(*lines: str) -> str:
    return f"select * from (values {', '.join(lines)}) as t"


def test_scores_become_shares_and_the_likeliest_digit(store: Store) -> None:
    given = [("p0m0", "overall", 4), ("p0m0", "overall", 5), ("p0m0", "overall", 5), ("p0m0", "overall", 1),
             ("p1m1", "overall", 2), ("p0m0", "motion_quality", 5)]  # fmt: skip
    sql = values(*map(str, given)) + "(generation_id, dimension, value)"
    first, second, third = sorted(rows.scores(store, sql, JudgeRecipe()), key=lambda one: one.key)
    assert isinstance(second, Sample)
    assert (first.key, second.key, third.key) == ("p0m0:motion_quality", "p0m0:overall", "p1m1:overall")
    assert second.digits == {"1": 0.25, "4": 0.25, "5": 0.5}
    assert json.loads(second.answer) == {"score": 5}
    assert (second.video, second.group, second.dimension) == (VideoRef("generation", "p0m0"), "p0", "overall")
    assert second.prompt == "a dog 0"
    assert isinstance(third, Sample)
    assert third.digits == {"2": 1.0}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("('p0m0', 'overall', 0.0)", "rating"),
        ("('p0m0', 'overall', 6.0)", "rating"),
        ("('p0m0', 'overall', 2.5)", "rating"),
        ("('p0m0', 'overall', null)", "rating"),
        ("('p0m0', 'beauty', 2.0)", "rating"),
        ("('nobody', 'overall', 2.0)", "missing"),
    ],
)
def test_a_score_that_cannot_be_learnt_is_left_out_and_costs_no_other(store: Store, line: str, reason: str) -> None:
    sql = values("('p0m1', 'overall', 1.0)", line, "('p1m0', 'overall', 5.0)") + "(generation_id, dimension, value)"
    found = rows.scores(store, sql, JudgeRecipe())
    assert sorted(one.key for one in found if isinstance(one, Sample)) == ["p0m1:overall", "p1m0:overall"]
    assert [one.reason for one in found if isinstance(one, LeftOut)] == [reason]


def test_choices_are_a_pair_per_answer(store: Store) -> None:
    lines = ["('p0m0', 'p0m1', 'overall', 1)", "('p0m0', 'p0m1', 'overall', -1)", "('p1m0', 'p1m1', 'overall', 0)",
             "('p1m0', 'p1m1', 'overall', 2)", "('p1m0', 'p1m1', 'beauty', 1)", "('p1m0', 'gone', 'overall', 1)",
             "('gone', 'p1m0', 'overall', 1)"]  # fmt: skip
    sql = values(*lines) + "(generation_id, other_id, dimension, value)"
    found = rows.choices(store, sql, RewardRecipe())
    pairs = [one for one in found if isinstance(one, Pair)]
    assert [(one.first.name, one.second.name, one.choices, one.group) for one in pairs] == [
        ("p0m0", "p0m1", {"overall": 1}, "p0"), ("p0m0", "p0m1", {"overall": -1}, "p0"),
        ("p1m0", "p1m1", {"overall": 0}, "p1"),
    ]  # fmt: skip
    assert len({one.key for one in pairs}) == 3
    assert {one.prompt for one in pairs} == {"a dog 0", "a dog 1"}
    assert [one.reason for one in found[3:] if isinstance(one, LeftOut)] == ["rating", "rating", "missing", "missing"]


def test_captions_are_held_out_by_their_source(store: Store) -> None:
    sql = values("('a', ' a dog ')", "('b', 'a cat')", "('a', '  ')", "('b', null)", "('z', 'a fox')")
    found = rows.captions(store, sql + "(clip_id, caption)")
    samples = [one for one in found if isinstance(one, Sample)]
    assert [(one.answer, one.group, one.video) for one in samples] == [
        ("a dog", "s", VideoRef("clip", "a")), ("a cat", "b", VideoRef("clip", "b")),
    ]  # fmt: skip
    assert [(one.key, one.reason) for one in found if isinstance(one, LeftOut)] == [
        ("a:2", "answer"), ("b:3", "answer"), ("z:4", "missing"),
    ]  # fmt: skip


def test_facts_are_those_of_rows_that_have_them_all(store: Store) -> None:
    clips = [Sample(name, VideoRef("clip", name), answer="a dog") for name in ("a", "c", "z")]
    pair = Pair("p", VideoRef("generation", "p0m0"), VideoRef("file", "p0m1"), "a dog", {"overall": 1})
    assert rows.known_facts(store, [*clips, pair, LeftOut("f:1", "line")]) == {
        VideoRef("clip", "a"): VideoFacts(9, 15.0, 64, 48, "a"),
        VideoRef("generation", "p0m0"): VideoFacts(8, 4.0, 56, 56, "p0m0"),
    }


def test_a_query_that_lacks_a_column_says_which(store: Store, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"gives no column caption; it must give clip_id, caption: select clip_id, "):
        rows.captions(store, "select clip_id from clips")
