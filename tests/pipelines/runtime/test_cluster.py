"""Three nodes, one of which goes away in the middle: the same store as one machine's."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from reelwright.curation.store import Store
from reelwright.pipelines.runtime.cluster import BELOW_BYTES, SOCKET_BYTES, _folder
from tests.conftest import REEL, ROOT
from tests.footage import footage
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole, contents, curate

PROGRAM = """
import sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from reelwright.curation.store import Store
from tests.pipelines.helpers import curate, recipe_of

store, inputs = Path(sys.argv[1]), sys.argv[2]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
others = [cluster.add_node(num_cpus=1) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")
cluster.wait_for_nodes()
opened = Store.open(store, create=True)

def take_away():
    while not opened.count("media"):
        time.sleep(0.05)
    cluster.remove_node(others[0], allow_graceful=False)
    print("removed", opened.count("sources"), flush=True)

threading.Thread(target=take_away, daemon=True).start()
recipe = recipe_of(batches__commit_s=0.3, batches__cut_clips=1)
summary = curate(store, [inputs], recipe)
print("done", summary.ok, summary.duplicate, summary.failed, summary.clips, flush=True)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.exhaustive
@pytest.mark.usefixtures("ray_local")
def test_a_node_that_goes_away_changes_nothing(tmp_path):
    footage(tmp_path / "in", 7, lengths=(40, 40, 40))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), str(tmp_path / "in")], capture_output=True, text=True,
        timeout=240, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    said = dict(line.split(" ", 1) for line in made.stdout.splitlines() if line.startswith(("removed ", "done ")))
    assert int(said["removed"]) < 7, "the node went away too late to matter"
    assert said["done"] == "7 0 0 21"
    curate(tmp_path / "single", [tmp_path / "in"])
    assert contents(tmp_path / "store") == contents(tmp_path / "single")
    check_whole(tmp_path / "store")


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("length", [8, 37, 38, 90, 200])
def test_sockets_fit_below_a_temporary_folder_of_any_length(monkeypatch, name, length):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, "/" + "t" * (length - 1))
    chosen = _folder().get("_temp_dir", f"{os.environ[name]}/ray")
    assert len(chosen) + BELOW_BYTES <= SOCKET_BYTES
    assert (length > 39) == ("_temp_dir" in _folder())


@pytest.mark.exhaustive
def test_sigterm_in_a_run_below_a_long_temporary_folder_ends_it_in_a_sentence(tmp_path):
    """Both, since a Ray of its own takes seconds to start."""
    footage(tmp_path / "in", 8, lengths=(40, 40))
    long = tmp_path / ("t" * 90)
    long.mkdir()
    often = ["--set", "batches.commit_s=0.3", "--set", "batches.cut_clips=1"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"TMPDIR": str(long)}
    curated = ["curate", tmp_path / "in", "--store", tmp_path / "store", *CHEAP_ARGUMENTS, *often]
    run = subprocess.Popen(
        [*REEL, *curated], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 300
    while run.poll() is None and time.monotonic() < end:
        if Store.exists(tmp_path / "store") and Store.open(tmp_path / "store").count("sources"):
            break
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    out, errors = run.communicate(timeout=300)
    assert run.returncode == 143, out + errors
    assert "stopped; what was committed stays" in errors
    assert "Traceback" not in errors
    (row,) = Store.open(tmp_path / "store").read("runs", ["state", "counts"]).to_pylist()
    assert (row["state"], json.loads(row["counts"])["failed"]) == ("interrupted", 0)
    assert not list((tmp_path / "store" / "_locks").iterdir())
