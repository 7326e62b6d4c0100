"""The page of an evaluation, and the commands of people: figures equal those computed by hand from the rows."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pyarrow as pa
import pytest

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.evaluations import find_evaluation
from reelwright.evaluation.rating.answers import as_shown, read_answer
from reelwright.evaluation.rating.study import Settings, Study
from reelwright.evaluation.statistics.bootstrap import Interval, Resamples, mean_interval
from reelwright.evaluation.statistics.pairs import Strengths
from reelwright.pipelines.evaluate.rating.studies import Answers, make_study
from reelwright.pipelines.evaluate.report.figures import figures
from reelwright.pipelines.evaluate.report.page import ends, render, share, signed, two_digits, write_page
from tests.conftest import Reel
from tests.pipelines.evaluate.made import make_evaluation

RATERS = ("anna", "ben", "chen")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Rated: videos of `tuned` better by a point, pairs by a rule, one dimension by a judge too, two measures."""
    store = make_evaluation(tmp_path_factory.mktemp("evaluation"))
    evaluation = find_evaluation(store, "first")
    rng = np.random.default_rng(0)
    mos = make_study(store, evaluation, Settings("mos", ("overall", "text_alignment"), RATERS, repeats=0.3))
    _answer(store, mos, lambda item, name: int(np.clip(2 + int(item.generation_id[0]) + rng.integers(0, 3), 1, 5)))
    gsb = make_study(store, evaluation, Settings("gsb", ("overall",), RATERS))
    _answer(store, gsb, lambda item, name: {"0": -1, "1": int(rng.integers(-1, 2)), "2": 1}[item.generation_id[1]])
    made = store.read("generations", ["generation_id"], "state = 'ok'").column(0).to_pylist()
    judged = [
        {"rating_id": f"j{name}", "evaluation_id": "e1f0", "kind": "mos", "generation_id": name, "dimension": "overall",
         "value": 3.25 + int(name[0]), "rater": "judge-7b", "is_human": False, "repeat": 0}
        for name in made
    ]  # fmt: skip
    store.append("ratings", judged)
    meaning = {"meaning": "change of brightness"}
    schema = [pa.field("generation_id", pa.string()), pa.field("flicker", pa.float64(), metadata=meaning)]
    values = [0.01 * (1 + i) for i in range(len(made))]
    store.merge("generations", pa.table([made, values], schema=pa.schema(schema)), on="generation_id")
    return store


def _answer(store: Store, study: Study, value: Any) -> None:
    given = []
    for rater, tasks in study.base.items():
        for task in tasks:
            values = {name: value(study.items[task.item_id], name) for name in study.settings.dimensions}
            sent = {"task_id": task.task_id, "values": as_shown(task, values), "seconds": 3.0}
            given.append(read_answer(study, rater, sent))
    Answers(store, study).save(given)


def test_means_are_those_of_the_rows(store: Store) -> None:
    found = figures(store, find_evaluation(store, "first"))
    [people] = [one for one in found.means if (one.by, one.name) == ("people", "overall")]
    rows = [r for r in store.read("ratings").to_pylist()
            if r["kind"] == "mos" and r["is_human"] and r["repeat"] == 0 and r["dimension"] == "overall"]  # fmt: skip
    of_video: dict[str, list[float]] = {}
    for row in rows:
        of_video.setdefault(row["generation_id"], []).append(row["value"])
    videos = {name: float(np.mean(values)) for name, values in of_video.items()}
    assert {len(values) for values in of_video.values()} == {3}
    for m, model in enumerate(("base", "tuned")):
        mine = [videos.get(f"{m}{p}aa", 1.0) for p in range(4)]  # p3 failed for `tuned`: the lowest score
        expected = mean_interval(np.array(mine), np.ones(4), Resamples(4))
        assert people.values[model].value == pytest.approx(sum(mine) / 4, abs=1e-12)
        assert (people.values[model].low, people.values[model].high) == pytest.approx((expected.low, expected.high))
        there = [videos[f"{m}{p}aa"] for p in range(4) if f"{m}{p}aa" in videos]
        assert people.made[model].value == pytest.approx(np.mean(there), abs=1e-12)
    made = [videos[f"0{p}aa"] - videos[f"1{p}aa"] for p in range(3)]
    assert people.made_differences["base", "tuned"].value == pytest.approx(np.mean(made), abs=1e-12)
    apart = np.mean([*made, videos["03aa"] - 1.0])
    assert people.differences["base", "tuned"].value == pytest.approx(apart, abs=1e-12)
    assert (people.prompts, people.failed) == (4, 1)
    of_judge = found.joined["judge-7b"]
    assert of_judge["overall"]["base"].value == pytest.approx((2 * people.values["base"].value + 3.25) / 3)
    of_tuned = (2 * people.values["tuned"].value + (3 * 4.25 + 1) / 4) / 3
    assert of_judge["overall"]["tuned"].value == pytest.approx(of_tuned)
    assert set(of_judge) == {"overall"}
    [measure] = [one for one in found.means if one.by == "measure"]
    assert (measure.name, measure.meaning) == ("flicker", "change of brightness")
    assert measure.values["base"].value == pytest.approx(0.025)


def test_pairs_agreement_and_categories_are_those_of_the_rows(store: Store) -> None:
    found = figures(store, find_evaluation(store, "first"))
    rows = [r for r in store.read("ratings").to_pylist() if r["kind"] == "gsb" and r["repeat"] == 0]
    values = [row["value"] for row in rows]
    [pairs] = found.pairs
    gsb, made = pairs.gsb["base", "tuned"], pairs.made["base", "tuned"]
    assert (made.good, made.same, made.bad) == tuple(values.count(v) for v in (1.0, 0.0, -1.0))
    assert (made.number, gsb.number) == (9, 12)
    assert (pairs.failed, pairs.votes, gsb.good - made.good) == (1, 3, 3), "what failed lost"
    assert pairs.intervals["base", "tuned"].value == pytest.approx(gsb.value)
    assert isinstance(pairs.strengths, Strengths)
    assert pairs.strengths.strengths["tuned"].value == pytest.approx(np.log(gsb.bad / gsb.good), abs=1e-9)
    mos = [r for r in store.read("ratings").to_pylist() if r["kind"] == "mos" and r["is_human"] and not r["repeat"]]
    items = sorted({r["generation_id"] for r in mos})
    data = np.full((3, len(items)), np.nan)
    for row in mos:
        if row["dimension"] == "text_alignment":
            data[RATERS.index(row["rater"]), items.index(row["generation_id"])] = row["value"]
    alpha = krippendorff.alpha(data, level_of_measurement="ordinal")
    assert found.alphas["mos", "text_alignment"] == pytest.approx(alpha, abs=1e-9)
    assert set(found.alphas) == {("mos", "overall"), ("mos", "text_alignment"), ("gsb", "overall")}
    by_name = {rater.name: rater for rater in found.raters}
    assert set(by_name) == {*RATERS, "judge-7b"}
    assert not by_name["judge-7b"].is_human
    assert by_name["judge-7b"].own is None
    own = by_name["anna"].own
    assert own is not None
    assert own.repeats == 4  # 2 of 7 videos, in two dimensions
    assert by_name["anna"].median_s == 3.0
    people, judge, measures = found.categories
    assert [table.title for table in found.categories] == ["People", "Judge judge-7b", "Measures"]
    assert (people.names, judge.names, measures.names) == (["Text", "Overall"], ["Overall"], ["flicker"])
    assert set(people.rows) == set(measures.rows) == {"animals", "people"}
    text = {(r["generation_id"], r["rater"]): r["value"] for r in mos if r["dimension"] == "text_alignment"}
    animals = [np.mean([text[f"1{p}aa", name] for name in RATERS]) for p in (0,)] + [1.0]  # p3 failed
    assert people.rows["animals"][0]["tuned"].value == pytest.approx(np.mean(animals))
    assert people.rows["animals"][0]["tuned"].low == pytest.approx(1.0)
    assert measures.rows["animals"][0]["base"].value == pytest.approx(0.025)
    assert found.counts["tuned"]["failed"] == 1
    assert found.counts["base"]["made"] == 4


def test_a_condition_leaves_the_others_out(store: Store) -> None:
    found = figures(store, find_evaluation(store, "first"), "category = 'people'")
    assert found.counts["base"]["asked"] == 2
    assert {one.prompts for one in found.means} == {2}
    assert found.wanted is None
    assert all(set(table.rows) == {"people"} for table in found.categories)
    none = render(store, find_evaluation(store, "first"), "category = 'nothing'")
    assert "No videos pass the condition" in none
    with pytest.raises(StoreError, match="colour"):
        figures(store, find_evaluation(store, "first"), "colour = 3")


def test_the_page_holds_all_it_shows_and_escapes_it(store: Store, tmp_path: Path) -> None:
    path = write_page(store, find_evaluation(store, "first"), tmp_path)
    text = path.read_text()
    assert path.name == "evaluation.html"
    assert text.count("data:video/mp4;base64,") == 7
    assert "autoplay muted loop" in text
    assert "out of memory" in text
    assert "<b>slowly</b>" not in text
    assert "&lt;b&gt;slowly" in text
    assert "\u202e" not in text
    assert "<script" not in text
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    assert not re.search(r"""[>=\s"'-]nan\b""", text, re.I)
    for bar in re.findall(r'<svg class="(?:scale|gsb)".*?</svg>', text, re.S):
        for part in ET.fromstring(bar).iter("rect"):
            assert -0.01 <= float(part.get("x", 0)) <= 100.01
            assert float(part.get("x", 0)) + float(part.get("width", 0)) <= 100.5
    few = render(store, find_evaluation(store, "first"), prompts=1)
    assert few.count("data:video") == 2


def test_scores_of_a_published_benchmark_stand_side_by_side(tmp_path: Path) -> None:
    store = make_evaluation(tmp_path, failed=())
    evaluation = find_evaluation(store, "first")
    one = {"benchmark": "VBench-2.0", "dimensions": {"Human_Clothes": 0.9}, "categories": {"Physics": 0.5}}
    one["missing"] = []  # type: ignore[assignment]
    other = {**one, "dimensions": {"Human_Clothes": 0.8, "Diversity": 0.25}, "total": None, "missing": ["Material"]}
    said = json.dumps({"base": {**one, "total": 0.621}, "tuned": other})
    text = render(store, evaluation | {"benchmark_scores": said}, prompts=0)
    assert "62.1 %" in text
    assert "Human Clothes" in text
    assert "25.0 %" in text
    assert "1 dimensions missing" in text
    assert "Benchmarks" not in render(store, evaluation, prompts=0)


def test_a_model_that_learned_from_rewards_is_named_with_them(store: Store) -> None:
    evaluation = find_evaluation(store, "first")
    assert "Trained on rewards" not in render(store, evaluation, prompts=0)
    lineage = json.loads(evaluation["lineage"])
    lineage["tuned"]["learned_from"] = [{"label": "quality", "name": "hps<v3>", "models": []}]
    text = render(store, evaluation | {"lineage": json.dumps(lineage)}, prompts=0)
    (said,) = re.findall(r"Trained on rewards:</b> <bdi>(.*?)</bdi> on <bdi>(.*?)</bdi>", text)
    assert said == ("tuned", "quality (hps&lt;v3&gt;)")


def test_two_judges_are_two_and_r_is_with_people(store: Store) -> None:
    rows = [
        {"rating_id": f"o{r['rating_id']}", "evaluation_id": "e1f0", "kind": "mos", "dimension": "overall",
         "generation_id": r["generation_id"], "value": 5.0, "rater": "judge-1b", "is_human": False, "repeat": 0}
        for r in store.read("ratings", filter="rater = 'judge-7b'").to_pylist()
    ]  # fmt: skip
    before = {rater.name: rater.with_rest for rater in figures(store, find_evaluation(store, "first")).raters}
    store.append("ratings", rows)
    try:
        found = figures(store, find_evaluation(store, "first"))
        values = {one.rater: one.values["base"].value for one in found.means if one.by == "judge"}
        assert values == {"judge-7b": pytest.approx(3.25), "judge-1b": pytest.approx(5)}
        assert set(found.joined) == {"judge-7b", "judge-1b"}
        after = {rater.name: rater.with_rest for rater in found.raters}
        assert np.isnan(after.pop("judge-1b")), "one answer throughout correlates with nothing"
        assert after == pytest.approx(before)
        assert "judge-1b" in render(store, find_evaluation(store, "first"), prompts=0)
    finally:
        store.delete("ratings", "rater = 'judge-1b'")


def test_failures_count_where_prompts_were_drawn_and_where_one_model_is_alone(tmp_path: Path) -> None:
    store = make_evaluation(tmp_path, models=("only",), failed=(("only", "p1"),))
    rows = [
        {"rating_id": f"r{p}", "evaluation_id": "e1f0", "kind": "mos", "dimension": "overall", "value": 4.0,
         "generation_id": f"0{p}aa", "rater": "anna", "is_human": True, "repeat": 0}
        for p in (0, 2, 3)
    ]  # fmt: skip
    store.append("ratings", rows[:1])
    [drawn] = figures(store, find_evaluation(store, "first")).means
    assert (drawn.values["only"].value, drawn.failed) == (4.0, 0), "its prompt was not drawn"
    store.append("ratings", rows[1:])
    [whole] = figures(store, find_evaluation(store, "first")).means
    assert (whole.values["only"].value, whole.made["only"].value) == (pytest.approx(13 / 4), 4.0)


def test_what_was_not_made_yet_is_asked_for(tmp_path: Path) -> None:
    store = make_evaluation(tmp_path, failed=())
    text = render(store, find_evaluation(store, "first") | {"wanted": 12}, prompts=0)
    assert "<b>12</b><span>videos asked for</span>" in text
    assert '<b class="alarm">4</b><span>not made yet</span>' in text
    assert "not made yet" not in render(store, find_evaluation(store, "first"), "prompt_id <> 'p0'", prompts=0)


def test_a_page_without_ratings_says_how_to_begin(tmp_path: Path) -> None:
    store = make_evaluation(tmp_path, models=("only",), failed=())
    text = render(store, find_evaluation(store, "first"))
    assert "Nobody has scored a video yet" in text
    assert text.count("data:video/mp4;base64,") == 4


def test_numbers_are_written_for_people() -> None:
    assert [two_digits(v) for v in (3.456, float("nan"), None)] == ["3.46", "–", "–"]
    assert [signed(v) for v in (0.314, -0.02, 0.0, -0.001234)] == ["+0.31", "−0.02", "+0.00", "−0.0012"]
    assert [share(v) for v in (0.0, 0.004, 0.5)] == ["0 %", "below 1 %", "50 %"]
    assert ends([]) == (0.0, 1.0)


def test_bars_begin_at_zero_where_all_values_have_one_sign() -> None:
    above, below = Interval(2.0, 1.0, 4.0), Interval(-2.0, -4.0, -1.0)
    assert (ends([above])[0], ends([below])[1]) == (0.0, 0.0)
    assert ends([above])[1] == -ends([below])[0] > 4.0
    near = Interval(-9.0, -10.0, -8.0)
    assert ends([near])[1] > -8.0  # far from 0 the axis shows the values alone


def test_the_commands_of_people(tmp_path: Path, call: Reel) -> None:
    store = make_evaluation(tmp_path)
    at = ("--store", store.uri)
    out = call("evaluate", "--rate", "first", "--raters", "anna, ben,chen", "--kind", "gsb", "--send", "s.html", *at)
    assert out.returncode == 0, out.stderr
    assert "3 pairs, 3 raters each, in overall" in out.stdout
    assert "name 2 more raters" in out.stdout
    page = (tmp_path / "s.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    answers = [{"task_id": t["task_id"], "values": {"overall": 1}, "seconds": 1} for t in data["tasks"]["ben"]]
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"study_id": data["study_id"], "rater": "ben", "answers": answers}))
    out = call("evaluate", "--ratings", file, "--report", "first", "-o", "e.html", *at)
    assert "3 new answers, 0 changed" in out.stdout, out.stderr
    assert "page: e.html" in out.stdout
    assert "GSB" in (tmp_path / "e.html").read_text()
    out = call("evaluate", "--rate", "first", "--send", "again.html", *at)
    assert data["study_id"] in out.stdout
    for wrong, why in (
        (("--rate", "second"), "second"),
        (("--rate", "first", "--raters", "a", "--kind", "abx"), "mos or gsb"),
        (("--rate", "first", "--raters", "a", "--rating-study", "b"), "leave one out"),
        (("--rate", "first", "--key-env", "NO_SUCH_KEY"), "holds no secret"),
        (("--report", "first", "--where", "x = 1"), "x"),
        (("--ratings", "none.json"), "cannot be read"),
    ):
        out = call("evaluate", *wrong, *at)
        assert out.returncode == 1, wrong
        assert why in out.stderr
