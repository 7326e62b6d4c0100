"""Ray that did not come up in its own time limit, as on a busy machine, is started again."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.conftest import ROOT

PROGRAM = """
from reelwright.pipelines.runtime.cluster import cluster
import ray
with cluster():
    print("answered", ray.get(ray.remote(lambda: 6 * 7).remote()), flush=True)
"""


@pytest.mark.exhaustive
def test_ray_that_did_not_come_up_in_time_is_started_again() -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _killed_raylet(running.pid)
    said, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    assert "answered 42" in said
    assert "starting it again" in errors


def _killed_raylet(pid: int) -> None:
    """Kill the first raylet below a process, as soon as it is there."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for child in psutil.Process(pid).children(recursive=True):
            try:
                if child.name() == "raylet":
                    os.kill(child.pid, signal.SIGKILL)
                    return
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        time.sleep(0.01)  # it is killed before it has told Ray that it is there, which takes it longer
    raise AssertionError("no raylet was started")
