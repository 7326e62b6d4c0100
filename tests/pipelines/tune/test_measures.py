"""What follows a run: intervals of its held-out figures, measures of captions, and the commands that it names."""

import json

import numpy as np
import pytest

from reelwright.pipelines.tune.intervals import add_intervals, intervals_of
from reelwright.pipelines.tune.measures import measure_captioner
from reelwright.training.errors import TrainError


def run_of(folder, use, rows):
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({"use": use}))
    (folder / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_judge_s_correlation_has_an_interval_over_prompts(tmp_path):
    draws = np.random.default_rng(0)
    human = draws.uniform(1, 5, 80)
    rows = [
        {"dimension": "overall", "group": f"p{n // 2}", "human": h, "judge": h + draws.normal(0, 0.8), "before": 3}
        for n, h in enumerate(human)
    ]
    run = run_of(tmp_path / "run", "judge", [*rows, rows[0] | {"judge": None}])
    found = add_intervals("judge", run)["overall/correlation"]
    expect = np.corrcoef([row["judge"] for row in rows], human)[0, 1]
    assert found.value == pytest.approx(expect, abs=1e-9)
    assert found.low < expect < found.high
    assert json.loads((run / "result.json").read_text())["intervals"]["overall/correlation"][0] == found.value


def test_a_reward_s_accuracy_counts_decided_pairs(tmp_path):
    scores = {"first": {"overall": 0.2}, "second": {"overall": 0.0}}
    rows = [{"group": f"p{n}", "choices": {"overall": [1, -1, 0][n % 3]}, **scores} for n in range(30)]
    found = intervals_of("reward", run_of(tmp_path / "run", "reward", rows))["overall/accuracy"]
    assert found.value == 0.5
    assert found.low < 0.5 < found.high


def test_captions_are_measured_before_and_after(tmp_path, capsys):
    rows = [
        {"video": f"{n}", "reference": "a red dog runs", "answer": "a red dog runs", "before": ""} for n in range(4)
    ]
    rows.append({"video": "9", "reference": "a blue cat sits", "answer": None, "before": None})
    run = run_of(tmp_path / "run", "captioner", rows)
    found = measure_captioner(run, judge=None, events=None, store=None, say=print)
    assert (found["before"]["empty"], found["after"]["empty"]) == (1.0, 0.0)
    assert (found["after"]["captions"], found["after"]["words"]) == (4, 4.0)
    assert "cider_own_tokens" in capsys.readouterr().out
    assert json.loads((run / "measures.json").read_text())["after"] == found["after"]


def test_a_run_of_another_use_has_no_captions(tmp_path):
    with pytest.raises(TrainError, match="no run of `reel tune captioner`"):
        measure_captioner(run_of(tmp_path / "run", "judge", []), judge=None, events=None, store=None, say=print)
