"""`reel evaluate` from checkpoints to rows: on Ray, resumable, with failures in the denominator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from reelwright.annotate.chat.prompts import load_prompt
from reelwright.annotate.chat.registry import close_chats
from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import is_one_of
from reelwright.errors import UserError
from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.judging.recipe import JudgeRecipe
from reelwright.evaluation.suites.files import load_suite
from reelwright.model.sampling.video_file import write_image, write_video
from reelwright.pipelines.cli.evaluate_settings import Sampled, models_of
from reelwright.pipelines.cli.generate_options import MachineOptions, SamplingOptions, ShapeOptions, WeightOptions
from reelwright.pipelines.evaluate.judging import given_frames, judge
from reelwright.pipelines.evaluate.measures import measure
from reelwright.pipelines.evaluate.models import Model
from reelwright.pipelines.evaluate.references import picture_id, pictures
from reelwright.pipelines.evaluate.report.page import render
from reelwright.pipelines.evaluate.run import Options, evaluate
from reelwright.pipelines.evaluate.vbench import export_vbench, import_vbench, keep_scores
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.recipe import TrainRecipe
from reelwright.training.tuning.judge_file import write_judge
from tests.conftest import Reel
from tests.pipelines.generate.test_generate import MODEL, SAMPLES, network
from tests.training.rewards.judge_server import JudgeServer

pytestmark = [pytest.mark.usefixtures("ray_local"), pytest.mark.waits]
QUIET = Options(name="first", quiet=True, workers=1)


def save_run(folder: Path, seed: int, *, broken: bool = False, **more: Any) -> Path:
    recipe = TrainRecipe(model=MODEL, samples=SAMPLES, data={"fps": 12})
    kept = Checkpoints(folder / "checkpoints", 3)
    weights = {f"model.{n}": w * (float("nan") if broken else 1) for n, w in network(seed).state_dict().items()}
    about = {"recipe": recipe.model_dump(mode="json"), "recipe_fingerprint": f"{recipe.fingerprint}-{seed}", **more}
    kept.save(10, weights, about)
    kept.wait()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    learned = {"hps": {"name": "hpsv3_general", "models": ["hps#1"], "use": {"weight": 1.0}}}
    return {
        "a": save_run(folder / "a", 0),
        "b": save_run(folder / "b", 1, rewards=learned),
        "broken": save_run(folder / "broken", 2, broken=True),
    }


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    write_image(folder / "dog.png", torch.zeros(3, 48, 64))
    rows = [
        {"id": "boat", "prompt": "a boat at sunset", "category": "water", "samples": 2},
        {"id": "dog", "prompt": "the dog turns", "category": "animals", "kind": "concise", "reference": "dog.png"},
    ]
    (folder / "small.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "small.jsonl"


def models(suite_file: Path, **paths: Path) -> list[Model]:
    how = Sampled(ShapeOptions(), SamplingOptions(), WeightOptions(), MachineOptions(device="cpu"), None)
    return models_of([f"{name}={path}" for name, path in paths.items()], load_suite(suite_file), how)


@pytest.fixture(scope="module")
def store(ray_local: None, tmp_path_factory: pytest.TempPathFactory, runs: dict[str, Path], suite_file: Path) -> Store:
    """A store with an evaluation of a and b."""
    made = Store.open(tmp_path_factory.mktemp("store") / "store", create=True)
    done = evaluate(made, load_suite(suite_file), models(suite_file, a=runs["a"], b=runs["b"]), QUIET)
    assert (done.wanted, done.made, done.failed) == (6, 6, 0)
    return made


def rows_of(store: Store, where: str = "true") -> list[dict[str, Any]]:
    return store.sql(f"select * from generations where {where} order by model, prompt_id, sample").to_pylist()


def test_every_prompt_by_each_model_with_the_same_seeds(store: Store) -> None:
    a, b = rows_of(store, "model = 'a'"), rows_of(store, "model = 'b'")
    assert [(r["prompt_id"], r["sample"], r["seed"], r["task"]) for r in a] == [
        ("boat", 0, 0, "t2v"), ("boat", 1, 1, "t2v"), ("dog", 0, 0, "i2v"),
    ]  # fmt: skip
    assert [(r["prompt_id"], r["seed"]) for r in a] == [(r["prompt_id"], r["seed"]) for r in b]
    shape = ("width", "height", "num_frames", "fps", "state")
    assert {tuple(r[name] for name in shape) for r in [*a, *b]} == {(64, 48, 9, 12, "ok")}
    assert (a[2]["prompt_kind"], a[0]["prompt_kind"]) == ("concise", "short")
    [kept] = pictures(store, [picture_id(a[2]["reference_md5"], 64, 48)]).values()
    picture = cv2.imdecode(np.frombuffer(kept, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (48, 64, 3)
    assert abs(picture.mean() - 127.5) < 2, "0 in -1..1 is grey"
    assert json.loads(a[0]["lineage"])["checkpoint"].endswith("a/checkpoints/step-00000010")
    videos = dict(store.read_generated(r["generation_id"] for r in [*a, *b]))
    assert len(set(videos.values())) == 6, "two seeds, two models: no two videos are one"
    row = store.read("evaluations").to_pylist()[0]
    assert (row["name"], row["models"], row["prompts"], row["wanted"]) == ("first", ["a", "b"], 2, 6)
    assert store.sql("select counts from runs where command = 'evaluate'").num_rows >= 1


def test_nothing_is_made_twice(store: Store, runs: dict[str, Path], suite_file: Path) -> None:
    before = rows_of(store)
    done = evaluate(store, load_suite(suite_file), models(suite_file, a=runs["a"], b=runs["b"]), QUIET)
    assert (done.before, done.made, done.left) == (6, 0, 0)
    assert rows_of(store) == before


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, runs: dict[str, Path], suite_file: Path) -> None:
    """Killed after two videos, and between the commits of the second one's bytes and of its row."""
    store = Store.open(tmp_path / "store", create=True)
    suite, found = load_suite(suite_file), models(suite_file, a=runs["a"])
    assert evaluate(store, suite, found, Options(name="k", quiet=True, limit=2)).left == 1
    first, second = rows_of(store)
    store.delete("generations", is_one_of("generation_id", [second["generation_id"]]))
    done = evaluate(store, suite, found, Options(name="k", quiet=True))
    assert (done.before, done.made) == (2, 1)
    again = rows_of(store)
    assert again[0] == first
    assert again[1] == second, "its row comes from beside its bytes"
    assert store.count("generation_media") == 3


@pytest.mark.exhaustive
def test_failures_are_rows_and_stay_in_the_denominator(tmp_path: Path, runs: dict[str, Path], suite_file: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    suite, found = load_suite(suite_file), models(suite_file, broken=runs["broken"])
    done = evaluate(store, suite, found, QUIET)
    assert (done.wanted, done.made, done.failed) == (3, 0, 3)
    assert {(r["state"], r["error"].split(",")[0]) for r in rows_of(store)} == {
        ("failed", "the network's frames hold numbers that are not finite (NaN or infinity)"),
    }  # fmt: skip
    assert json.loads(rows_of(store)[0]["lineage"])["checkpoint"].endswith("broken/checkpoints/step-00000010")
    assert "not finite" in done.why["broken"]
    done = evaluate(store, suite, found, QUIET)
    assert (done.failed_before, done.failed) == (3, 0)
    done = evaluate(store, suite, found, Options(name="first", quiet=True, retry_failed=True, workers=1))
    assert (done.failed_before, done.failed) == (0, 3)
    assert len(rows_of(store)) == 3
    assert measure(store, done.evaluation_id, ["flicker"], QUIET).wanted == 0


@pytest.mark.exhaustive
def test_a_model_is_added_and_others_are_refused(tmp_path: Path, runs: dict[str, Path], suite_file: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    suite, limited = load_suite(suite_file), Options(name="n", quiet=True, limit=1, workers=1)
    first = evaluate(store, suite, models(suite_file, a=runs["a"]), limited)
    second = evaluate(store, suite, models(suite_file, b=runs["b"]), limited)
    assert first.evaluation_id == second.evaluation_id
    assert store.read("evaluations", ["models", "wanted"]).to_pylist() == [{"models": ["a", "b"], "wanted": 6}]
    with pytest.raises(EvaluationError, match="had other weights"):
        evaluate(store, suite, models(suite_file, a=runs["b"]), limited)
    with pytest.raises(EvaluationError, match="other prompts"):
        evaluate(store, load_suite("tiny"), models(suite_file, a=runs["a"]), limited)
    with pytest.raises(EvaluationError, match="seed 0, and here 5"):
        evaluate(store, suite, models(suite_file, a=runs["a"]), Options(name="n", quiet=True, seed=5))
    fewer = Sampled(ShapeOptions(), SamplingOptions(steps=1), WeightOptions(), MachineOptions(device="cpu"), None)
    with pytest.raises(EvaluationError, match="steps 2, and now 1"):
        evaluate(store, suite, models_of([f"a={runs['a']}"], suite, fewer), limited)
    with pytest.raises(UserError, match="both be called"):
        evaluate(store, suite, models(suite_file, a=runs["a"]) + models(suite_file, a=runs["b"]), limited)


def test_measures_are_columns_made_once_and_a_failure_is_null_with_its_reason(store: Store) -> None:
    [evaluation] = store.read("evaluations", ["evaluation_id"]).column(0).to_pylist()
    bad = {"generation_id": "bad", "evaluation_id": evaluation, "model": "a", "state": "ok"}
    store.add_generations([bad], {"bad": b"no video at all"})
    try:
        found = measure(store, evaluation, ["flicker", "blur"], QUIET)
        assert found.wanted == 7
        assert (found.made["flicker"], found.failed["flicker"]) == (6, 1)
        rows = {row["generation_id"]: row for row in rows_of(store)}
        assert rows["bad"]["flicker"] is None
        assert "does not decode" in rows["bad"]["flicker_error"]
        good = [row for name, row in rows.items() if name != "bad"]
        assert all(row["flicker"] >= 0 and row["blur_score"] > 0 and row["flicker_error"] is None for row in good)
        again = measure(store, evaluation, ["flicker", "blur"], QUIET)
        assert (again.made["flicker"], again.current["flicker"], again.failed["flicker"]) == (0, 7, 1)
        assert store.describe("generations")[-1].computed_by
    finally:
        store.delete("generations", "generation_id = 'bad'")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    running = JudgeServer()
    yield running
    close_chats()
    running.stop()


@pytest.mark.exhaustive
def test_a_judge_s_answers_are_ratings(store: Store, server: JudgeServer) -> None:
    [row] = store.read("evaluations").to_pylist()
    recipe = JudgeRecipe(judge={"chat": {"model": "m", "url": server.url, "timeout_s": 60.0}})
    found = judge(store, row, recipe, QUIET)
    assert found.made == {"text_alignment": 6, "visual_quality": 6, "motion_quality": 6, "overall": 6,
                          "image_alignment": 2}  # fmt: skip
    rated = store.sql("select * from ratings").to_pylist()
    assert len(rated) == 26
    assert {(r["kind"], r["rater"], r["is_human"], r["read_by"]) for r in rated} == {("mos", "m", False, "expectation")}
    assert all(1 <= r["value"] <= 5 and r["value"] != round(r["value"]) for r in rated)
    again = judge(store, row, recipe, QUIET)
    assert (sum(again.made.values()), again.current["overall"]) == (0, 6)
    by_digit = JudgeRecipe(judge=recipe.judge | {"expectation": False}, dimensions={"overall": "how good it is"})
    server.is_refusing = True
    assert judge(store, row, by_digit, QUIET).failed["overall"] == 6
    assert store.sql("select * from ratings").num_rows == 26, "a judge that does not answer costs no answer of before"
    server.is_refusing = False
    other = judge(store, row, by_digit, QUIET)
    assert other.by_digit["overall"] == 6
    values = store.sql("select value, read_by from ratings where dimension = 'overall'").to_pylist()
    assert {(r["value"] == round(r["value"]), r["read_by"]) for r in values} == {(True, "digit")}
    assert len(values) == 6, "the other judge's are replaced"


def test_a_judge_is_asked_about_a_video_s_text_where_it_has_one_and_answers_of_before_stay(
    tmp_path: Path, server: JudgeServer
) -> None:
    mp4 = write_video(tmp_path / "x.mp4", torch.rand(3, 5, 48, 64) * 2 - 1, 12.0, {}).read_bytes()
    store = Store.open(tmp_path / "store", create=True)
    told = {"g0": ("t2v", "a dog"), "g1": ("i2v", " "), "g2": ("i2v", "it turns"), "g3": ("i2v", "")}
    store.add_generations(
        [{"generation_id": name, "evaluation_id": "e", "model": "a", "state": "ok", "task": task, "prompt": prompt,
          "prompt_id": name} for name, (task, prompt) in told.items()],
        dict.fromkeys(told, mp4),
    )  # fmt: skip
    evaluation = {"evaluation_id": "e", "lineage": "{}"}
    asks = {"text_alignment": "how well it shows the text", "overall": "how good it is"}
    recipe = JudgeRecipe(judge={"chat": {"model": "m", "url": server.url, "timeout_s": 60.0}}, dimensions=asks)
    assert judge(store, evaluation, recipe, QUIET).made == {"text_alignment": 2, "overall": 4}

    def of_text() -> dict[str, float]:
        rows = store.sql("select generation_id, value from ratings where dimension = 'text_alignment'").to_pylist()
        return {row["generation_id"]: row["value"] for row in rows}

    assert set(of_text()) == {"g0", "g2"}
    before = {**store.sql("select * from ratings where dimension = 'text_alignment'").to_pylist()[0],
              "rating_id": "before", "generation_id": "g1", "value": 1.5}  # fmt: skip
    store.append("ratings", [before])
    again = judge(store, evaluation, recipe, QUIET)
    assert (sum(again.made.values()), again.current["text_alignment"], of_text()["g1"]) == (0, 3, 1.5)
    other = recipe.model_copy(update={"dimensions": asks | {"text_alignment": "how well it fits the text"}})
    server.is_refusing = True
    assert judge(store, evaluation, other, QUIET).failed["text_alignment"] == 2
    assert set(of_text()) == {"g0", "g1", "g2"}
    server.is_refusing = False
    assert judge(store, evaluation, other, QUIET).made["text_alignment"] == 2
    assert set(of_text()) == {"g0", "g2"}, "another judge's answers do not stay among this one's"


@pytest.mark.exhaustive
def test_a_tuned_judge_s_ratings_are_calibrated_and_say_what_they_were(
    store: Store, server: JudgeServer, tmp_path: Path
) -> None:
    [row] = store.read("evaluations").to_pylist()
    write_judge(tmp_path, {
        "prompt": load_prompt("judge").fingerprint, "aspects": {"overall": "all of it"}, "scale": [1, 5],
        "sampling": {"max_frames": 4, "min_frames": 4}, "calibration": {"overall": {"points": [[1, 2], [5, 3]]}},
        "tuned_on": [rows_of(store, "model = 'a' and prompt_id = 'dog'")[0]["generation_id"]],
    })  # fmt: skip
    tuned = JudgeRecipe(judge={"chat": {"model": "t", "url": server.url}, "calibration": str(tmp_path)})
    found = judge(store, row, tuned, QUIET)
    assert found.made == {"overall": 6}
    assert found.notes[0].startswith("the judge was tuned on people's scores of 1 of the 2 prompts here")
    seen = store.sql("select prompt_id, judge from ratings r join generations using (generation_id) where is_tuned_on")
    assert seen["prompt_id"].to_pylist() == ["dog", "dog"], "of both models"
    assert json.loads(seen["judge"][0].as_py())["models"]
    assert "No opinion of its own" in render(store, row, prompts=0)
    rated = store.sql("select value, uncalibrated from ratings where rater = 't'").to_pylist()
    assert len({one["uncalibrated"] for one in rated}) > 1
    for one in rated:
        assert one["value"] == pytest.approx(2 + (one["uncalibrated"] - 1) / 4)
    assert store.count("ratings", "rater = 'm' and uncalibrated is not null") == 0


@pytest.mark.exhaustive
def test_a_reward_is_a_column_and_no_judge_of_a_model_that_learned_from_it(store: Store) -> None:
    [row] = store.read("evaluations").to_pylist()
    found = judge(store, row, JudgeRecipe(rewards={"smoothness": {"kind": "smoothness_standin"}}), QUIET)
    assert found.made["smoothness"] == 6
    assert all(np.isfinite(r["smoothness"]) for r in rows_of(store))
    hps = {"kind": "hpsv3_general", "parameters": {"checkpoint": "elsewhere", "base": "elsewhere"}}
    with pytest.raises(EvaluationError, match=r"cannot judge b, which was trained on it \(reward hps\)"):
        judge(store, row, JudgeRecipe(rewards={"taste": hps}), QUIET)


def test_a_continued_video_is_judged_by_the_frames_that_were_made(tmp_path: Path, runs: dict[str, Path]) -> None:
    """`drift` compares made frames with given ones, and has no value of a video of which none was given."""
    write_video(tmp_path / "before.mp4", torch.rand(3, 9, 48, 64) * 2 - 1, 12.0, {})
    path = tmp_path / "goes_on.jsonl"
    path.write_text(json.dumps({"prompt": "it goes on", "task": "vc", "reference": "before.mp4"}))
    store = Store.open(tmp_path / "store", create=True)
    evaluate(store, load_suite(path), models(path, a=runs["a"]), QUIET)
    [made] = rows_of(store)
    told = json.loads(made["lineage"])
    assert given_frames("vc", made["lineage"]) == told["begins_with"]["frames"] == 5
    del told["begins_with"]["frames"]  # as videos of before have it
    assert given_frames("vc", json.dumps(told)) == told["settings"]["overlap"]
    assert (given_frames("i2v", None), given_frames("t2v", None), given_frames("vc", None)) == (1, 0, 0)
    found = judge(store, store.read("evaluations").to_pylist()[0], JudgeRecipe(rewards={"drift": {}}), QUIET)
    assert found.made["drift"] == 1, found.why


@pytest.mark.exhaustive
def test_videos_go_to_a_benchmark_and_its_results_come_back(tmp_path: Path, runs: dict[str, Path]) -> None:
    info = [{"prompt_en": "ice melts", "dimension": ["Thermotics", "Material"]}]
    (tmp_path / "VBench2_full_info.json").write_text(json.dumps(info))
    store, path = Store.open(tmp_path / "store", create=True), tmp_path / "VBench2_full_info.json"
    done = evaluate(store, load_suite(path), models(path, a=runs["a"]), Options(name="v", quiet=True, limit=2))
    exported = export_vbench(store, done.evaluation_id, tmp_path / "out")
    assert (exported.files, exported.missing) == (4, 1)
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.mp4"))
    assert files == [f"a/{d}/ice melts-{i}.mp4" for d in ("Material", "Thermotics") for i in (0, 1)]
    first = rows_of(store, "sample = 0")[0]["generation_id"]
    assert (tmp_path / "out" / files[0]).read_bytes() == dict(store.read_generated([first]))[first]
    (tmp_path / "out" / files[0]).write_bytes(b"as it is")
    export_vbench(store, done.evaluation_id, tmp_path / "out")
    assert (tmp_path / "out" / files[0]).read_bytes() == b"as it is", "what is there of this evaluation stays"
    record = tmp_path / "out" / "a.videos.json"
    record.write_text(record.read_text().replace(first, "another"))
    export_vbench(store, done.evaluation_id, tmp_path / "out")
    assert (tmp_path / "out" / files[0]).read_bytes() == dict(store.read_generated([first]))[first]
    (tmp_path / "out" / "a" / "Material" / "fire burns-0.mp4").write_bytes(b"of another evaluation")
    with pytest.raises(UserError, match="1 videos that are not this evaluation's, such as Material/fire burns-0.mp4"):
        export_vbench(store, done.evaluation_id, tmp_path / "out")
    (tmp_path / "a_eval_results.json").write_text(json.dumps({"Thermotics": [0.4, []]}))
    scores = import_vbench([f"a={tmp_path / 'a_eval_results.json'}"])
    keep_scores(store, done.evaluation_id, scores)
    kept = json.loads(store.read("evaluations", ["benchmark_scores"]).column(0)[0].as_py())
    assert (kept["a"]["dimensions"], kept["a"]["total"]) == ({"Thermotics": 0.4}, None)
    with pytest.raises(UserError, match="has no model z"):
        keep_scores(store, done.evaluation_id, {"z": scores["a"]})


def test_the_command_makes_measures_and_counts(
    call: Reel, tmp_path: Path, runs: dict[str, Path], suite_file: Path
) -> None:
    where = ("--store", tmp_path / "store", "--quiet")
    Store.open(tmp_path / "store", create=True)
    sampled = ("--prompts", suite_file, "--name", "c", "--limit", "1", "--measure", "flicker", "--device", "cpu")
    done = call("evaluate", f"a={runs['a']}", *sampled, *where)
    assert done.returncode == 0, done.stderr
    assert "3 videos = 0 there before + 0 failed before + 1 made + 0 failed + 2 left" in done.stdout
    assert "flicker: 1 made, 0 there before, 0 without a value" in done.stdout
    refused = call("evaluate", "--name", "d", *where)
    assert (refused.returncode, "'d' is not a known evaluation" in refused.stderr) == (1, True)
    (tmp_path / "x_eval_results.json").write_text(json.dumps({"Diversity": [0.5, []]}))
    partial = call("evaluate", "--import-vbench", tmp_path / "x_eval_results.json", *where)
    assert partial.returncode == 1
    assert "no total without Composition" in partial.stderr
