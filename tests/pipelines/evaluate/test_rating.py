"""Studies over a store, the server that raters talk to, and the file that is sent out."""

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reelwright.curation.media.untagged import untagged
from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.evaluations import find_evaluation
from reelwright.errors import UserError
from reelwright.evaluation.rating.answers import read_answer
from reelwright.evaluation.rating.study import Settings, Study
from reelwright.pipelines.evaluate.rating.desk import RatingDesk
from reelwright.pipelines.evaluate.rating.pages import videos_of, write_static
from reelwright.pipelines.evaluate.rating.routes import links, make_rating_app
from reelwright.pipelines.evaluate.rating.studies import Answers, find_study, make_study, take_in
from reelwright.pipelines.evaluate.report.figures import figures
from reelwright.pipelines.runtime.serving.run import PageServer
from tests.conftest import ROOT
from tests.pipelines.evaluate.made import make_evaluation

RATERS = ("anna", "ben", "chen")
MOS = Settings("mos", (), RATERS, seed=1)
GSB = Settings("gsb", (), RATERS, seed=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_evaluation(tmp_path)


def study_of(store: Store, settings: Settings = MOS) -> Study:
    return make_study(store, find_evaluation(store, "first"), settings)


TOKEN = "token-of-this-test"


@contextmanager
def serving(store: Store, study: Study, key: str = "") -> Iterator[PageServer]:
    holders = links(key, study) if key else {TOKEN: ""}
    server = PageServer(make_rating_app(RatingDesk(store, study)), host="127.0.0.1", port=0, holders=holders)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def ask(
    server: PageServer, method: str, path: str, body: Any = None, *, token: str = TOKEN, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers = ({"Content-Type": "application/json"} if body is not None else {}) | headers
    headers |= {"Cookie": f"reel_{server.port}={token}"} if token else {}
    connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    found = reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    connection.close()
    return found


def sent(task: dict, value: int = 4, dimensions: tuple[str, ...] = ()) -> dict[str, Any]:
    names = dimensions or ("text_alignment", "visual_quality", "motion_quality", "overall")
    return {"task_id": task["task_id"], "values": dict.fromkeys(names, value), "seconds": 2.0}


# --- studies ---------------------------------------------------------------------------------------------------------


def test_a_study_has_every_video_that_was_made_and_pairs_of_one_prompt(store: Store) -> None:
    mos, gsb = study_of(store), study_of(store, GSB)
    assert len(mos.items) == 7
    assert mos.settings.dimensions == ("text_alignment", "visual_quality", "motion_quality", "overall")
    pairs = {(item.generation_id, item.other_id) for item in gsb.items.values()}
    assert pairs == {(f"0{p}aa", f"1{p}aa") for p in range(3)}  # the model named first; p3 failed for one
    assert gsb.settings.dimensions == ("overall",)
    assert study_of(store) == mos == find_study(store, mos.study_id[:6])
    assert store.count("studies") == 2
    some = make_study(store, find_evaluation(store, "e1f"), MOS, prompts=2)
    assert len({item.prompt for item in some.items.values()}) == 2
    assert find_study(store, "", find_evaluation(store, "first")) == some  # the newest
    assert find_evaluation(store, "")["name"] == "first"  # the only one
    with pytest.raises(StoreError, match="'nothing' is not a known evaluation"):
        find_evaluation(store, "nothing")
    with pytest.raises(StoreError, match="no study 'ffff'"):
        find_study(store, "ffff")


# --- answers over HTTP -----------------------------------------------------------------------------------------------


def test_a_rater_s_way_from_the_page_to_the_last_answer(store: Store) -> None:
    study = study_of(store)
    with serving(store, study) as server:
        status, headers, page = ask(server, "GET", "/")
        assert status == 200
        assert "script-src 'sha256-" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        given = json.loads(re.search(r'id="data">(.*?)</script>', page.decode(), re.S)[1])  # type: ignore[index]
        assert given["raters"] == list(RATERS)
        for secret in (b"tuned", b"0baa", b"10aa", b"00aa"):
            assert secret not in page
        status, _, body = ask(server, "GET", "/study?rater=anna")
        assert status == 200
        tasks = json.loads(body)["tasks"]
        assert len(tasks) == 8  # 7 and a repeat
        assert set(tasks[0]) == {"task_id", "prompt", "dimensions", "videos"}
        assert not any(secret in body for secret in (b"tuned", b"base", b"00aa", b"repeat"))
        for number, task in enumerate(tasks):
            assert ask(server, "POST", "/answer", {"rater": "anna", "answer": sent(task, 1 + number % 5)})[0] == 200
        after = json.loads(ask(server, "GET", "/study?rater=anna")[2])
        assert {t["task_id"] for t in after["tasks"]} == set(after["answers"])
        assert after["answers"][tasks[2]["task_id"]]["values"]["overall"] == 3
    rows = store.read("ratings").to_pylist()
    assert len(rows) == 8 * 4 == len({row["rating_id"] for row in rows})
    assert {row["rater"] for row in rows} == {"anna"}
    assert all(row["is_human"] and row["study_id"] == study.study_id and row["seconds"] == 2 for row in rows)


def test_an_answer_sent_twice_is_one_and_a_changed_one_counts(store: Store) -> None:
    study = study_of(store, GSB)
    with serving(store, study) as server:
        task = json.loads(ask(server, "GET", "/study?rater=ben")[2])["tasks"][0]
        for value in (1, 1, 0, -1):
            answer = sent(task, value, ("overall",))
            assert ask(server, "POST", "/answer", {"rater": "ben", "answer": answer})[0] == 200
        assert json.loads(ask(server, "GET", "/study?rater=ben")[2])["answers"][task["task_id"]] == answer
    [row] = store.read("ratings").to_pylist()
    [planned] = [t for t in study.base["ben"] if t.task_id == task["task_id"]]
    item = study.items[planned.item_id]
    assert row["value"] == (1 if planned.is_swapped else -1)  # the video shown last was better
    assert row["shown_first"] == (item.other_id if planned.is_swapped else item.generation_id)
    assert Answers(store, study).save([read_answer(study, "ben", answer)]).alike == 1


def test_answers_at_the_same_time_are_all_kept(store: Store) -> None:
    study = study_of(store)
    with serving(store, study) as server:
        work = [(rater, task.task_id) for rater in RATERS for task in study.base[rater]]
        statuses: list[int] = []

        def give(rater: str, task_id: str) -> None:
            for _ in range(2):
                answer = sent({"task_id": task_id})
                statuses.append(ask(server, "POST", "/answer", {"rater": rater, "answer": answer})[0])

        threads = [threading.Thread(target=give, args=one) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 2 * len(work)
    assert store.count("ratings") == 4 * len(work)


@pytest.mark.waits
def test_a_killed_server_has_lost_no_answer_that_it_acknowledged(store: Store, tmp_path: Path) -> None:
    study = study_of(store)
    code = (
        "import sys; from reelwright.curation.store import Store\n"
        "from reelwright.pipelines.evaluate.rating.desk import RatingDesk\n"
        "from reelwright.pipelines.evaluate.rating.routes import make_rating_app\n"
        "from reelwright.pipelines.evaluate.rating.studies import find_study\n"
        "from reelwright.pipelines.runtime.serving.run import serve\n"
        "store = Store.open(sys.argv[1]); desk = RatingDesk(store, find_study(store, sys.argv[2]))\n"
        "say = lambda line: print(line, flush=True)\n"
        f"serve(make_rating_app(desk), host='127.0.0.1', port=0, holders={{{TOKEN!r}: ''}}, say=say)\n"
    )
    command = [sys.executable, "-c", code, store.uri, study.study_id]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    assert process.stdout
    port = int(re.search(r":(\d+)/\?token=", process.stdout.readline())[1])  # type: ignore[index]
    for task in study.base["chen"][:3]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        body = json.dumps({"rater": "chen", "answer": sent({"task_id": task.task_id})})
        headers = {"Content-Type": "application/json", "Cookie": f"reel_{port}={TOKEN}"}
        connection.request("POST", "/answer", body, headers)
        assert connection.getresponse().status == 200
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kept = Answers(Store.open(store.uri), study)
    assert {task_id for _, task_id in kept.all()} == {task.task_id for task in study.base["chen"][:3]}
    kept.save([read_answer(study, "chen", sent({"task_id": study.base["chen"][3].task_id}))])  # its lock is taken over


def test_a_check_looks_like_a_task_and_its_answer_is_no_opinion_of_a_video(store: Store) -> None:
    study = study_of(store, replace(MOS, checks=0.1))
    [check] = [task for task in study.base["anna"] if task.expected is not None]
    with serving(store, study) as server:
        tasks = json.loads(ask(server, "GET", "/study?rater=anna")[2])["tasks"]
        [shown] = [task for task in tasks if task["task_id"] == check.task_id]
        assert set(shown) == set(tasks[0])
        assert f"answer “{check.expected}” to every question" in shown["prompt"]
        answer = {"rater": "anna", "answer": sent(shown, check.expected or 0)}
        assert ask(server, "POST", "/answer", answer)[0] == 200
    rows = store.read("ratings").to_pylist()
    assert [(row["kind"], row["expected"], row["value"], row["generation_id"]) for row in rows] == [
        ("check", check.expected, check.expected, None)
    ] * 4
    found = figures(store, find_evaluation(store, "first"))
    assert (found.means, found.alphas) == ([], {})
    assert RatingDesk(store, study).tasks("anna")["answers"].keys() == {check.task_id}


def test_raters_see_the_picture_that_a_video_begins_with(store: Store, tmp_path: Path) -> None:
    jpeg = b"\xff\xd8 a picture"
    store.append("reference_pictures", [{"picture_id": "abc-160x96", "jpeg": jpeg}])
    changed = pa.table({"generation_id": ["02aa", "12aa"], "reference_md5": ["abc"] * 2, "task": ["i2v"] * 2})
    store.merge("generations", changed, on="generation_id")
    study = study_of(store, GSB)
    with serving(store, study) as server:
        tasks = json.loads(ask(server, "GET", "/study?rater=anna")[2])["tasks"]
        [url] = {task["picture"] for task in tasks if "picture" in task}
        assert sum("picture" in task for task in tasks) == 1
        assert "abc" not in url
        status, headers, body = ask(server, "GET", f"/{url}")
        assert (status, headers["content-type"], body) == (200, "image/jpeg", jpeg)
        assert ask(server, "GET", "/picture/" + "0" * 24)[0] == 404
        assert ask(server, "GET", f"/{url}", token="")[0] == 401
    for beside in (False, True):
        page = write_static(store, study, tmp_path / "sent.html", {}, beside=beside).read_text()
        data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
        [name] = {task["picture"] for task in data["tasks"]["ben"] if "picture" in task}
        place = data["urls"][name]
        found = (tmp_path / place).read_bytes() if beside else base64.b64decode(place.partition(",")[2])
        assert found == jpeg


# --- hostile requests ------------------------------------------------------------------------------------------------


HOSTILE = (
    "/../etc/passwd", "/video/../../etc/passwd", "/video/%2e%2e%2f", "/video/00aa", "/video/" + "0" * 24, "//x", "/x",
    "/study", "/study?rater=eve", "/study?rater=%00", "/study?rater=anna&rater=eve",
    "/study?" + "&".join("a=1" for _ in range(50)), "/rate.js", "/page.html",
)  # fmt: skip


def test_a_path_leads_nowhere_but_to_the_study(store: Store) -> None:
    with serving(store, study_of(store)) as server:
        for path in HOSTILE:
            status, headers, body = ask(server, "GET", path)
            assert status == 404, path
            assert headers["content-type"] == "application/json"
            assert "error" in json.loads(body)
        assert ask(server, "GET", "/favicon.ico")[0] == 204, "no page has an icon, and browsers ask all the same"
        assert ask(server, "GET", "/answer")[0] == 405


def test_answers_from_elsewhere_and_bodies_that_are_none_are_refused(store: Store) -> None:
    study = study_of(store)
    good = {"rater": "anna", "answer": sent({"task_id": study.base["anna"][0].task_id})}
    with serving(store, study) as server:
        port = server.port
        for status, body, headers in (
            (403, good, {"Origin": "http://evil.example"}),
            (403, good, {"Origin": "null"}),
            (403, good, {"Origin": f"http://127.0.0.1:{port + 1}"}),
            (403, good, {"Host": "evil.example"}),
            (403, good, {"Host": f"evil.example:{port}"}),
            (403, good, {"Sec_Fetch_Site": "cross-site"}),
            (403, good, {"Content_Type": "text/plain"}),
            (403, good, {"Content_Type": "application/x-www-form-urlencoded"}),
            (400, b"{", {}),
            (400, b"[" * 5000, {}),
            (400, b"\xff\xfe", {}),
            (400, [good], {}),
            (400, {**good, "answer": None}, {}),
            (400, {**good, "answer": {**good["answer"], "values": {"overall": 5}}}, {}),
            (404, {**good, "rater": "eve"}, {}),
            (404, {**good, "rater": {"a": 1}}, {}),
            (413, b" " * 3_000_000, {}),
        ):
            assert ask(server, "POST", "/answer", body, **headers)[0] == status, (body, headers)
        assert ask(server, "POST", "/study", good)[0] == 405
        assert ask(server, "POST", "/answer", good, token="")[0] == 401
        assert store.count("ratings") == 0
        assert ask(server, "POST", "/answer", good, Origin=f"http://127.0.0.1:{port}")[0] == 200


def test_a_video_comes_in_ranges_and_without_what_its_file_says_of_the_model(store: Store) -> None:
    study = study_of(store)
    with serving(store, study) as server:
        url = "/" + json.loads(ask(server, "GET", "/study?rater=anna")[2])["tasks"][0]["videos"][0]
        stored = dict(store.read_generated(videos_of(study).values()))[videos_of(study)[url.rpartition("/")[2]]]
        status, headers, whole = ask(server, "GET", url)
        assert (status, headers["content-type"], headers["accept-ranges"]) == (200, "video/mp4", "bytes")
        assert b"made by" in stored
        assert b"made by" not in whole
        assert whole == untagged(stored)
        n = len(whole)
        for asked, first, last in (("bytes=0-", 0, n - 1), ("bytes=10-19", 10, 19), ("bytes=-7", n - 7, n - 1)):
            status, headers, body = ask(server, "GET", url, Range=asked)
            assert (status, body) == (206, whole[first : last + 1]), asked
            assert headers["content-range"] == f"bytes {first}-{last}/{n}"
        assert ask(server, "GET", url, Range=f"bytes={n}-")[0] == 416


def test_other_machines_need_the_link_of_a_rater(store: Store) -> None:
    study = study_of(store)
    with serving(store, study, key="secret") as server:
        tokens = {rater: token for token, rater in links("secret", study).items()}
        assert set(tokens) == set(RATERS) == {rater for rater, _ in server.addresses()}
        token = tokens["anna"]
        assert dict(server.addresses())["anna"].endswith(f"/?token={token}")
        video = "/video/" + next(iter(videos_of(study)))
        for path in ("/", "/study?rater=anna", video, "/?token=" + "0" * 40):
            assert ask(server, "GET", path, token="")[0] == 401, path
        status, headers, _ = ask(server, "GET", f"/?token={token}", token="")
        assert (status, headers["location"]) == (303, "/")
        assert "HttpOnly" in headers["set-cookie"]
        assert headers["set-cookie"].startswith(f"reel_{server.port}={token};")
        page = ask(server, "GET", "/", token=token, Host="rating.example")[2].decode()
        assert '"rater": "anna"' in page
        assert ask(server, "GET", "/study", token=token)[0] == 200
        assert ask(server, "GET", "/study?rater=ben", token=token)[0] == 403
        assert ask(server, "GET", video, token=token)[0] == 200
        mine = {"rater": "anna", "answer": sent({"task_id": study.base["anna"][0].task_id})}
        assert ask(server, "POST", "/answer", mine, token="")[0] == 401
        assert ask(server, "POST", "/answer", {**mine, "rater": "ben"}, token=token)[0] == 403
        assert ask(server, "POST", "/answer", mine, token=token, Origin="https://evil.example")[0] == 403
        assert ask(server, "POST", "/answer", mine, token=token)[0] == 200
    assert not links("secret", study).keys() & links("other", study).keys()


def test_two_servers_of_one_study_see_each_other_s_answers(store: Store) -> None:
    study = study_of(store)
    first, second = RatingDesk(store, study), RatingDesk(Store.open(store.uri), study)
    task = {"task_id": study.base["anna"][0].task_id}
    first.save("anna", sent(task, 2))
    assert second.tasks("anna")["answers"][task["task_id"]]["values"]["overall"] == 2
    second.save("anna", sent(task, 5))
    assert first.tasks("anna")["answers"][task["task_id"]]["values"]["overall"] == 5
    assert store.count("ratings") == 4


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_file_holds_all_that_a_rater_needs_and_no_model(store: Store, tmp_path: Path) -> None:
    study = study_of(store, GSB)
    inside = write_static(store, study, tmp_path / "inside.html", {}).read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', inside, re.S)[1])  # type: ignore[index]
    assert {rater: len(tasks) for rater, tasks in data["tasks"].items()} == dict.fromkeys(RATERS, 3)
    decoded = {base64.b64decode(url.partition(",")[2]) for url in data["urls"].values()}
    stored = dict(store.read_generated({f"{m}{p}aa" for m in range(2) for p in range(3)}))
    assert decoded == {untagged(one) for one in stored.values()}
    assert not any(b"made by" in one for one in decoded)
    assert "<b>slowly" not in inside
    assert not re.search(r"\btuned\b|\b1\daa\b", json.dumps(data["tasks"]))
    page = write_static(store, study, tmp_path / "beside.html", {}, beside=True)
    assert page.stat().st_size < len(inside) / 2
    for url in json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.S)[1])["urls"].values():  # type: ignore[index]
        assert (tmp_path / url).read_bytes() in decoded


def test_a_saved_file_is_taken_in_once_and_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    study = study_of(store)
    answers = [sent({"task_id": task.task_id}, 2) for task in study.base["ben"]]
    file = tmp_path / "ratings.json"
    whole = {"study_id": study.study_id, "rater": "ben", "answers": answers}
    file.write_text(json.dumps(whole))
    _, saved = take_in(store, file)
    assert (saved.new, saved.changed, saved.alike) == (8, 0, 0)
    answers[3]["values"]["overall"] = 5
    file.write_text(json.dumps(whole))
    _, saved = take_in(store, file)
    assert (saved.new, saved.changed, saved.alike) == (0, 1, 7)
    assert store.count("ratings") == 32
    assert store.count("ratings", "value = 5") == 1
    for content in (
        b"", b"[]", b"{}", b"\xff", b"[" * 100_000, json.dumps({**whole, "study_id": "../x"}).encode(),
        json.dumps({**whole, "study_id": "0" * 16}).encode(), json.dumps({**whole, "rater": "eve"}).encode(),
        json.dumps({**whole, "answers": [*answers, {"task_id": "x"}]}).encode(),
        json.dumps({**whole, "answers": [{**answers[0], "values": {**answers[0]["values"], "overall": 9}}]}).encode(),
    ):  # fmt: skip
        file.write_bytes(content)
        with pytest.raises((UserError, StoreError)):
            take_in(store, file)
    with pytest.raises(UserError, match="cannot be read"):
        take_in(store, tmp_path / "none.json")
    assert store.count("ratings") == 32
