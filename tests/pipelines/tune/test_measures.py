"""What follows a run: intervals of its held-out figures, measures of captions, and the commands that it names."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate.chat.base import Question
from reelwright.annotate.chat.model import ChatModel
from reelwright.curation.store import Store
from reelwright.pipelines.tune.intervals import add_intervals, intervals_of
from reelwright.pipelines.tune.measures import measure_captioner
from reelwright.training.errors import TrainError
from tests.curation.store.conftest import add_source
from tests.evaluation.captions.test_captions import Literal


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


class Answering(BaseHTTPRequestHandler):
    """A chat server whose model takes sentences for events, and believes what a caption holds word by word."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = body["messages"][-1]["content"]
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        (answer,) = Literal().ask([Question(text)])
        message = {"role": "assistant", "content": answer.text}
        reply = json.dumps(
            {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {}}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def judge() -> Iterator[ChatModel]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield ChatModel(model="rule", url=f"http://127.0.0.1:{server.server_port}/v1")
    server.shutdown()
    thread.join()
    server.server_close()


def test_events_by_a_judge_and_camera_terms_by_the_store(tmp_path, judge):
    """By hand: the first answer tells one of two events and one that is not so; the second is empty."""
    store = Store.open(tmp_path / "store", create=True)
    ids = add_source(store, "aa", 3)
    store.merge("clips", pa.table({"clip_id": ids, "camera_motion": ["pan_left", "static", "zoom_in"]}), "clip_id")
    told = [("a dog runs. a bird sings", "a dog runs. the camera pans left"), ("a cat sits", ""), ("x", "it zooms in")]
    rows = [
        {"video": name, "reference": reference, "answer": answer, "before": ""}
        for name, (reference, answer) in zip(ids, told, strict=True)
    ]
    run = run_of(tmp_path / "run", "captioner", rows)
    events = tmp_path / "events.jsonl"
    events.write_text("\n".join([
        json.dumps({"video_file": ids[0], "events": ["a dog runs", "a bird sings"], "dataset": "one"}),
        json.dumps({"video_file": ids[1], "events": ["a cat sits"], "dataset": "two"}),
    ]))  # fmt: skip
    said: list[str] = []
    found = measure_captioner(run, judge=judge, events=events, store=store, say=said.append)["after"]
    assert "1 of 3 held-out videos have none" in said[0]
    assert (found["events/captions"], found["events/failed"], found["events/empty"]) == (2, 0, 0.5)
    assert (found["events/recall"], found["events/precision"]) == ((0.5 + 0) / 2, (0.5 + 0) / 2)
    assert (found["events/recall_published"], found["events/precision_published"]) == (0.25, (0.5 + 1) / 2)
    assert found["events/subsets"] == 2
    assert (found["camera/clips"], found["camera/said"]) == (3, pytest.approx(2 / 3))
    assert (found["camera/accuracy"], found["camera/recall"]) == (1.0, pytest.approx(2 / 3))
    assert json.loads((run / "measures.json").read_text())["judge"] == list(judge.models)


def test_a_run_of_another_use_has_no_captions(tmp_path):
    with pytest.raises(TrainError, match="no run of `reel tune captioner`"):
        measure_captioner(run_of(tmp_path / "run", "judge", []), judge=None, events=None, store=None, say=print)
