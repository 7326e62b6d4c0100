"""Studies over a store, the server that raters talk to, and the file that is sent out."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reelwright.curation.store import Store, StoreError
from reelwright.errors import UserError
from reelwright.evaluation.rating.answers import read_answer
from reelwright.evaluation.rating.study import Settings, Study
from reelwright.pipelines.browse.balance.evaluated import find_evaluation
from reelwright.pipelines.evaluate.rating.pages import write_static
from reelwright.pipelines.evaluate.rating.server import RatingServer, token_of
from reelwright.pipelines.evaluate.rating.studies import Answers, find_study, make_study, take_in
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


@contextmanager
def serving(store: Store, study: Study, key: str = "") -> Iterator[RatingServer]:
    with RatingServer(store, study, ("127.0.0.1", 0), key=key) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: RatingServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    if body is not None:
        headers = {"Content-Type": "application/json"} | headers
    connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    found = reply.status, dict(reply.getheaders()), reply.read()
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
    for wrong in ("nothing", ""):
        with pytest.raises(StoreError, match="known evaluation"):
            find_evaluation(store, wrong)
    with pytest.raises(StoreError, match="no study 'ffff'"):
        find_study(store, "ffff")


# --- answers over HTTP -----------------------------------------------------------------------------------------------


def test_a_rater_s_way_from_the_page_to_the_last_answer(store: Store) -> None:
    study = study_of(store)
    with serving(store, study) as server:
        status, headers, page = ask(server, "GET", "/")
        assert status == 200
        assert "script-src 'sha256-" in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY"
        given = json.loads(re.search(r'id="data">(.*?)</script>', page.decode(), re.S)[1])  # type: ignore[index]
        assert given["raters"] == list(RATERS)
        for secret in (b"tuned", b"0baa", b"10aa", b"00aa"):
            assert secret not in page
        status, _, body = ask(server, "GET", "/study?rater=anna")
        assert status == 200
        tasks = json.loads(body)["tasks"]
        assert len(tasks) == 8  # 7 and a repeat
        assert set(tasks[0]) == {"task_id", "prompt", "videos"}
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
        "from reelwright.pipelines.evaluate.rating.server import RatingServer\n"
        "from reelwright.pipelines.evaluate.rating.studies import find_study\n"
        "store = Store.open(sys.argv[1]); study = find_study(store, sys.argv[2])\n"
        "server = RatingServer(store, study, ('127.0.0.1', 0))\n"
        "with store.committing('ratings'):\n    print(server.server_port, flush=True); server.serve_forever()\n"
    )
    command = [sys.executable, "-c", code, store.uri, study.study_id]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    assert process.stdout
    port = int(process.stdout.readline())
    for task in study.base["chen"][:3]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        body = json.dumps({"rater": "chen", "answer": sent({"task_id": task.task_id})})
        connection.request("POST", "/answer", body, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kept = Answers(Store.open(store.uri), study)
    assert {task_id for _, task_id in kept.all()} == {task.task_id for task in study.base["chen"][:3]}
    kept.save([read_answer(study, "chen", sent({"task_id": study.base["chen"][3].task_id}))])  # its lock is taken over


# --- hostile requests ------------------------------------------------------------------------------------------------


HOSTILE = (
    "/../etc/passwd", "/video/../../etc/passwd", "/video/%2e%2e%2f", "/video/00aa", "/video/" + "0" * 24, "//x", "/x",
    "/study", "/study?rater=eve", "/study?rater=%00", "/study?rater=anna&rater=eve", "/answer", "//[/",
    "/study?" + "&".join("a=1" for _ in range(50)), "/rate.js", "/page.html",
)  # fmt: skip


def test_a_path_leads_nowhere_but_to_the_study(store: Store) -> None:
    with serving(store, study_of(store)) as server:
        for path in HOSTILE:
            status, headers, body = ask(server, "GET", path)
            assert status in (400, 404), path
            assert headers["Content-Type"] == "application/json"
            assert "error" in json.loads(body)


def test_answers_from_elsewhere_and_bodies_that_are_none_are_refused(store: Store) -> None:
    study = study_of(store)
    good = {"rater": "anna", "answer": sent({"task_id": study.base["anna"][0].task_id})}
    with serving(store, study) as server:
        port = server.server_port
        for status, body, headers in (
            (403, good, {"Origin": "http://evil.example"}),
            (403, good, {"Origin": "null"}),
            (403, good, {"Origin": f"http://127.0.0.1:{port + 1}"}),
            (403, good, {"Host": "evil.example"}),
            (403, good, {"Host": f"evil.example:{port}"}),
            (403, good, {"Sec_Fetch_Site": "cross-site"}),
            (415, good, {"Content_Type": "text/plain"}),
            (415, good, {"Content_Type": "application/x-www-form-urlencoded"}),
            (400, b"{", {}),
            (400, b"[" * 5000, {}),
            (400, b"\xff\xfe", {}),
            (400, [good], {}),
            (400, {**good, "answer": None}, {}),
            (400, {**good, "answer": {**good["answer"], "values": {"overall": 5}}}, {}),
            (404, {**good, "rater": "eve"}, {}),
            (404, {**good, "rater": {"a": 1}}, {}),
            (413, b" " * 70_000, {}),
        ):
            assert ask(server, "POST", "/answer", body, **headers)[0] == status, (body, headers)
        assert ask(server, "POST", "/study", good)[0] == 404
        with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
            raw.sendall(b"POST /answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n")
            assert b" 411 " in raw.recv(200)
        assert store.count("ratings") == 0
        assert ask(server, "POST", "/answer", good, Origin=f"http://127.0.0.1:{port}")[0] == 200


def test_videos_come_in_ranges(store: Store) -> None:
    study = study_of(store)
    with serving(store, study) as server:
        url = "/" + json.loads(ask(server, "GET", "/study?rater=anna")[2])["tasks"][0]["videos"][0]
        whole = dict(store.read_generated(server.videos.values()))[server.videos[url.rpartition("/")[2]]]
        status, headers, body = ask(server, "GET", url)
        assert (status, body, headers["Content-Type"], headers["Accept-Ranges"]) == (200, whole, "video/mp4", "bytes")
        n = len(whole)
        for asked, first, last in (
            ("bytes=0-", 0, n - 1), ("bytes=10-19", 10, 19), (f"bytes={n - 5}-{n + 90}", n - 5, n - 1),
            ("bytes=-7", n - 7, n - 1), (f"bytes=-{n + 5}", 0, n - 1), ("bytes=0-0", 0, 0),
        ):  # fmt: skip
            status, headers, body = ask(server, "GET", url, Range=asked)
            assert (status, body) == (206, whole[first : last + 1]), asked
            assert headers["Content-Range"] == f"bytes {first}-{last}/{n}"
        for asked in (f"bytes={n}-", "bytes=9-3", "bytes=-", "bytes=-0", "bytes=0-1,3-4", "frames=1-2", "bytes=x-y"):
            status, headers, body = ask(server, "GET", url, Range=asked)
            assert (status, body, headers["Content-Range"]) == (416, b"", f"bytes */{n}"), asked


def test_other_machines_need_the_link_of_a_rater(store: Store) -> None:
    study = study_of(store)
    with pytest.raises(UserError, match="give a key"):
        RatingServer(store, study, ("0.0.0.0", 0))
    with serving(store, study, key="secret") as server:
        links = dict(server.links())
        assert set(links) == set(RATERS)
        token = token_of("secret", study, "anna")
        assert links["anna"].endswith(f"/?token={token}")
        for path in ("/", "/study?rater=anna", "/video/" + next(iter(server.videos)), "/?token=" + "0" * 40):
            assert ask(server, "GET", path)[0] == 401, path
        status, headers, _ = ask(server, "GET", f"/?token={token}")
        assert (status, headers["Location"]) == (303, "/")
        assert "HttpOnly; SameSite=Lax" in headers["Set-Cookie"]
        cookie = headers["Set-Cookie"].partition(";")[0]
        page = ask(server, "GET", "/", Cookie=cookie, Host="rating.example")[2].decode()
        assert '"rater": "anna"' in page
        assert ask(server, "GET", "/study", Cookie=cookie)[0] == 200
        assert ask(server, "GET", "/study?rater=ben", Cookie=cookie)[0] == 403
        assert ask(server, "GET", "/video/" + next(iter(server.videos)), Cookie=cookie)[0] == 200
        mine = {"rater": "anna", "answer": sent({"task_id": study.base["anna"][0].task_id})}
        assert ask(server, "POST", "/answer", mine)[0] == 401
        assert ask(server, "POST", "/answer", {**mine, "rater": "ben"}, Cookie=cookie)[0] == 403
        assert ask(server, "POST", "/answer", mine, Cookie=cookie, Origin="https://evil.example")[0] == 403
        assert ask(server, "POST", "/answer", mine, Authorization=f"Bearer {token}")[0] == 200
    assert token_of("secret", study, "ben") != token != token_of("other", study, "anna")


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_file_holds_all_that_a_rater_needs_and_no_model(store: Store, tmp_path: Path) -> None:
    study = study_of(store, GSB)
    inside = write_static(store, study, tmp_path / "inside.html", {}).read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', inside, re.S)[1])  # type: ignore[index]
    assert {rater: len(tasks) for rater, tasks in data["tasks"].items()} == dict.fromkeys(RATERS, 3)
    decoded = {base64.b64decode(url.partition(",")[2]) for url in data["urls"].values()}
    assert decoded == {v for _, v in store.read_generated({f"{m}{p}aa" for m in range(2) for p in range(3)})}
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
