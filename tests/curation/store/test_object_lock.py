"""The lock of a store on object stores: processes die, stand still or ask at once, and answers get lost."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from reelwright.curation.store import Store, StoreError, lock, maintenance, owner, seen
from reelwright.curation.store.object_lock import ObjectLock
from tests.pipelines.emulators import emulator
from tests.pipelines.object_store import ObjectStore, met

HOLDER = """
import socket, sys
from reelwright.curation.store import lock, owner
owner.LEASE_S, owner.RENEW_S = 3.0, 0.3
if sys.argv[2]:
    socket.gethostname = lambda: sys.argv[2]
with lock.exclusive(sys.argv[1], "curation"):
    print("in", flush=True)
    sys.stdin.read()
"""
WRITER = """
import sys
from reelwright.curation.store import Store
with (store := Store.open(sys.argv[1])).committing():
    store.append("sources", [{"uri": "theirs", "md5": "m", "state": "ok"}])
"""


@pytest.fixture(scope="module", params=["s3", "gs", "az"])
def server(request) -> Iterator[ObjectStore]:
    """Each service in turn; those but S3 where their emulators are installed."""
    with (
        contextlib.nullcontext(request.getfixturevalue("s3"))
        if request.param == "s3"
        else emulator(request.param) as one
    ):
        yield one


@pytest.fixture(scope="module")
def locks(server) -> str:
    return server.bucket("locks")


@pytest.fixture(autouse=True)
def hasty(monkeypatch) -> None:
    monkeypatch.setattr(owner, "LEASE_S", 3.0)
    monkeypatch.setattr(owner, "RENEW_S", 0.3)
    monkeypatch.setattr(owner, "WATCH_S", 1.5)


@contextlib.contextmanager
def holder(store: str, host: str = "") -> Iterator[subprocess.Popen]:
    run = subprocess.Popen([sys.executable, "-c", HOLDER, store, host], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           text=True)  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline() == "in\n"
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def take(store: str) -> None:
    with lock.exclusive(store, "curation"):
        pass


def content(server: ObjectStore, store: str) -> dict:
    return json.loads(server.files.cat_file(f"{store}/_locks/curation.json"))


def test_a_process_of_this_machine_is_waited_for_and_taken_over_from_once_it_is_dead(server, locks):
    with holder(f"{locks}/here") as other:
        with pytest.raises(StoreError, match=rf"process {other.pid} on .* has been writing to this store"):
            take(f"{locks}/here")
        other.kill()
        other.wait()
        with lock.exclusive(f"{locks}/here", "curation"):
            assert content(server, f"{locks}/here")["pid"] == os.getpid()
            assert lock.is_held_here(f"{locks}/here", "curation")
    assert content(server, f"{locks}/here")["free"]
    take(f"{locks}/here")


def test_another_machine_s_lock_holds_while_it_is_renewed_and_lapses_when_it_is_not(server, locks):
    with holder(f"{locks}/there", "elsewhere") as other:
        until = time.monotonic() + 2 * owner.LEASE_S
        while time.monotonic() < until:
            with pytest.raises(StoreError, match="on elsewhere .* lapses 3 s after"):
                take(f"{locks}/there")
            time.sleep(0.5)
        other.kill()
        other.wait()
        until = time.monotonic() + 60
        while True:
            try:
                return take(f"{locks}/there")
            except StoreError:
                assert time.monotonic() < until
                time.sleep(0.3)


def test_of_many_that_ask_at_once_one_gets_it(server, locks):
    got, refused = [], []
    start = threading.Barrier(8)

    def ask() -> None:
        one = ObjectLock(f"{locks}/crowd", "curation")
        start.wait()
        try:
            got.append(one.take())
        except StoreError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert len(refused) == 7
    assert all("has been writing" in words or "changes hands" in words for words in refused), refused


@pytest.mark.parametrize("kind", ["unsure", "unheard", "refuse", "reset"])
def test_an_answer_that_is_lost_loses_no_lock(server, locks, kind):
    store = f"{locks}/{kind}"
    rule = {"kind": kind, "method": "PUT", "path": "curation", "every": 2}
    with server.faults(rule):
        for _ in range(2):
            with lock.exclusive(store, "curation"):
                hold = lock._held[lock._key(store, "curation")]
                with lock._renewing:
                    assert hold.lock.renew(hold.owner)
                assert hold.lock.is_held_by(hold.owner)
        assert met(server.log())[kind] >= 2
    assert content(server, store)["free"]


def test_a_sign_of_life_that_nobody_heard_of_is_no_loss(server, locks):
    held = ObjectLock(f"{locks}/unheard", "curation", None)
    mine = held.take()
    before = held._tag
    assert held.renew(mine)
    held._tag = before  # as if neither the answer nor a look at the lock had come back
    assert held.renew(mine)
    assert held.renew(mine)
    held._tag = before
    server.files.pipe_file(f"{locks}/unheard/_locks/curation.json", json.dumps(mine | {"nonce": "theirs"}).encode())
    assert not held.renew(mine)


def test_a_process_that_stood_still_does_not_go_on_where_another_has_begun(server, locks):
    store = f"{locks}/still"
    with lock.exclusive(store, "curation"):
        hold = lock._held[lock._key(store, "curation")]
        other = owner.this_process() | {"pid": 1, "host": "elsewhere", "nonce": "other"}
        server.files.pipe_file(f"{store}/_locks/curation.json", json.dumps(other).encode())
        with lock._renewing:
            assert not hold.lock.renew(hold.owner)
        hold.confirmed_at = time.monotonic() - owner.LEASE_S
        with pytest.raises(StoreError, match="stood still"):
            take(store)
    assert content(server, store)["nonce"] == "other", "it gave the other's lock away"


@pytest.mark.exhaustive
@pytest.mark.always
def test_who_takes_the_lock_reads_what_its_last_owner_wrote_whatever_a_listing_shows(s3, s3_store):
    store, uri = s3_store, s3_store.uri
    store.append("sources", [{"uri": "ours", "md5": "m", "state": "ok"}])
    assert store.count("sources") == 1
    s3.freeze_listings()
    subprocess.run([sys.executable, "-c", WRITER, uri], check=True, timeout=120)
    with s3.faults({"kind": "stale", "path": "list-type.*sources"}):
        fresh = Store.open(uri)
        assert fresh.count("sources") == 1, "the listing is not old"
        with fresh.committing():
            assert sorted(fresh.read("sources", ["uri"]).column(0).to_pylist()) == ["ours", "theirs"]
    with store.committing():
        store.append("sources", [{"uri": "last", "md5": "m", "state": "ok"}])
        assert store.count("sources") == 3
    assert seen.newest(f"{uri}/sources.lance") >= 4


def test_clean_up_keeps_a_killed_run_s_files_for_a_week_as_a_list_may_hide_whose_they_are(s3, s3_store):
    def files() -> set[str]:
        return set(s3.files.find("shared/store/media.lance/data"))

    committed = files()
    s3_store.write_media(["a" * 24], [b"x" * 100_000])
    written = files()
    assert written > committed
    maintenance._drop_versions(s3_store, "media", timedelta(days=7))
    assert files() == written
    with holder(s3_store.uri), pytest.raises(StoreError, match="has been writing"):
        s3_store.cleanup()


def test_options_that_lance_takes_reach_the_lock(server, locks, monkeypatch):
    """As `Store.open(…, storage_options=…)` gives them, in the place of the environment's."""
    prefix = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}[server.protocol]
    options = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    for name in options:
        monkeypatch.delenv(name)
    options.pop("AZURE_STORAGE_CONNECTION_STRING", None)  # adlfs's alone
    assert ObjectLock(f"{locks}/given", "curation", options).take()
    if server.protocol != "s3":
        with pytest.raises(StoreError, match="nonsense"):
            ObjectLock(f"{locks}/given", "curation", options | {"nonsense": "1"})
