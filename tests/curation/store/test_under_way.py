"""Notes of runs that go on: seen by others, gone at the end, left behind by a killed process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reelwright.curation.store import Store
from reelwright.curation.store.under_way import FOLDER, LOST, RUNNING, Note, under_way
from reelwright.pipelines.records.runs import recorded_run
from tests.conftest import ROOT

RUN = """
import sys
from reelwright.pipelines.records.runs import recorded_run
with recorded_run(sys.argv[1], "curate", "inputs: [in]") as run:
    run.show(3, 10, "curate", clips=7)
    print("shown", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def running(uri: str) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a run; a line lets it end."""
    command = [sys.executable, "-c", RUN, uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "shown\n"
        yield process
        process.kill()


@pytest.mark.waits
def test_a_run_is_seen_while_it_goes_on_and_leaves_its_row_at_the_end(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    with running(store.uri) as process:
        [note] = under_way(store.uri)
        assert (note["command"], note["done"], note["total"], note["state"]) == ("curate", 3, 10, RUNNING)
        assert note["counts"] == {"clips": 7}
        assert note["owner"]["pid"] == process.pid
        assert store.count("runs") == 0
        process.communicate("\n")
    assert under_way(store.uri) == []
    assert store.read("runs", ["state"]).to_pylist() == [{"state": "finished"}]


@pytest.mark.waits
def test_a_killed_run_says_how_far_it_came_until_its_command_runs_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    with running(store.uri) as process:
        process.kill()
        process.wait()
    [note] = under_way(store.uri)
    assert (note["state"], note["done"]) == (LOST, 3)
    with recorded_run(store, "annotate", "") as other:
        other.show(1, 2)
        assert {one["command"]: one["state"] for one in under_way(store.uri)} == {"curate": LOST, "annotate": RUNNING}
    with recorded_run(store, "curate", "") as again:
        again.show(4, 10)
        assert [one["state"] for one in under_way(store.uri)] == [RUNNING]
    assert under_way(store.uri) == []


def test_files_that_are_no_notes_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    whole = {"command": "curate", "owner": {"pid": 1}}
    texts = ["", "[]", "{", '{"owner": 3', '{"no": "owner"}', json.dumps(whole) + " " * (2 << 20), "\xff"]
    for i, text in enumerate(texts):
        (folder / f"{i}.json").write_text(text, encoding="latin-1")
    (folder / "pids.json").write_text(json.dumps({"owner": {"pid": 2**80}}))
    (folder / "words.json").write_text(json.dumps({"owner": "me"}))
    assert [one["owner"] for one in under_way(str(tmp_path))] == ["me"]


def test_a_note_is_written_at_most_once_per_second_and_a_disk_that_refuses_costs_no_run(tmp_path: Path) -> None:
    note = Note(str(tmp_path), {"command": "x"})
    began = time.monotonic()
    note.show(done=1)
    note.show(done=2)
    if time.monotonic() - began < 1:
        assert under_way(str(tmp_path))[0]["done"] == 1
    Note(str(tmp_path / "missing" / "deeper"), {"command": "x"}).show(done=1)
    remote = Note("s3://bucket/store", {"command": "x"})
    remote.show(done=1)
    remote.end()
    assert under_way("s3://bucket/store") == []
