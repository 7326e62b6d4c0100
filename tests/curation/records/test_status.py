"""What a run tells of itself."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reelwright.curation.records import status
from reelwright.curation.records.runs import recorded_run
from reelwright.curation.store import Store
from reelwright.pipelines.cli.commands.status import lines
from tests.conftest import ROOT

RUN = """
import sys
from reelwright.curation.records.runs import recorded_run
with recorded_run(sys.argv[1], "curate", "inputs: [in]") as run:
    run.tell(lambda: {"what": "curate", "done": 3, "total": 10, "counts": {"clips": 7}})
    print("told", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def running(uri: str) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a run; a line lets it end."""
    command = [sys.executable, "-c", RUN, uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "told\n"
        yield process
        process.kill()


def seen(uri: str, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """What is read of runs under way, once it is as wanted."""
    until = time.monotonic() + 60
    while not wanted(found := status.under_way(uri)):
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def test_a_run_is_followed_from_elsewhere_and_its_end_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "EVERY_S", 0.01)
    stage = {"tasks": 3, "queued": 1, "in_flight": 2, "seconds": 5.0, "cpu_s": 4.0, "wait_s": 1.0, "peak_bytes": 2**30,
             "bytes_in": 7_000_000}  # fmt: skip
    store = Store.open(tmp_path / "store", create=True)
    with recorded_run(store, "curate", "") as run:
        facts = {"what": "curate", "done": 3, "total": 9, "counts": {"clips": 40}, "elapsed_s": 20.0, "eta_s": 7000}
        run.counts = {"folder": "no number"}
        run.tell(lambda: facts | {"stages": {"scan": stage}})
        (read,) = seen(store.uri, bool)
        assert read["state"] == "running"
        said = "\n".join(lines(read))
        assert "curate: 3 of 9, 40 clips (2.00 clips/s), 20 s" in said
        assert "about 117 min left" in said
        assert "scan" in said
        assert "1,024" in said
        read["silent_s"] = 200
        assert "silent for 3 min" in next(lines(read))

    def interrupted() -> None:
        with recorded_run(store, "curate", "") as run:
            run.tell(dict)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    monkeypatch.setattr(status, "EVERY_S", 1e9)
    with recorded_run(store, "annotate", "") as run:
        run.tell(lambda: {"done": 1})
        run.tell(lambda: {"done": 2})
    (last,) = (facts for facts in status.read(store.uri) if facts["command"] == "annotate")
    assert last["done"] == 2, "its last words are not told"
    states = [facts["state"] for facts in status.read(store.uri)]
    assert sorted(states) == ["finished", "finished", "interrupted"]
    assert status.under_way(store.uri) == []
    assert status.read(str(tmp_path / "nothing")) == []


def test_a_run_that_tells_nothing_for_long_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "EVERY_S", 0.01)
    store = Store.open(tmp_path / "store", create=True)
    with recorded_run(store, "train", "") as run:
        run.tell(lambda: {"done": 1, "total": 2})
        (first,) = seen(store.uri, bool)
        assert abs(first["told"] - time.time()) < 60
        (later,) = seen(store.uri, lambda found: found[0]["told"] > first["told"])
        assert (later["done"], later["silent_s"] < 60) == (1, True)


@pytest.mark.waits
def test_a_run_leaves_its_row_at_the_end_and_is_under_way_no_more(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    with running(store.uri) as process:
        [told] = seen(store.uri, bool)
        assert (told["command"], told["done"], told["total"], told["state"]) == ("curate", 3, 10, status.RUNNING)
        assert told["counts"] == {"clips": 7}
        assert told["owner"]["pid"] == process.pid
        assert store.count("runs") == 0
        process.communicate("\n")
    assert status.under_way(store.uri) == []
    assert store.read("runs", ["state"]).to_pylist() == [{"state": "finished"}]


@pytest.mark.waits
def test_a_killed_run_says_how_far_it_came_until_its_command_runs_again(tmp_path, reel):
    store = Store.open(tmp_path / "store", create=True)
    with running(store.uri) as process:
        seen(store.uri, bool)
        process.kill()
        process.wait()
    [told] = status.under_way(store.uri)
    assert (told["state"], told["done"]) == (status.LOST, 3)
    watched = reel("status", "-s", store.uri, "--watch")
    assert watched.returncode == 0, "a watch waits for a run that was killed"
    assert "lost: it was killed" in watched.stdout
    both = {"curate": status.LOST, "annotate": status.RUNNING}
    with recorded_run(store, "annotate", "") as other:
        other.tell(lambda: {"done": 1, "total": 2})
        seen(store.uri, lambda found: {one["command"]: one["state"] for one in found} == both)
    with recorded_run(store, "curate", "") as again:
        again.tell(lambda: {"done": 4, "total": 10})
        seen(store.uri, lambda found: [one["state"] for one in found] == [status.RUNNING])
    assert status.under_way(store.uri) == []


@pytest.mark.parametrize("ahead_s", [0, 3600, -3600])
def test_another_machine_s_run_is_lost_once_it_is_silent_for_long(tmp_path, ahead_s):
    """Whatever the clock of that machine says."""
    (tmp_path / status.FOLDER).mkdir()
    for name, silent_s in (("there", 100), ("gone", 2 * status.LOST_S)):
        then = time.time() - silent_s
        told = {"command": name, "state": "running", "began": 1, "told": then + ahead_s,
                "owner": {"host": "elsewhere", "pid": 1}}  # fmt: skip
        path = tmp_path / status.FOLDER / f"{name}.json"
        path.write_text(json.dumps(told))
        os.utime(path, (then, then))
    found = {one["command"]: one for one in status.read(str(tmp_path))}
    assert {name: one["state"] for name, one in found.items()} == {"there": status.RUNNING, "gone": status.LOST}
    assert "silent for 100 s" in next(lines(found["there"]))


def test_a_run_of_a_store_on_s3_is_seen_too(s3):
    bucket = s3.bucket("told")
    told = status.Status(f"{bucket}/store", "curate")
    told.tell(lambda: {"done": 1, "total": 2})
    [one] = seen(f"{bucket}/store", bool)
    assert (one["done"], one["state"]) == (1, status.RUNNING)
    told.end("finished")
    assert [one["state"] for one in status.read(f"{bucket}/store")] == ["finished"]
    late = {"command": "there", "state": "running", "began": 1, "told": time.time() - 3600, "owner": {"host": "there"}}
    s3.files.pipe_file(f"{bucket}/store/{status.FOLDER}/there.json", json.dumps(late).encode())
    (there,) = status.under_way(f"{bucket}/store")
    assert (there["state"], there["silent_s"] < 600) == (status.RUNNING, True), "its clock was believed"


def test_files_that_no_run_wrote_are_left_out(tmp_path):
    folder = tmp_path / status.FOLDER
    folder.mkdir()
    whole = {"command": "curate", "owner": {"pid": 1}, "state": "running", "began": 1, "told": 1}
    texts = ["", "[]", "{", '{"owner": 3', '{"no": "owner"}', json.dumps(whole) + " " * (2 << 20) + "x", "\xff"]
    for i, text in enumerate(texts):
        (folder / f"{i}.json").write_text(text, encoding="latin-1")
    for i, change in enumerate(
        [{"owner": {"pid": 2**80}}, {"owner": "me"}, {"began": "x"}, {"began": 1e300}, {"told": -1}]
    ):
        (folder / f"wrong{i}.json").write_text(json.dumps(whole | change))
    (folder / "right.json").write_text(json.dumps(whole | {"state": "finished"}))
    assert [one["state"] for one in status.read(str(tmp_path))] == ["finished"]


def test_old_runs_are_forgotten_and_a_folder_that_cannot_be_written_stops_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "KEPT", 3)
    for i in range(5):
        (tmp_path / status.FOLDER).mkdir(exist_ok=True)
        facts = {"command": "curate", "began": i, "state": "finished"}
        (tmp_path / status.FOLDER / f"{i}-x.json").write_text(json.dumps(facts))
    (tmp_path / status.FOLDER / "9-broken.json").write_text("{")
    last = status.Status(str(tmp_path), "curate")
    last.tell(dict)
    last.end("finished")
    assert len(list((tmp_path / status.FOLDER).iterdir())) == 3
    (tmp_path / "file").write_text("")
    for place in ("file", "missing/deeper"):
        told = status.Status(str(tmp_path / place), "curate")
        told.tell(lambda: {"what": "curate"})
        told.end("finished")


def test_a_run_that_told_nothing_leaves_nothing(tmp_path):
    status.Status(str(tmp_path), "curate").end("finished")
    assert list(tmp_path.iterdir()) == []
