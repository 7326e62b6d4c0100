"""A tuned judge's scores are brought to people's scale, by the map in its folder and by no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelwright.annotate.chat.prompts import load_prompt
from reelwright.annotate.chat.registry import close_chats
from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.judging.recipe import JudgeRecipe
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Video
from reelwright.training.rewards.judge import UP_TO_16, Judge, Judged
from reelwright.training.rewards.registry import load
from reelwright.training.tuning.judge_file import write_judge
from tests.training.rewards.judge_server import JudgeServer

pytestmark = pytest.mark.waits
MAP = [[1.0, 2.0], [3.0, 2.5], [5.0, 4.5]]


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    running = JudgeServer()
    yield running
    close_chats()
    running.stop()


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """The folder of a tuned judge, which a server answers for."""
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder)
    return folder


def write(folder: Path, points: Any = MAP, **more: Any) -> None:
    told = {
        "prompt": load_prompt("judge").fingerprint, "aspects": {"overall": "all of it", "motion": "how it moves"},
        "scale": [1, 5], "sampling": asdict(UP_TO_16),
        "calibration": {"overall": {"kind": "isotonic", "points": points, "fitted_on": 9}},
    }  # fmt: skip
    write_judge(folder, told | more)


def judge(server: JudgeServer, model: Path, **parameters: Any) -> Judge:
    chat = {"model": str(model), "url": server.url, "timeout_s": 60.0}
    made = load("judge", {"chat": chat, "aspect": "all of it", **parameters})
    assert isinstance(made, Judge)
    return made


VIDEO = Video(np.full((9, 32, 48, 3), 170, np.uint8), 8.0, "a wall")


def test_the_map_of_the_model_s_folder_is_applied_and_the_score_before_it_is_told(
    server: JudgeServer, tuned: Path
) -> None:
    (plain,) = judge(server, tuned, calibration="none").judged([VIDEO])
    (found,) = judge(server, tuned).judged([VIDEO])
    assert isinstance(plain, Judged)
    assert isinstance(found, Judged)
    assert plain.uncalibrated is None
    assert found.uncalibrated == plain.value
    assert 3 < plain.value < 5
    assert found.value == pytest.approx(2.5 + (plain.value - 3) * 2 / 2)
    assert score(judge(server, tuned), [VIDEO]) == [found.value]
    (other,) = judge(server, tuned, aspect="something else").judged([VIDEO])
    assert isinstance(other, Judged)
    assert other.uncalibrated is None, "a map of another question says nothing of this one"


def test_the_map_is_in_the_fingerprint_and_its_place_is_not(server: JudgeServer, tuned: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere)
    named = {place: judge(server, Path("m"), calibration=str(place)) for place in (tuned, elsewhere / "judge.json")}
    first, second = (one.fingerprint for one in named.values())
    assert first == second != judge(server, Path("m")).fingerprint
    assert any(model.startswith("calibration:overall#") for model in named[tuned].models)
    assert json.dumps(named[tuned].describe())
    write(elsewhere, points=[[1.0, 1.0], [5.0, 4.0]])
    assert judge(server, Path("m"), calibration=str(elsewhere)).fingerprint != first


@pytest.mark.parametrize(("parameters", "why"), [
    ({"lowest": 0}, "scale is"), ({"sampling": {"fps": 1.0}}, "sampling is"), ({"prompt": "short.txt"}, "prompt is"),
])  # fmt: skip
def test_a_judge_that_is_asked_in_another_way_is_refused(
    server: JudgeServer, tuned: Path, parameters: dict[str, Any], why: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("version: 1\n\nJudge $aspect. $prompt\n")
    with pytest.raises(ValueError, match=f"{why}.*calibration: none"):
        judge(server, tuned, **parameters)
    assert judge(server, tuned, calibration="none", **parameters)


def test_a_file_that_is_none_and_a_question_that_it_does_not_know_are_refused(
    server: JudgeServer, tuned: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="does not say how a judge was tuned"):
        judge(server, tuned, calibration=str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="no calibration of 'how it moves'"):
        judge(server, tuned, aspect="how it moves", calibration=str(tuned))
    write(tuned, points=[[5.0, 1.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="points do not rise"):
        judge(server, tuned)


def test_an_evaluation_asks_a_tuned_judge_as_it_was_tuned(server: JudgeServer, tuned: Path) -> None:
    sampling = {"fps": 1.0, "min_frames": 2, "max_frames": 3}
    write(tuned, sampling=sampling, scale=[1, 4])
    chat = {"model": str(tuned), "url": server.url}
    judges = JudgeRecipe(judge={"chat": chat}).judges()
    assert {name: one.aspect for name, one in judges.items()} == {"overall": "all of it", "motion": "how it moves"}
    assert {(one.highest, one.sampling.max_frames) for one in judges.values()} == {(4, 3)}
    assert [any("calibration" in model for model in one.models) for one in judges.values()] == [True, False]
    with pytest.raises(EvaluationError, match="scale is"):
        JudgeRecipe(judge={"chat": chat, "highest": 5}).judges()
