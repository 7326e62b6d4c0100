"""Whose lock it is: processes of this machine, of another, dead, stopped, and with a clock that is wrong."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from reelwright.curation.store import StoreError, lock, owner
from reelwright.curation.store.file_lock import FileLock

ELSEWHERE = """
import socket, sys, time
from pathlib import Path
socket.gethostname = lambda: "elsewhere"
from reelwright.curation.store import lock, owner
owner.LEASE_S, owner.RENEW_S = 4.0, 0.2
with lock.exclusive(Path(sys.argv[1]), "curation"):
    print("in", flush=True)
    time.sleep(600)
"""

BRIEFLY = """
import os, sys, time
from pathlib import Path
from reelwright.curation.store import lock
folder, until = Path(sys.argv[1]), time.monotonic() + 120
with lock.exclusive(folder, "curation", is_brief=True):
    print("in", flush=True)
    while len(os.listdir(folder / "_locks")) < 2:  # until another tries to take it, of which there is a draft
        assert time.monotonic() < until, "nobody tried to take it"
"""


@pytest.fixture(autouse=True)
def hasty(monkeypatch) -> None:
    monkeypatch.setattr(owner, "LEASE_S", 4.0)
    monkeypatch.setattr(owner, "RENEW_S", 0.2)
    monkeypatch.setattr(owner, "WATCH_S", 0.8)


@pytest.fixture
def elsewhere(tmp_path) -> Iterator[subprocess.Popen]:
    with holder_elsewhere(tmp_path) as run:
        yield run


@contextmanager
def holder_elsewhere(store: Path) -> Iterator[subprocess.Popen]:
    """Start a process that says it is on another machine, and holds the lock; end it."""
    run = subprocess.Popen([sys.executable, "-c", ELSEWHERE, str(store)], stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "in\n"
        yield run
    finally:
        run.send_signal(signal.SIGCONT)
        run.kill()
        run.communicate()


def path_of(store: Path) -> Path:
    return store / "_locks" / "curation.json"


def test_another_machine_s_lock_holds_while_it_is_renewed_and_lapses_when_it_is_not(tmp_path, elsewhere):
    for _ in range(2):
        with (
            pytest.raises(StoreError, match=rf"process {elsewhere.pid} on elsewhere .* lapses 4 s after"),
            lock.exclusive(tmp_path, "curation"),
        ):
            pass
        time.sleep(4.5)  # longer than a lease
    elsewhere.kill()
    elsewhere.wait()
    taken = _taken_in_the_end(tmp_path)
    assert taken["pid"] == os.getpid()
    assert not path_of(tmp_path).exists()


def _taken_in_the_end(store: Path) -> dict:
    end = time.monotonic() + 60
    while True:
        try:
            with lock.exclusive(store, "curation"):
                return json.loads(path_of(store).read_text())
        except StoreError:
            assert time.monotonic() < end
            time.sleep(0.3)


@pytest.mark.parametrize("skew_s", [-3600, 3600])
def test_clocks_that_differ_take_no_lock_from_a_process_that_lives(tmp_path, skew_s):
    """Its machine sets the file's time by a clock an hour off."""
    path = path_of(tmp_path)
    path.parent.mkdir()
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "time": 0, "lease_s": 2.0}))
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.1):
            now = time.time_ns() + skew_s * 10**9
            os.utime(path, ns=(now, now))

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        time.sleep(0.3)
        with pytest.raises(StoreError, match="on elsewhere"), lock.exclusive(tmp_path, "curation"):
            pass
    finally:
        stop.set()
        thread.join()


def test_a_container_of_this_machine_s_name_is_not_taken_for_a_dead_process(tmp_path):
    path = path_of(tmp_path)
    path.parent.mkdir()
    me = owner.this_process()
    path.write_text(json.dumps(me | {"pid": 2**22 + 1, "space": "pid:[1]"}))
    with pytest.raises(StoreError, match="has been writing"), lock.exclusive(tmp_path, "curation"):
        pass
    path.write_text(json.dumps(me | {"pid": 2**22 + 1}))
    with lock.exclusive(tmp_path, "curation"):
        pass


def test_a_lock_of_one_write_is_waited_for(tmp_path):
    with subprocess.Popen([sys.executable, "-c", BRIEFLY, str(tmp_path)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "in\n"
        with lock.exclusive(tmp_path, "curation"):
            assert "is_brief" not in json.loads(path_of(tmp_path).read_text())
    assert run.returncode == 0


def test_a_process_that_stood_still_does_not_go_on_where_another_has_begun(tmp_path):
    with lock.exclusive(tmp_path, "curation"):
        mine = path_of(tmp_path).read_text()
        with lock.exclusive(tmp_path, "curation"):
            assert path_of(tmp_path).read_text() == mine
        other = json.dumps(owner.this_process() | {"pid": 1, "host": "elsewhere"})
        path_of(tmp_path).write_text(other)  # taken over
        time.sleep(2.4)  # half a lease since it was surely ours
        with pytest.raises(StoreError, match="stood still"), lock.exclusive(tmp_path, "curation"):
            pass
    assert path_of(tmp_path).read_text() == other, "it took the other's lock away"


def test_a_lock_whose_link_was_made_but_its_answer_lost_is_held(tmp_path, monkeypatch):
    """On NFS the client repeats a request whose answer was lost, and is told that the file exists.

    There is no NFS here: os.link makes the link for real, then raises what the repeated request would.
    """
    link = os.link

    def linked_but_unheard(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))

    monkeypatch.setattr(os, "link", linked_but_unheard)
    with lock.exclusive(tmp_path, "curation"):
        assert json.loads(path_of(tmp_path).read_text())["pid"] == os.getpid()
        assert os.listdir(tmp_path / "_locks") == ["curation.json"]
    assert os.listdir(tmp_path / "_locks") == []


def test_a_lock_taken_by_the_same_process_at_the_same_time_is_not_taken_for_one_s_own(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1.0)  # two threads within one tick of the clock
    first, second = (FileLock(str(tmp_path), "curation") for _ in range(2))
    mine = first.take()
    with pytest.raises(owner.HeldError, match=f"process {os.getpid()} on"):
        second.take()
    assert first.is_held_by(mine)


def test_a_lock_that_a_third_process_takes_while_a_second_s_is_put_aside_stands(tmp_path, monkeypatch):
    """os.rename renames for real; the second process comes just before it, the third just after it."""
    path = path_of(tmp_path)
    path.parent.mkdir()
    me = owner.this_process()
    path.write_text(json.dumps(me | {"pid": 2**22 + 1}))  # of a dead process
    rename = os.rename
    came: list[int] = []
    with ExitStack() as until_the_end:

        def among_others(source: Path, target: Path) -> None:
            path.write_text(json.dumps(me | {"pid": 1, "host": "second"}))
            rename(source, target)
            came.append(until_the_end.enter_context(holder_elsewhere(tmp_path)).pid)

        monkeypatch.setattr(os, "rename", among_others)
        with pytest.raises(owner.HeldError, match="on elsewhere"), lock.exclusive(tmp_path, "curation"):
            pass
        assert came == [json.loads(path.read_text())["pid"]]
        assert os.listdir(path.parent) == ["curation.json"]
