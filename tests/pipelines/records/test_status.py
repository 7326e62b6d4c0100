"""What a run tells of itself, and the time that is left of it."""

import json
import time

import pytest

from reelwright.pipelines.cli.commands.status import lines
from reelwright.pipelines.records import status
from reelwright.pipelines.runtime.eta import Eta


def test_a_run_is_followed_from_elsewhere_and_its_end_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "EVERY_S", 0.0)
    stage = {"tasks": 3, "queued": 1, "in_flight": 2, "seconds": 5.0, "cpu_s": 4.0, "wait_s": 1.0, "peak_bytes": 2**30,
             "bytes_in": 7_000_000}  # fmt: skip
    with status.told(str(tmp_path), "curate") as told:
        facts = {"what": "curate", "done": 3, "total": 9, "counts": {"clips": 40}, "elapsed_s": 20.0, "eta_s": 7000}
        told.tell(lambda: facts | {"stages": {"scan": stage}})
        (read,) = status.read(str(tmp_path))
        assert read["state"] == "running"
        said = "\n".join(lines(read))
        assert "curate: 3 of 9, 40 clips (2.00 clips/s), 20 s" in said
        assert "about 117 min left" in said
        assert "scan" in said
        assert "1,024" in said
        read["silent_s"] = 200
        assert "silent for 3 min" in next(lines(read))
    with pytest.raises(KeyboardInterrupt), status.told(str(tmp_path), "curate"):
        raise KeyboardInterrupt
    monkeypatch.setattr(status, "EVERY_S", 1e9)
    with status.told(str(tmp_path), "annotate") as told:
        told.tell(lambda: {"done": 1})
        told.tell(lambda: {"done": 2})
    (last,) = (facts for facts in status.read(str(tmp_path)) if facts["command"] == "annotate")
    assert last["done"] == 2, "its last words are not told"
    states = [facts["state"] for facts in status.read(str(tmp_path))]
    assert sorted(states) == ["finished", "finished", "interrupted"]
    assert status.read(str(tmp_path / "nothing")) == []


def test_old_runs_are_forgotten_and_a_folder_that_cannot_be_written_stops_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "KEPT", 3)
    for i in range(5):
        (tmp_path / status.FOLDER).mkdir(exist_ok=True)
        facts = {"command": "curate", "began": i, "state": "finished"}
        (tmp_path / status.FOLDER / f"{i}-x.json").write_text(json.dumps(facts))
    (tmp_path / status.FOLDER / "9-broken.json").write_text("{")
    with status.told(str(tmp_path), "curate"):
        pass
    assert len(list((tmp_path / status.FOLDER).iterdir())) == 3
    (tmp_path / "file").write_text("")
    with status.told(str(tmp_path / "file"), "curate") as told:
        told.tell(lambda: {"what": "curate"})


def test_the_time_left_goes_by_length_and_not_by_number():
    """Nine short films are done, and one that is a hundred times as long is not."""
    eta = Eta(10)
    short = {"duration_s": 10.0, "fps": 25.0, "width": 640, "height": 360}
    works = [eta.learn(short) for _ in range(9)] + [eta.learn(short | {"duration_s": 1000.0})]
    assert eta.seconds_left(5.0) is None
    for work in works[:9]:
        eta.finish(work)
    assert eta.seconds_left(90.0) == pytest.approx(1000.0)
    eta.finish(works[9])
    assert eta.seconds_left(1090.0) == 0.0


def test_files_that_nothing_is_known_of_yet_are_taken_for_as_large_as_the_others():
    eta = Eta(100)
    info = {"duration_s": 10.0, "fps": 25.0, "width": 640, "height": 360}
    works = [eta.learn(info) for _ in range(10)]
    for work in works[:5]:
        eta.finish(work)
    eta.learn(None)
    assert eta.total == pytest.approx(100 * works[0] * 10 / 11, rel=0.1)
    assert eta.seconds_left(50.0) == pytest.approx(50 / 5 * (eta.total / works[0] - 5))


def test_told_at_is_now(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "EVERY_S", 0.0)
    with status.told(str(tmp_path), "annotate") as told:
        told.tell(dict)
        (facts,) = status.read(str(tmp_path))
        assert facts["silent_s"] < 60
        assert abs(facts["told"] - time.time()) < 60
