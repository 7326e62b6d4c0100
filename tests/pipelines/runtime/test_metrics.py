"""Stages' figures reach a Prometheus server through Ray."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.exhaustive, pytest.mark.waits]
RUN = r"""
import re, time, urllib.request
import ray
from reelwright.curation import usage
from reelwright.curation.usage import Usage
from reelwright.pipelines.recipes.curation import Need
from reelwright.pipelines.runtime.flow import Flow

def work(number):
    usage.note(Usage(peak_bytes=3 << 20, requests=2, bytes_in=1000))
    return number

ray.init(num_cpus=1, include_dashboard=False, logging_level="error", _system_config={"metrics_report_interval_ms": 500})
flow = Flow({"scan": (work, Need(), 1)}, attempts=1)
for number in range(3):
    flow.add("scan", number, number)
while flow:
    for done in flow.next_done():
        assert done.value == done.context
        flow.metrics.add_clips(2)
(node,) = ray.nodes()
page, until = "", time.monotonic() + 120
while not re.search(r"reel_stage_tasks_total.* 3(.0)?$", page, re.MULTILINE) and time.monotonic() < until:
    time.sleep(0.5)
    page = urllib.request.urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics").read().decode()
print("\n".join(line for line in page.splitlines() if "reel_" in line and not line.startswith("#")))
"""


def test_stages_are_metrics_of_ray(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", RUN], env=environment | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path,
                          capture_output=True, text=True, timeout=400)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {
        name: float(value)
        for name, value in re.findall(r'^(\w+)\{[^}]*stage="scan"[^}]*\} ([\d.e+-]+)$', done.stdout, re.MULTILINE)
    }
    short = {re.sub(r"^ray_|_total$", "", name): value for name, value in found.items()}
    assert short["reel_stage_tasks"] == 3, done.stdout
    assert short["reel_input_bytes"] == 3000
    assert re.search(r"^ray_reel_clips(_total)?(\{[^}]*\})? 6(\.0)?$", done.stdout, re.MULTILINE), done.stdout
    assert short["reel_input_requests"] == 6
    assert short["reel_stage_peak_bytes"] == 3 << 20
