"""`python -m benchmarks.gpu` walks through every block on a CPU, at toy sizes, and leaves what it measured."""

import json
import sys
import time

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.blocks import BLOCKS, FIRST_S, Block, named
from benchmarks.gpu.machine import facts, how_to_install, missing, peak_tflops
from benchmarks.gpu.report import Report

LEFT_OUT = ("left out", "to beat")
"""Notes that are no failure: a machine may lack a package."""


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_every_block_walks_through(block: Block, tmp_path) -> None:
    code = command.run_block(block, tmp_path, until=time.monotonic() + 600, toy=True)
    report = Report.read(tmp_path)
    assert code == 0
    assert report.rows[block.name]
    assert all(any(word in note for word in LEFT_OUT) for note in report.notes.get(block.name, [])), report.notes
    assert f"## {block.name}" in (tmp_path / "gpu.md").read_text()


def test_toy_kernels_are_judged_right(tmp_path) -> None:
    command.run_block(named(["kernels"])[0], tmp_path, until=time.monotonic() + 600, toy=True)
    rows = Report.read(tmp_path).rows["kernels"]
    assert all(row["right"] for row in rows)
    assert max(row.get("out", 0.0) for row in rows) > 0  # two ways of computing


def test_the_first_four_blocks_take_nine_minutes_at_most() -> None:
    assert sum(block.seconds for block in BLOCKS[:4]) <= FIRST_S


def test_a_run_that_is_cut_off_leaves_its_rows(tmp_path) -> None:
    report = Report(tmp_path, facts=facts())
    report.add("sparse", {"case": "a", "ms": 1.25})
    bench = Bench("sparse", report, time.monotonic() + 60, toy=True)
    assert not bench.attempt("b", lambda: {"ms": 1 / 0})
    left = json.loads((tmp_path / "gpu.json").read_text())
    assert left["rows"] == {"sparse": [{"case": "a", "ms": 1.25}]}
    assert left["notes"] == {"sparse": ["b: FAILED ZeroDivisionError: division by zero"]}
    assert "| a | 1.25 |" in (tmp_path / "gpu.md").read_text()
    assert Report.read(tmp_path).facts["device"] == report.facts["device"]


def test_a_case_that_no_longer_fits_the_time_box_says_so(tmp_path) -> None:
    bench = Bench("sparse", Report(tmp_path), time.monotonic() + 5, toy=True)
    assert not bench.attempt("long", lambda: {"ms": 1.0}, needs_s=10)
    assert "left out" in bench.report.notes["sparse"][0]


def test_a_block_that_fails_or_hangs_costs_the_next_nothing(tmp_path, monkeypatch) -> None:
    """Each runs in a process of its own: here one that is given no time at all, and one whose package is missing."""
    (tmp_path / "report").mkdir()
    blocks = [Block("kernels", "hangs", 0, "correctness"), Block("lacks", "a package", 60, "none", ("no_such_module",))]
    monkeypatch.setattr(command, "facts", lambda: {"device": "test"})
    monkeypatch.setattr(command, "LEAST_S", 0)
    failed = command.run_all(blocks, tmp_path / "report", minutes=1, toy=True)
    notes = Report.read(tmp_path / "report").notes
    assert failed == 1
    assert "ended after its 0 s" in notes["kernels"][0]
    assert "pip install" in notes["lacks"][0]


def test_what_is_missing_is_said_with_the_command() -> None:
    assert missing(("json", "no_such_module", "cv2_none")) == ["no_such_module", "cv2_none"]
    assert how_to_install(["cv2", "av"]).endswith("opencv-python-headless av")
    with pytest.raises(ValueError, match="there are kernels, sparse"):
        named(["sparce"])
    assert [block.name for block in named(["tune", "kernels"])] == ["kernels", "tune"]


def test_the_peak_is_known_where_there_is_torch_alone(monkeypatch) -> None:
    """A bare machine has no pydantic; shares of the peak are asked of its kernels all the same."""
    monkeypatch.setitem(sys.modules, "pydantic", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    assert missing(("pydantic",)) == ["pydantic"]
    assert peak_tflops() == 989.5
