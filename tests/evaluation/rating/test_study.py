"""Plans of studies: who sees what, how often, on which side; what answers call for."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.errors import UserError
from reelwright.evaluation.rating.answers import (
    Answer,
    answers_of,
    as_shown,
    disagreed,
    progress,
    read_answer,
    rows_of,
    tasks_now,
)
from reelwright.evaluation.rating.study import Item, Settings, Study, plan_study

RATERS = ("anna", "ben", "chen", "dora", "emil", "فرح")
MOS = Settings("mos", ("text_alignment", "overall"), RATERS, seed=3)
GSB = replace(MOS, kind="gsb", dimensions=("overall",))


def items(number: int, kind: str = "mos") -> list[Item]:
    return [Item.of(f"g{i}", f"h{i}" if kind == "gsb" else None, f"prompt {i}") for i in range(number)]


@given(
    number=st.integers(1, 40),
    raters=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["mos", "gsb"]),
)
def test_every_item_has_its_raters_and_raters_share_the_work(number: int, raters: int, seed: int, kind: Any) -> None:
    settings = replace(MOS, kind=kind, raters=RATERS[:raters], seed=seed)
    study = plan_study("e", items(number, kind), settings)
    first = [(rater, task.item_id) for rater, tasks in study.base.items() for task in tasks if not task.repeat]
    assert len(first) == len(set(first))
    assert set(Counter(item for _, item in first).values()) == {min(3, raters)}
    assert len(first) == number * min(3, raters)
    loads = Counter(rater for rater, _ in first)
    assert max(loads.values()) - min(loads[rater] for rater in settings.raters) <= 1
    more = [(rater, task.item_id) for rater, tasks in study.extra.items() for task in tasks]
    assert not set(more) & set(first)
    assert len(more) == len(set(more)) == number * min(2, max(0, raters - 3))
    ids = [task.task_id for part in (study.base, study.extra) for tasks in part.values() for task in tasks]
    assert len(ids) == len(set(ids))
    assert plan_study("e", items(number, kind)[::-1], settings) == study == Study.from_json(study.to_json())


def test_the_text_s_dimension_is_asked_where_there_is_text_and_kept_where_it_was_answered() -> None:
    study = plan_study("e", [Item.of("g0", None, "text"), Item.of("g1", None, " ", "i2v", "abc")], MOS)
    asked = {item.generation_id: study.asked(item.item_id) for item in study.items.values()}
    assert asked == {"g0": ("text_alignment", "overall"), "g1": ("overall",)}
    task = next(t for t in study.base["anna"] if study.items[t.item_id].generation_id == "g1")
    for values in ({"overall": 3}, {"text_alignment": 2, "overall": 3}):
        answer = read_answer(study, "anna", {"task_id": task.task_id, "values": values})
        assert answer.values == values
        assert answers_of(study, rows_of(study, answer)) == {("anna", task.task_id): answer}
    with pytest.raises(UserError, match="a value for each of overall"):
        read_answer(study, "anna", {"task_id": task.task_id, "values": {"text_alignment": 2}})
    with pytest.raises(UserError, match="some videos have no text"):
        plan_study("e", [Item.of("g1", None, "", "i2v", "abc")], replace(MOS, dimensions=("text_alignment",)))


def test_a_picture_s_dimension_is_asked_where_a_picture_was_given() -> None:
    mixed = [Item.of("g0", None, "text"), Item.of("g1", None, "", "i2v", "abc"), Item.of("g2", None, "on", "vc")]
    study = plan_study("e", mixed, replace(MOS, dimensions=("image_alignment", "overall"), raters=("anna",)))
    found = {item.generation_id: study.asked(item.item_id) for item in study.items.values()}
    assert found == {"g0": ("overall",), "g1": ("image_alignment", "overall"), "g2": ("image_alignment", "overall")}
    for task in study.base["anna"]:
        asked = study.asked(task.item_id)
        answer = read_answer(study, "anna", {"task_id": task.task_id, "values": dict.fromkeys(asked, 4), "seconds": 1})
        assert [row["dimension"] for row in rows_of(study, answer)] == list(asked)
        with pytest.raises(UserError, match="a value for each of"):
            read_answer(study, "anna", {"task_id": task.task_id, "values": {"image_alignment": 4}, "seconds": 1})
    with pytest.raises(UserError, match="nothing else is asked"):
        plan_study("e", mixed, replace(MOS, dimensions=("image_alignment",)))


def test_repeats_come_late_and_from_the_other_side() -> None:
    study = plan_study("e", items(120, "gsb"), replace(GSB, repeats=0.1))
    for tasks in study.base.values():
        again = {task.item_id: place for place, task in enumerate(tasks) if task.repeat}
        first = {task.item_id: place for place, task in enumerate(tasks) if not task.repeat}
        assert len(again) == 6  # of 60
        for item, place in again.items():
            assert place - first[item] >= 10
            assert tasks[place].is_swapped is not tasks[first[item]].is_swapped
    sides = Counter(task.is_swapped for tasks in study.base.values() for task in tasks)
    assert 0.4 < sides[True] / sides.total() < 0.6
    orders = [[task.item_id for task in study.base[rater] if not task.repeat] for rater in RATERS]
    assert all(order != sorted(order) for order in orders)
    other = plan_study("e", items(120, "gsb"), replace(GSB, repeats=0.1, seed=4))
    assert other.study_id != study.study_id
    assert [t.item_id for t in other.base["anna"]] != [t.item_id for t in study.base["anna"]]


@pytest.mark.parametrize("kind", ["mos", "gsb"])
def test_attention_checks_have_an_answer_each_and_count_apart(kind: Any) -> None:
    settings = replace(MOS if kind == "mos" else GSB, checks=0.1)
    study, plain = (plan_study("e", items(60, kind), replace(settings, checks=share)) for share in (0.1, 0))
    checks = [(rater, task) for rater, tasks in study.base.items() for task in tasks if task.expected is not None]
    assert Counter(rater for rater, _ in checks) == dict.fromkeys(RATERS, 3)  # of 30 and their repeats
    assert {task.expected for _, task in checks} <= ({1, 2, 3, 4, 5} if kind == "mos" else {1, 0, -1})
    assert len({task.expected for _, task in checks}) > 1
    for rater, task in checks:
        assert study.base[rater].index(task) >= 2
        assert task.item_id not in {one.item_id for one in study.base[rater] if one.expected is None}
    assert [len(tasks) - 3 for tasks in study.base.values()] == [len(tasks) for tasks in plain.base.values()]
    assert not any(task.expected for tasks in study.extra.values() for task in tasks)
    given: dict[tuple[str, str], Answer] = {}
    for rater, task in checks:
        others = [one for one in ([1, 2, 3, 4, 5] if kind == "mos" else [1, 0, -1]) if one != task.expected]
        value = others[0] if rater == "ben" else task.expected
        sent = {"task_id": task.task_id, "values": dict.fromkeys(settings.dimensions, value), "seconds": 1}
        given[rater, task.task_id] = read_answer(study, rater, sent)
    done = progress(study, given)
    assert (done["anna"].checks, done["anna"].passed) == (3, 3)
    assert (done["ben"].checks, done["ben"].passed) == (3, 0)
    rows = [row for answer in given.values() for row in rows_of(study, answer)]
    assert {(row["kind"], row["generation_id"], row["other_id"]) for row in rows} == {("check", None, None)}
    assert answers_of(study, rows) == given
    assert disagreed(study, given) == set()


def test_few_items_are_not_checked() -> None:
    study = plan_study("e", items(5), replace(MOS, checks=0.5))
    assert not any(task.expected for tasks in study.base.values() for task in tasks)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"raters": ()}, "names of its raters"),
        ({"raters": ("a", "a")}, "each once"),
        ({"raters": ("a\n",)}, "printable"),
        ({"raters": ("x" * 61,)}, "1 to 60"),
        ({"dimensions": ("beauty",)}, "got beauty"),
        ({"dimensions": ()}, "got none"),
        ({"kind": "abx"}, "not 'abx'"),
        ({"kind": "gsb"}, "needs pairs"),
        ({"repeats": 0.6}, "0 to 0.5"),
        ({"per_item": 0}, "1 or more raters"),
    ],
)
def test_settings_that_make_no_study_are_refused(change: dict, why: str) -> None:
    with pytest.raises(UserError, match=why):
        plan_study("e", items(3), replace(MOS, **change))


def test_items_that_make_no_study_are_refused() -> None:
    with pytest.raises(UserError, match="needs videos"):
        plan_study("e", [], MOS)
    with pytest.raises(UserError, match="twice"):
        plan_study("e", items(2) * 2, MOS)


def answer(study: Study, rater: str, item: str, values: tuple[int, ...]) -> Answer:
    [task] = [t for t in (*study.base[rater], *study.extra[rater]) if t.item_id == item and not t.repeat]
    shown = as_shown(task, dict(zip(study.settings.dimensions, values, strict=True)))
    return read_answer(study, rater, {"task_id": task.task_id, "values": shown, "seconds": 2.5})


@pytest.mark.parametrize(
    ("settings", "given_values", "far"),
    [
        (MOS, ((4, 3), (4, 4), (5, 4)), False),
        (MOS, ((4, 3), (4, 5), (4, 4)), True),
        (GSB, ((1,), (0,), (1,)), False),
        (GSB, ((1,), (0,), (-1,)), True),
    ],
)
def test_two_more_raters_see_an_item_on_which_three_disagree(settings: Settings, given_values: Any, far: bool) -> None:
    study = plan_study("e", items(9, settings.kind), settings)
    item = sorted(study.items)[0]
    planned = [r for r in RATERS if any(t.item_id == item and not t.repeat for t in study.base[r])]
    spare = [r for r in RATERS if any(t.item_id == item for t in study.extra[r])]
    answers: dict[tuple[str, str], Answer] = {}
    for rater, values in zip(planned, given_values, strict=True):
        assert not disagreed(study, answers)  # not before all have answered
        one = answer(study, rater, item, values)
        answers[rater, one.task_id] = one
    assert disagreed(study, answers) == ({item} if far else set())
    for rater in spare:
        extra = [t.item_id for t in tasks_now(study, rater, answers)[len(study.base[rater]) :]]
        assert extra == ([item] if far else [])
    shown = progress(study, answers)
    assert shown[planned[0]].answered == 1
    assert shown[planned[0]].median_s == 2.5
    assert shown[spare[0]].answered == 0
    assert shown[spare[0]].tasks == len(study.base[spare[0]]) + far


def test_an_answer_is_the_same_rows_whenever_it_is_sent_and_comes_back_from_them() -> None:
    study = plan_study("e", items(30, "gsb"), replace(GSB, dimensions=("overall", "motion_quality"), repeats=0.2))
    swapped = next(t for t in study.base["ben"] if t.is_swapped)
    sent = {"task_id": swapped.task_id, "values": {"motion_quality": 0, "overall": 1}, "seconds": 3}
    one = read_answer(study, "ben", sent)
    assert one.values == {"overall": -1, "motion_quality": 0}  # the video shown first, the other model's, was better
    rows = rows_of(study, one)
    item = study.items[swapped.item_id]
    assert [(r["dimension"], r["value"]) for r in rows] == [("overall", -1.0), ("motion_quality", 0.0)]
    assert {(r["generation_id"], r["other_id"], r["shown_first"]) for r in rows} == {
        (item.generation_id, item.other_id, item.other_id)
    }
    again = rows_of(study, read_answer(study, "ben", sent | {"values": {"overall": 0, "motion_quality": 0}}))
    assert [r["rating_id"] for r in again] == [r["rating_id"] for r in rows]
    repeat = next(t for t in study.base["ben"] if t.repeat)
    other = rows_of(study, read_answer(study, "ben", sent | {"task_id": repeat.task_id}))
    assert not {r["rating_id"] for r in other} & {r["rating_id"] for r in rows}
    assert answers_of(study, [*rows, {**rows[0], "study_id": "another"}]) == {("ben", swapped.task_id): one}


@pytest.mark.parametrize(
    "change",
    [
        {"task_id": "nothing"}, {"task_id": 3}, {"task_id": None}, {"values": {"overall": 3}}, {"values": [1, 2]},
        {"values": {"text_alignment": 0, "overall": 3}}, {"values": {"text_alignment": 6, "overall": 3}},
        {"values": {"text_alignment": True, "overall": 3}}, {"values": {"text_alignment": 2.5, "overall": 3}},
        {"values": {"text_alignment": "3", "overall": 3}}, {"values": {"text_alignment": 1, "overall": 3, "x": 1}},
        {"seconds": -1}, {"seconds": float("nan")}, {"seconds": "3"}, {"seconds": 1e9}, {"seconds": True},
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(change: dict) -> None:
    study = plan_study("e", items(5), MOS)
    sent = {
        "task_id": study.base["anna"][0].task_id,
        "values": {"text_alignment": 3, "overall": 3},
        "seconds": 1.0,
    } | change
    with pytest.raises(UserError):
        read_answer(study, "anna", sent)


def test_another_s_task_and_an_unknown_rater_are_refused() -> None:
    study = plan_study("e", items(5), MOS)
    task = study.base["anna"][0].task_id
    sent = {"task_id": task, "values": {"text_alignment": 3, "overall": 3}}
    assert read_answer(study, "anna", sent).seconds == 0
    for rater in ("ben", "eve", None, ["anna"], "\ud800"):
        with pytest.raises(UserError):
            read_answer(study, rater, sent)
    for nothing in (None, [], "x", 3):
        with pytest.raises(UserError):
            read_answer(study, "anna", nothing)
