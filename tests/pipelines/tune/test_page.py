"""The commands of docs/tuning.md that need no GPU, one after another as they are printed: from data to ratings."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reelwright.curation.store import Store
from reelwright.training.tuning.judge_file import FILE, read_judge
from reelwright.training.tuning.run import read_result
from tests.conftest import ROOT
from tests.documents import Block, blocks

PAGE = ROOT / "docs" / "tuning.md"
FIGURES = {"captioner": "same_as_reference", "judge": "overall/correlation", "reward": "overall/accuracy"}


def printed(title: str) -> list[Block]:
    """The shell blocks of a section."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = lines.index(f"## {title}")
    end = next(number for number in range(start + 1, len(lines)) if lines[number].startswith("## "))
    return [block for block in blocks("sh", document=PAGE) if start < block.line <= end]


def run(command: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.quality  # five minutes of training: `make quality`
def test_the_page_s_commands_tune_all_three_and_judge_an_evaluation(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs" / "tune", tmp_path / "configs" / "tune")
    said: dict[str, str] = {}
    commands = [one for block in printed("Try it on a CPU") for one in re.split(r"\n(?=\S)", block.text)]
    assert len(commands) == 8
    for command in commands:
        if "--judge judge.yaml" in command:
            found = re.search(r"judge by it .*with: judge: (.*)", said["reel tune judge"])
            assert found, said
            (tmp_path / "judge.yaml").write_text(f"judge: {found[1]}\n")
        said[" ".join(command.split()[:3])] = run(command, tmp_path)
    tuned = tmp_path / "try" / "tuned"
    for use, figure in FIGURES.items():  # as every seed of `python -m benchmarks.tuning`
        assert read_result(tuned / use)["measured"][figure] > 0.9, use
    store = Store.open(tmp_path / "try" / "store")
    rated = store.sql("select value, uncalibrated from ratings where not is_human").to_pylist()
    told = re.search(r"overall: (\d+) made, 0 there before(?:, (\d+) without a value)?", said["reel evaluate --name"])
    assert told, said
    made, lacking = int(told[1]), int(told[2] or 0)
    assert (len(rated), 160) == (made, made + lacking), "each has the judge's score, or is counted"
    assert lacking <= 3, "so small a judge breaks its answer's form now and then: benchmarks/RESULTS.md"
    points = read_judge(tuned / "judge" / "model" / FILE).maps["overall"]
    assert {row["value"] <= points[-1][1] and row["uncalibrated"] is not None for row in rated} == {True}
    [both] = store.sql(
        "select corr(people, judge) as r from (select avg(value) filter (is_human) as people, "
        "avg(value) filter (not is_human) as judge from ratings where kind = 'mos' group by generation_id)"
    ).to_pylist()
    assert both["r"] > 0.9, "most of these videos are those that it learned from"
