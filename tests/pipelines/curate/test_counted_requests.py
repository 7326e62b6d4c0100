"""Requests and bytes that a run says it made of object stores, beside those that the server saw."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from reelwright.curation.store import Store
from tests.footage import footage
from tests.pipelines.helpers import curate, recipe_of
from tests.pipelines.object_store import Line

pytestmark = pytest.mark.usefixtures("ray_local")
OF_STORE = {"bytes_in": "bytes_read", "bytes_out": "bytes_written"}
ROW_REQUESTS, ROW_WRITES, ROW_BYTES = 30, 12, 16_000
"""At most, to write a run's own row and last words, and to give up its lock: what is known only after they are told."""


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    return footage(tmp_path_factory.mktemp("counted"), 3, lengths=(40,))


def seen(log: Sequence[Line]) -> Counter[str]:
    """What the server saw; bytes of objects, as Lance counts none of lists."""
    return Counter(
        requests=len(log),
        write_requests=sum(line.method not in ("GET", "HEAD") for line in log),
        bytes_in=sum(line.received for line in log if line.method == "GET" and "list-type" not in line.target),
        bytes_out=sum(line.sent for line in log),
    )


def told(store: Store) -> dict[str, Counter[str]]:
    """Command and stage -> what the store's runs say of it."""
    found = {}
    for row in store.read("runs", ["command", "stages"]).to_pylist():
        for name, stage in json.loads(row["stages"]).items():
            here = OF_STORE if name == "store" else {}
            names = ("requests", "write_requests", "bytes_in", "bytes_out")
            found[f"{row['command']}.{name}"] = Counter({of: int(stage[here.get(of, of)]) for of in names})
    return found


def test_a_run_tells_nearly_all_requests_and_bytes_that_the_server_saw(object_store, films):
    """Of a curation with annotators in the cut, in a process of their own, and of a set."""
    bucket = object_store.bucket("counted", *films)
    store = Store.open(f"{bucket}/store", create=True)
    object_store.clear_log()
    curate(store, [f"{bucket}/in"], recipe_of(annotators=["flaky", "lonely", "ranked"]))
    log = object_store.log()
    stages = told(store)
    server, counted = seen(log), sum(stages.values(), Counter())
    left = {name: server[name] - counted[name] for name in server}
    assert 0 <= left["requests"] <= ROW_REQUESTS
    assert 0 <= left["write_requests"] <= ROW_WRITES
    assert 0 <= left["bytes_in"] <= ROW_BYTES
    assert 0 <= left["bytes_out"] <= ROW_BYTES

    of_inputs = [line for line in log if line.target.startswith(("/counted/in", "/counted?list-type=2&prefix=in"))]
    assert sum(stages[f"curate.{name}"]["requests"] for name in ("list", "probe")) == len(of_inputs)
    assert stages["curate.probe"]["bytes_in"] == sum(film.stat().st_size for film in films)
    clips = sum(len(mp4) for _, mp4 in store.read_media(store.read("clips", ["clip_id"])["clip_id"].to_pylist()))
    assert stages["annotate.lonely"]["bytes_in"] > clips, "actors read the clips"
    assert stages["annotate.ranked"]["requests"] > 0
    assert clips < stages["curate.write"]["bytes_out"] < 1.1 * clips
