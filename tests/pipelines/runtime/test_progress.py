"""What a run shows of itself: its own reckoning of the time left, where it has one."""

from typing import Any

import pytest

from reelwright.pipelines.runtime import progress
from reelwright.pipelines.runtime.progress import Progress, span


@pytest.mark.parametrize(
    ("details", "ends"),
    [({"eta_s": 480.0}, " · 3 clips · 0 s · about 8 min left"), ({"eta_s": None}, " · 3 clips · 0 s"),
     ({"eta_s": 480.0, "eta_annotate_s": 0.1, "eta_without": []}, " · 3 clips · 0 s · about 8 min left"),
     ({"eta_s": 480.0, "eta_annotate_s": 60.0, "eta_without": ["caption", "7,000,000 stored clips"]},
      " · 3 clips · 0 s · about 8 min left (60 s of it to annotate; not counted: caption, 7,000,000 stored clips)"),
     ({}, " · 3 clips · 0 s")],
    ids=["known", "not yet", "nothing after it", "and after it", "never"],
)  # fmt: skip
def test_a_line_ends_with_the_time_left_where_the_run_knows_it(details, ends, capsys):
    with Progress("curate") as shown:
        shown.details = lambda elapsed_s: details
        shown.show(1, 2, clips=3)
    assert capsys.readouterr().err == f"curate: 1/2{ends}\n"


def test_a_run_is_asked_for_its_time_left_now_and_then(monkeypatch):
    asked: list[float] = []

    def details(elapsed_s: float) -> dict[str, Any]:
        asked.append(elapsed_s)
        return {"eta_s": 1.0}

    with Progress("curate") as shown:
        shown.details = details
        for _ in range(1000):
            shown.show(1, 2)
        assert len(asked) == 1
        monkeypatch.setattr(progress, "LEFT_EVERY_S", 0.0)
        shown.show(1, 2)
        assert len(asked) > 1


def test_lengths_of_time_are_one_number():
    assert [span(s) for s in (0.4, 119.4, 120, 7199, 7200)] == ["0 s", "119 s", "2 min", "120 min", "2.0 h"]
