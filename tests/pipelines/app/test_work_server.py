"""Runs, models, generations, ratings and commands over HTTP: what is shown, who may ask, what means harm."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelwright.curation.store import Store
from reelwright.pipelines.app.work.rater_links import RaterLinks
from reelwright.pipelines.app.work.ratings import Ratings
from reelwright.pipelines.app.work.routes import PAGES, WORK_API
from tests.footage import frames, write
from tests.pipelines.app.made import HOSTILE, Served, clip_id, served
from tests.pipelines.app.test_server import anything, content, files
from tests.pipelines.app.work_made import RATERS, STEPS, Made, make_worked

pytestmark = pytest.mark.waits
PATIENCE_S = 240
FIELDS = ["run", "key", "evaluation", "generation", "category", "offset", "count", "command", "arguments", "on_cluster"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_worked(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def app(made: Made) -> Iterator[Served]:
    """A server that starts no commands, and that other machines can reach."""
    with served(Path(made.store.uri), "--runs", str(made.run.parent), "--host", "0.0.0.0") as running:
        yield running


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def doing(made: Made, work: Path) -> Iterator[Served]:
    """A server that starts commands in `work`."""
    with served(Path(made.store.uri), "--allow-commands", "--work", str(work)) as running:
        yield running


def wait_for(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < until
        time.sleep(0.1)
    return found


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_the_funnel_failures_and_runs_are_those_of_the_store(app, made):
    found = app.call("runs")
    assert {stage["name"]: stage["count"] for stage in found["funnel"]}["clips"] == made.store.count("clips")
    assert {one["stage"] for one in found["failures"]} == {"probe", "blur"}
    assert {run["run_id"]: run["state"] for run in found["runs"]}["run2"] == "interrupted"
    before = len(found["newest"])
    made.store.append("failures", [{"uri": "/new.mp4", "stage": "cut", "error": "x", "attempts": 1}])
    assert len(app.call("runs")["newest"]) == before + 1
    assert app.call("run", run="run1")["counts"] == {"sources_ok": 4, "clips": 12, "failed": 1}
    assert app.call("run", run=HOSTILE[:40])["command"] == HOSTILE


def test_a_training_has_its_curves_samples_and_the_way_back_to_the_footage(app, made):
    listed = app.call("trainings")["trainings"]
    one = next(run for run in listed if run["name"] == "mini")
    assert (one["step"], one["state"], one["snapshot"], one["is_there"]) == (STEPS, "finished", "first", True)
    assert [run["is_there"] for run in listed if run["name"] == "gone"] == [False]
    about = app.call("train", key=one["key"])
    assert [chart["title"] for chart in about["charts"]][:2] == ["Loss", "Validation"]
    assert all(chart["svg"].startswith("<svg") for chart in about["charts"])
    assert about["prompts"] == ["a red ball", HOSTILE]
    assert [(step["step"], step["files"]) for step in about["samples"]] == [(n, ["0.mp4", "1.mp4"]) for n in (20, 40)]
    mine, old = about["origin"]["snapshots"]
    assert (mine["is_here"], mine["clips"], [source["clips"] for source in mine["sources"]]) == (True, 8, [8])
    assert "where clip_id <" in mine["sql"]
    assert (old["name"], old["is_here"]) == ("old", False)
    assert [parent["name"] for parent in about["origin"]["parents"]] == ["base"]


def test_samples_come_by_range_and_nothing_else_of_a_run_s_folder(app, made):
    key = next(run["key"] for run in app.call("trainings")["trainings"] if run["name"] == "mini")
    whole = (made.run / "samples" / "step-00000040" / "0.mp4").read_bytes()
    status, headers, body = app.ask(f"/samples/{key}/step-00000040/0.mp4", range="bytes=10-19")
    assert (status, headers["content-type"], body) == (206, "video/mp4", whole[10:20])
    for path in (
        f"{key}/step-00000040/secret.txt", f"{key}/step-00000040/7.mp4", f"{key}/step-00000040/..%2f..%2flog.jsonl",
        f"{key}/../log.jsonl", f"{key}/%2e%2e/recipe.yaml", f"{key}/step-00000040/%2fetc%2fpasswd",
        f"{key}/checkpoints/checkpoint.json", "0000000000000000/step-00000040/0.mp4", "%00/step-00000040/0.mp4",
    ):  # fmt: skip
        status, _, body = app.ask(f"/samples/{path}")
        assert status == 404, path
        assert b"root" not in body


@pytest.mark.exhaustive
def test_generations_stand_beside_each_other_and_beside_the_clips_nearest_to_them(app, made):
    [one] = app.call("evaluations")["evaluations"]
    assert one["models"] == {"base": {"ok": 4, "failed": 0}, "tuned": {"ok": 3, "failed": 1}}
    page = app.call("evaluation", evaluation="e1f0", limit=2)
    assert (page["total"], len(page["prompts"])) == (4, 2)
    assert [made["model"] for made in page["prompts"][0]["videos"]] == ["base", "tuned"]
    assert app.call("evaluation", evaluation="e1f0", failed=True)["total"] == 1
    assert app.call("evaluation", evaluation="e1f0", category="people")["total"] == 2
    found = app.call("generation", generation="00aa", count=3)
    [near] = found["near"]
    assert (near["by"], len(near["clips"])) == ("picture", 3)
    assert [other["model"] for other in found["others"]] == ["tuned"]
    assert any("caption_embedding" in note for note in found["notes"])
    ((_, whole),) = made.store.read_generated(["00aa"])
    assert app.ask("/generated/00aa.mp4", range="bytes=0-99")[2] == whole[:100]
    assert app.ask("/generated/00aa.jpg")[2][:2] == b"\xff\xd8"
    assert app.ask("/generated/13aa.mp4")[0] == app.ask("/generated/..%2fx.jpg")[0] == 404


def test_people_rate_in_the_app_without_a_model_s_name_and_answers_are_in_the_store(app, made):
    study = next(one for one in app.call("studies")["studies"] if one["kind"] == "mos")
    assert [who["answered"] for who in study["raters"]] == [0, 0, 0]
    at = f"/rate/{made.study.study_id}"
    status, headers, body = app.ask(f"{at}/")
    assert status == 200
    assert "script-src 'sha256-" in headers["content-security-policy"]
    status, _, told = app.ask(f"{at}/study?rater=anna")
    for text in (body, told):
        assert b"tuned" not in text
        assert b"00aa" not in text
    task = json.loads(told)["tasks"][0]
    video = app.ask(f"{at}/{task['videos'][0]}")[2]
    assert video[4:8] == b"ftyp"
    assert b"made by model" not in video
    answer = {"task_id": task["task_id"], "values": {"overall": 4, "visual_quality": 2}, "seconds": 1.5}
    assert app.ask(f"{at}/answer", {"rater": "anna", "answer": answer})[0] == 200
    rows = Store.open(made.store.uri).read("ratings").to_pylist()
    assert {(row["rater"], row["dimension"], row["value"]) for row in rows} == {
        ("anna", "overall", 4.0), ("anna", "visual_quality", 2.0),
    }  # fmt: skip
    now = next(one for one in app.call("studies")["studies"] if one["kind"] == "mos")
    assert {who["name"]: who["answered"] for who in now["raters"]}["anna"] == 1
    assert app.ask(f"{at}/answer", {"rater": "eve", "answer": answer})[0] == 404
    assert app.ask(f"{at}/answer", {"rater": "ben", "answer": answer})[0] == 400
    for wrong in ("0" * 16, "..%2f..", "%00", HOSTILE[:5].encode().hex()):
        assert app.ask(f"/rate/{wrong}/study?rater=anna")[0] in (400, 404)
    assert tuple(who["name"] for who in study["raters"]) == RATERS


def test_without_a_study_the_command_that_plans_one_is_ready(tmp_path):
    store = Store.open(tmp_path / "a store", create=True)
    assert Ratings(store, RaterLinks()).all() == {"studies": [], "plan": ""}
    store.append("evaluations", [{"evaluation_id": "e1", "name": "it's new", "at": datetime.now(UTC)}])
    command = Ratings(store, RaterLinks()).all()["plan"]
    assert shlex.split(command) == [
        "reel", "evaluate", "--rate", "it's new", "--raters", "anna,ben,chen", "--store", store.uri
    ]  # fmt: skip


def test_the_report_leads_into_the_app(app):
    status, headers, body = app.ask("/report")
    assert (status, headers["content-type"].startswith("text/html")) == (200, True)
    page = body.decode()
    assert f'href="/?clip={clip_id(0)}"' in page
    assert 'href="/?v=%7B%22ranges%22' in page
    assert 'href="/runs/run1"' in page
    assert 'href="/runs#failures"' in page
    assert "<img src=x" not in page


# --- who may ask, and harm -------------------------------------------------------------------------------------------


def test_a_server_that_other_machines_can_reach_says_so_and_asks_for_its_token(app, doing):
    assert "whoever has an address may use it" in app.said[-2]
    assert len(doing.said) == 1
    for name in ("lab.example", "10.0.0.7:80"):  # it cannot know what others call it
        assert app.ask("/runs", host=name)[0] == 200
        assert app.ask("/runs", host=name, cookie=None)[0] == 401
        assert app.ask("/api/runs", {}, host=name, origin="http://elsewhere.example")[0] == 403


@pytest.mark.parametrize("where", [*(page.partition("{")[0] for page in PAGES), "/report", "/generated/00aa.mp4"])
def test_without_the_token_no_page_is_shown(app, where):
    assert app.ask(where, cookie=None)[0] == 401
    assert app.ask(where, sec_fetch_site="cross-site", sec_fetch_mode="no-cors")[0] == 403


def test_another_site_s_page_rates_and_starts_nothing(doing, made):
    body = {"command": "cleanup", "arguments": {}}
    for headers in ({"cookie": None}, {"origin": "http://evil.example"}, {"content_type": "text/plain"},
                    {"sec_fetch_site": "cross-site"}, {"host": "a.b"}):  # fmt: skip
        assert doing.ask("/api/start_command", body, **headers)[0] in (401, 403)
        assert doing.ask(f"/rate/{made.study.study_id}/answer", {"rater": "anna"}, **headers)[0] in (401, 403)
    assert doing.call("commands")["started"] == []


@pytest.mark.parametrize(("command", "arguments"), [
    ("rm", {}), ("sql", {"query": "select 1"}), ("export", {}), ("export", {"out": "/etc", "snapshot": "first"}),
    ("export", {"out": "../x", "snapshot": "first"}), ("export", {"out": "x", "snapshot": "--force"}),
    ("export", {"out": "s3://bucket/x", "snapshot": "first"}), ("export", {"out": "a\0b", "snapshot": "first"}),
    ("export", {"out": "x", "snapshot": "first", "format": "-f"}), ("export", {"out": "x", "snapshot": "first; rm"}),
    ("export", {"out": "x", "snapshot": "first", "sql": "select 1"}), ("snapshot", {"name": "-x", "sql": "select 1"}),
    ("annotate", {"only": ["a b"]}), ("annotate", {"only": ["--plan"]}), ("annotate", {"store": "/other"}),
    ("annotate", {"recipe": "/etc/passwd"}), ("curate", {"inputs": ["/"]}), ("curate", {"inputs": []}),
    ("train", {"recipe": "../r.yaml", "snapshot": "first"}), ("cleanup", {"keep_hours": -1}), ("cleanup", {"x": 1}),
    ("evaluate", {"name": "a\0b"}), ("report", {"out": "a/../../b"}),
])  # fmt: skip
def test_a_command_that_is_not_of_the_list_or_leads_elsewhere_is_refused(doing, command, arguments):
    for name in ("command", "start_command"):
        status, _, body = doing.ask(f"/api/{name}", {"command": command, "arguments": arguments})
        assert status == 400, body
        assert len(json.loads(body)["error"]) < 500
    assert doing.call("commands")["started"] == []


def test_values_stay_one_argument_whatever_they_hold(doing, work, made):
    sql = "select clip_id from clips where uri <> '; rm -rf / $(x) \" --force'"
    line = doing.call("command", command="snapshot", arguments={"name": "n", "sql": sql})["line"]
    import shlex

    assert shlex.split(line) == ["reel", "snapshot", "create", "n", f"--store={made.store.uri}", f"--sql={sql}"]
    link = work / "out-of-here"
    link.symlink_to("/etc")
    status, _, _ = doing.ask("/api/command", {"command": "report", "arguments": {"out": "out-of-here/x.html"}})
    assert status == 400


def test_a_server_that_was_not_told_to_starts_nothing(app, call, made):
    status, _, body = app.ask("/api/start_command", {"command": "cleanup", "arguments": {}})
    assert (status, b"--allow-commands" in body) == (400, True)
    assert app.call("commands")["allowed"] is False
    refused = call("app", "--store", made.store.uri, "--allow-commands", "--host", "0.0.0.0")
    assert refused.returncode != 0
    assert "for this machine alone" in refused.stderr


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    name=st.sampled_from(sorted(WORK_API)),
    body=st.one_of(anything, st.dictionaries(st.sampled_from(FIELDS), anything, max_size=4)),
)
@pytest.mark.exhaustive
def test_no_request_gets_a_traceback_or_changes_the_store(app, made, name, body):
    before = content(Path(made.store.uri)), files(Path(made.store.uri))
    status, _, answer = app.ask(f"/api/{name}", raw=json.dumps(body).encode())
    assert status in (200, 400), answer
    assert status == 200 or set(json.loads(answer)) == {"error"}
    assert b"Traceback" not in answer
    now = content(Path(made.store.uri)), files(Path(made.store.uri))
    assert repr(now[0]) == repr(before[0])
    assert now[1] == before[1]


# --- commands --------------------------------------------------------------------------------------------------------


def test_a_command_runs_in_its_folder_and_says_how_it_ended(doing, work):
    asked = {"out": "exported", "snapshot": "first", "format": "videofolder"}
    line = doing.call("command", command="export", arguments=asked)["line"]
    begun = doing.call("start_command", command="export", arguments=asked)
    assert begun["line"] == line
    wrong = doing.call("start_command", command="export", arguments=asked | {"out": "x", "snapshot": "no-such-one"})

    def ended() -> dict[str, Any] | None:
        found = {one["key"]: one for one in doing.call("commands")["started"]}
        return found if all(one["state"] != "running" for one in found.values()) else None

    found = wait_for(ended)
    assert found[begun["key"]]["state"] == "done", found
    assert "8 clips" in found[begun["key"]]["output"]
    assert len(list((work / "exported").rglob("*.mp4"))) == 8
    assert (found[wrong["key"]]["state"], found[wrong["key"]]["code"] != 0) == ("failed", True)
    assert "no-such-one" in found[wrong["key"]]["output"]
    assert doing.ask("/api/stop_command", {"key": "nothing"})[0] == 400


@pytest.mark.exhaustive  # Ray starts
def test_a_curation_that_is_started_from_the_page_is_seen_while_it_goes_on(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    (tmp_path / "in").mkdir()
    for i in range(3):
        write(tmp_path / "in" / f"{i}.mp4", frames(60, seed=i))
    (tmp_path / "in" / "bad.mp4").write_bytes(b"x")
    recipe = {"inputs": ["in"], "encode": {"preset": "ultrafast"}, "shots": {"detector": "pyscenedetect"},
              "annotators": ["blur"]}  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    with served(Path(store.uri), "--allow-commands", "--work", str(tmp_path)) as running:
        begun = running.call("start_command", command="curate", arguments={"inputs": ["in"], "recipe": "r.yaml"})

        def seen_or_ended() -> Any:
            [one] = running.call("commands")["started"]
            assert one["state"] == "running", one["output"]
            return running.call("runs")["under_way"]

        seen = wait_for(seen_or_ended)
        assert (seen[0]["command"], seen[0]["total"], seen[0]["state"]) == ("curate", 4, "running")

        def ended() -> dict[str, Any] | None:
            [one] = running.call("commands")["started"]
            assert one["key"] == begun["key"]
            return one if one["state"] != "running" else None

        found = wait_for(ended)
        assert found["state"] == "done", found["output"]
        now = running.call("runs")
    assert now["under_way"] == []
    assert (now["sources"]["ok"], now["sources"]["failed"]) == (3, 1)
    assert now["failures"][0]["stage"] == "probe"
    assert "curate" in [run["command"] for run in now["runs"]]
