"""Names of clusters when their worker is lost: a model is asked again only for what it had not said."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from reelwright.annotate.keys import Keys
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.pipelines.annotate.load import load_annotators, prepare_columns
from reelwright.pipelines.annotate.sets import SetOutcome, run_set
from tests.annotate.chat.conftest import Server
from tests.annotate.sets.embedded_clips import DIM, blobs
from tests.pipelines.helpers import recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")
LONGEST_S = 120
TOKENS_IN = 1000  # that the server reports of an answer
NAMES = ["dogs", "night_city", "kitchen", "snow"]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def clustered(path: Path, hangs: int) -> Store:
    """Clips of four clusters; the server does not answer the first questions about the last one."""
    store = Store.open(path / "store", create=True)
    by = "caption_embedding"
    store.ensure_columns("clips", [
        field(by, pa.list_(pa.float32(), DIM), "vector", computed_by=by),
        field(f"{by}_model", pa.string(), "model", computed_by=by),
        field(f"{by}_fingerprint", pa.string(), "fingerprint", computed_by=by),
        field("cluster_id", pa.int32(), "cluster", computed_by="clusters"),
        field("clusters_fingerprint", pa.string(), "fingerprint", computed_by="clusters"),
        field("caption", pa.string(), "caption", computed_by="caption"),
    ])  # fmt: skip
    vectors, which = blobs([8, 7, 6, 5])
    faults = ["", "", "", f"faults={','.join(['hang'] * hangs)}"]
    store.append("clips", [
        {"clip_id": f"{i:03d}", "source_md5": "s", by: v, f"{by}_model": "m", f"{by}_fingerprint": "f",
         "cluster_id": int(w), "clusters_fingerprint": "f",
         "caption": f'token=t{w} {faults[w]} answer={{"name":"{NAMES[w]}"}} clip {i}'}
        for i, (v, w) in enumerate(zip(vectors, which, strict=True))
    ])  # fmt: skip
    return store


def names_in_state(store: Store) -> list[str | None]:
    rows = store.read("annotator_states").to_pylist()
    assert len(rows) <= 1
    return json.loads(rows[0]["state"])["named"]["names"] if rows else []


def kill_worker() -> None:
    """Kill it by the name that Ray gives a process while it runs a task; of this Ray: others may run here."""
    found = [p for p in psutil.Process().children(recursive=True) if "ray::reel:cluster_names" in " ".join(command(p))]
    assert len(found) == 1
    found[0].kill()


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def run_and_lose_workers(store: Store, server: Server, losses: int) -> SetOutcome:
    """Name clusters, with one try again; a worker is killed when three names are told and it waits for the fourth."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(run(store, server)))
    thread.start()
    for loss in range(1, losses + 1):
        ends = time.monotonic() + LONGEST_S
        while time.monotonic() < ends:
            time.sleep(0.05)
            if sum(map(bool, names_in_state(store))) == 3 and server.stats()["seen"].get("t3") == loss:
                break
        kill_worker()
    thread.join()
    return found[0]


def run(store: Store, server: Server) -> SetOutcome:
    chat = {"model": "m", "url": server.url, "timeout_s": 60}
    recipe = recipe_of(
        annotators=["cluster_names"], parameters={"cluster_names": {"chat": chat}},
        limits__attempts=1, batches__commit_s=1e-9,
    )  # fmt: skip
    annotators = load_annotators(recipe)
    prepare_columns(store, annotators)
    return run_set(store, recipe, annotators["cluster_names"], Keys({}))


def named(store: Store) -> dict[int, str]:
    rows = store.read("clips", ["cluster_id", "cluster_name"])
    return dict(zip(rows["cluster_id"].to_pylist(), rows["cluster_name"].to_pylist(), strict=True))


def test_another_worker_asks_only_for_the_names_that_the_lost_one_had_not_told(tmp_path: Path, server: Server) -> None:
    store = clustered(tmp_path, hangs=1)
    outcome = run_and_lose_workers(store, server, losses=1)
    assert (outcome.error, outcome.clips) == ("", 26)
    assert server.stats()["seen"] == {"t0": 1, "t1": 1, "t2": 1, "t3": 2}
    assert named(store) == dict(enumerate(NAMES))
    assert names_in_state(store) == NAMES
    assert outcome.usage["cluster_names"]["input_tokens"] == 4 * TOKENS_IN, "of both workers"


def test_the_next_run_asks_only_for_the_names_that_no_worker_had_told(tmp_path: Path, server: Server) -> None:
    store = clustered(tmp_path, hangs=2)
    outcome = run_and_lose_workers(store, server, losses=2)
    assert "WorkerCrashed" in outcome.error
    assert outcome.usage["cluster_names"]["input_tokens"] == 3 * TOKENS_IN, "what the lost worker told of its usage"
    assert set(named(store).values()) == {None}
    assert run(store, server).clips == 26
    assert server.stats()["seen"] == {"t0": 1, "t1": 1, "t2": 1, "t3": 3}
    assert named(store) == dict(enumerate(NAMES))
    assert names_in_state(store) == NAMES, "the one row of this annotator is the last state"
