"""The server backend against a real server that fails in every way we know of."""

import asyncio
import json
import random
import socket
import threading
import time

import numpy as np
import pytest

from reelwright.annotate import Postponed
from reelwright.annotate.chat.base import Answer, ChatError, Question
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.chat.registry import open_chat
from reelwright.annotate.chat.retry import retry_after_s, wait_s
from reelwright.annotate.chat.window import Window
from reelwright.annotate.errors import AnnotatorError
from tests.annotate.chat.faulty_server import number_of, numbered_frames

pytestmark = pytest.mark.waits


def test_every_answer_lands_on_its_question(server):
    """Hundreds of questions of several threads, with delays that shuffle the order and a fault for every third."""
    chat = open_chat(server.chat(concurrency=32, timeout_s=60.0))
    draw = random.Random(1)
    faults = ["429", "500", "reset", "cut", "notjson", "empty"]
    found: dict[int, str] = {}

    def ask(numbers: list[int]) -> None:
        questions = []
        for n in numbers:
            fault = f"faults={draw.choice(faults)}" if n % 3 == 0 else ""
            delay = draw.uniform(0.0, 0.2)
            text = f"token=t{n} {fault} delay={delay:.3f} together=32"
            questions.append(Question(text, frames=numbered_frames([n, n + 1000])))
        for n, answer in zip(numbers, chat.ask(questions), strict=True):
            assert isinstance(answer, Answer), answer
            found[n] = answer.text

    threads = [threading.Thread(target=ask, args=([*range(k, 400, 4)],)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: json.loads(text) for n, text in found.items()} == {
        n: {"token": f"t{n}", "numbers": [n, n + 1000]} for n in range(400)
    }
    stats = server.stats()
    assert all(stats["seen"][f"t{n}"] == 1 + (n % 3 == 0) for n in range(400))
    assert stats["most_at_once"] == 32  # one window for all threads
    assert stats["connections"] < 200  # kept open, but for those that the server cut


@pytest.mark.parametrize(
    "fault", ["408", "429", "500", "503", "520", "reset", "cut", "notjson", "notchat", "deep", "empty", "null", "huge",
              "hang", "endless"]
)  # fmt: skip
def test_a_fault_is_tried_again(server, fault):
    chat = open_chat(server.chat(timeout_s=3.0 if fault in ("hang", "endless") else 60.0))
    (answer,) = chat.ask([Question(f"token=a faults={fault}")])
    assert isinstance(answer, Answer), answer
    assert json.loads(answer.text)["token"] == "a"
    assert server.stats()["seen"] == {"a": 2}


def test_retry_after_is_waited_for(server):
    started = time.monotonic()
    open_chat(server.chat()).ask([Question("token=a faults=429,429")])
    assert time.monotonic() - started > 0.6


def test_waits_double_up_to_a_bound_and_are_spread():
    assert [wait_s(k, draw=1.0) for k in (1, 2, 3, 20)] == [0.5, 1.0, 2.0, 30.0]
    assert wait_s(3, draw=0.0) == 1.0
    assert wait_s(1, after_s=7.0, draw=0.0) == 7.0
    assert wait_s(1, after_s=1e9, draw=0.0) == 120.0


def test_retry_after_is_seconds_or_a_date():
    assert retry_after_s({"Retry-After": "2.5"}) == 2.5
    assert retry_after_s({"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}) > 1e9
    for nonsense in ("soon", "-3", "nan", "inf", "Wed, 21 Oct 2015 07:28:00 GMT", ""):
        assert retry_after_s({"Retry-After": nonsense}) is None


@pytest.mark.parametrize("status", ["400", "422", "302"])
def test_a_refused_question_fails_at_once(server, status):
    (answer,) = open_chat(server.chat()).ask([Question(f"token=a faults={status}")])
    assert isinstance(answer, ChatError)
    assert f"status {status}: no no" in str(answer)
    assert len(str(answer)) < 400
    assert server.stats()["seen"] == {"a": 1}


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_a_wrong_key_or_model_is_no_clip_s_failure(server, status):
    (answer,) = open_chat(server.chat()).ask([Question(f"token=a faults={status}")])
    assert isinstance(answer, Postponed)
    assert "model 'm'" in str(answer)
    assert server.stats()["seen"] == {"a": 1}


def test_a_question_that_keeps_failing_costs_only_itself(server):
    chat = open_chat(server.chat(attempts=2))
    answers = chat.ask([Question("token=a"), Question("token=b faults=500,500,500"), Question("token=c")])
    assert [type(a) for a in answers] == [Answer, ChatError, Answer]
    assert "after 2 attempts: status 500" in str(answers[1])
    assert server.stats()["seen"]["b"] == 2


def test_frames_that_cannot_be_encoded_cost_only_their_question(server):
    nothing = np.zeros((1, 0, 0, 3), np.uint8)
    answers = open_chat(server.chat()).ask([Question("token=a"), Question("token=b", frames=nothing)])
    assert [type(a) for a in answers] == [Answer, ChatError]


def test_an_overloaded_server_is_waited_for_and_uses_up_no_attempts(server):
    (answer,) = open_chat(server.chat(attempts=1)).ask([Question("token=a faults=503,429,503")])
    assert isinstance(answer, Answer), answer


def test_a_server_that_stays_overloaded_postpones(server):
    (answer,) = open_chat(server.chat(patience_s=0.5)).ask([Question(f"token=a faults={','.join(['503'] * 99)}")])
    assert isinstance(answer, Postponed)
    assert "overloaded" in str(answer)


def test_who_is_refused_for_ever_while_others_are_answered_fails(server):
    refused = Question(f"token=a faults={','.join(['429'] * 99)}")
    answers = open_chat(server.chat(patience_s=4.0)).ask([refused, Question("token=b delay=0.4")])
    assert [type(a) for a in answers] == [ChatError, Answer]
    assert "answers others" in str(answers[0])


def test_a_window_halves_once_for_all_that_was_under_way_and_opens_again():
    window = Window(16)
    for _ in range(16):
        window.overloaded(sent_at=time.monotonic() - 1)
    assert window.size == 8
    window.overloaded(sent_at=time.monotonic())
    assert window.size == 4
    for _ in range(400):
        window.answered()
    assert window.size == 16


def test_a_window_lets_no_more_in_than_it_says():
    async def most_at_once(window: Window) -> int:
        inside = [0, 0]

        async def enter() -> None:
            async with window:
                inside[0] += 1
                inside[1] = max(inside)
                await asyncio.sleep(0.001)
                inside[0] -= 1

        await asyncio.gather(*(enter() for _ in range(50)))
        return inside[1]

    window = Window(8)
    assert asyncio.run(most_at_once(window)) == 8
    small = Window(8)
    small.overloaded(sent_at=time.monotonic())
    assert asyncio.run(most_at_once(small)) == 4


def test_a_server_that_restarts_in_mid_run_is_waited_for(start):
    first = start()
    chat = open_chat(first.chat(concurrency=8, attempts=2))  # one for the connection that is cut
    answers: list = []
    asking = threading.Thread(
        target=lambda: answers.extend(chat.ask([Question(f"token=a{i} delay=0.1") for i in range(60)]))
    )
    asking.start()
    while first.stats()["most_at_once"] < 8:
        time.sleep(0.01)
    first.stop()
    time.sleep(2)
    start(first.port)
    asking.join()
    assert {type(a) for a in answers} == {Answer}, answers
    assert chat.requests < 60 + 8 + 8 + 10  # what was under way, who found it away, and one probe at a time


def test_a_server_that_stays_away_postpones_at_once_until_it_is_back(start):
    first = start()
    chat = open_chat(first.chat(patience_s=0.5))
    assert isinstance(chat.ask([Question("token=a")])[0], Answer)
    first.stop()
    answers = chat.ask([Question(f"token=b{i}") for i in range(100)])
    assert {type(a) for a in answers} == {Postponed}
    assert first.url in str(answers[0])
    sent = chat.requests
    assert {type(a) for a in chat.ask([Question("token=c")] * 500)} == {Postponed}
    assert chat.requests - sent <= 3  # probes
    start(first.port)
    while not isinstance(chat.ask([Question("token=d")])[0], Answer):  # until the probe that finds it
        time.sleep(0.1)
    assert {type(a) for a in chat.ask([Question(f"token=e{i}") for i in range(10)])} == {Answer}


def test_a_server_that_hangs_is_no_clip_s_failure(server):
    chat = open_chat(server.chat(timeout_s=0.3, attempts=2))
    answers = chat.ask([Question(f"token=a{i} faults={','.join(['hang'] * 9)}") for i in range(6)])
    assert {type(a) for a in answers} == {Postponed}, answers
    assert "answers nobody" in str(answers[0])


def test_a_port_where_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        (answer,) = open_chat(ChatModel("m", url=url, patience_s=0)).ask([Question("token=a")])
    assert isinstance(answer, Postponed)
    assert url in str(answer)


def test_the_cost_limit(server):
    """1000 tokens in and 100 out a question, at 1 and 10 dollars a million: 0.002 dollars."""
    prices = {"usd_per_million_input": 1.0, "usd_per_million_output": 10.0}
    chat = open_chat(server.chat(concurrency=4, max_cost_usd=0.02, **prices))
    answers = chat.ask([Question(f"token=a{i}") for i in range(50)])
    kinds = [type(a) for a in answers]
    assert 10 <= kinds.count(Answer) < 10 + 4  # what was in flight when it was reached still came
    assert kinds.count(Postponed) == 50 - kinds.count(Answer)
    assert "cost limit" in str(next(a for a in answers if isinstance(a, Postponed)))
    assert sum(server.stats()["seen"].values()) == kinds.count(Answer)


def test_the_time_limit(server):
    chat = open_chat(server.chat(concurrency=1, max_time_s=0.3))
    answers = chat.ask([Question(f"token=a{i} delay=0.2") for i in range(5)])
    assert [type(a) for a in answers] == [Answer, Answer, Postponed, Postponed, Postponed]
    assert "time limit" in str(answers[-1])


def test_what_is_sent(server, monkeypatch):
    monkeypatch.setenv("REEL_TEST_KEY", "secret")
    parameters = {"max_tokens": 7, "temperature": 0.5, "seed": 3, "api_key_env": "REEL_TEST_KEY"}
    schema = {"type": "object", "additionalProperties": False}
    frames = numbered_frames([1, 2, 3])
    open_chat(server.chat(**parameters)).ask([Question("token=a", schema=schema, frames=frames, fps=2.0)])
    answer = open_chat(server.chat(send="video")).ask([Question("token=b", frames=frames, fps=2.0)])[0]
    assert json.loads(answer.text)["numbers"] == [1, 2, 3]
    stats = server.stats()
    assert stats["keys"] == ["", "Bearer secret"]
    assert stats["bodies"]["a"] == {
        "model": "m", "max_tokens": 7, "temperature": 0.5, "seed": 3, "pictures": 3,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True},
        },
    }  # fmt: skip
    assert stats["bodies"]["b"]["media_io_kwargs"] == {"video": {"num_frames": 3, "fps": 2.0}}


def test_numbers_survive_jpeg():
    from reelwright.annotate.chat.payload import jpeg

    for n, frame in zip((0, 65535, 12345), numbered_frames([0, 65535, 12345]), strict=True):
        assert number_of(jpeg(frame, 90)) == n


def test_colours_are_rgb():
    import cv2

    from reelwright.annotate.chat.payload import jpeg

    red = np.zeros((16, 16, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    bgr = cv2.imdecode(np.frombuffer(jpeg(red, 95), np.uint8), cv2.IMREAD_COLOR)
    assert bgr.mean(axis=(0, 1)).argmax() == 2


def test_what_cannot_be_asked_says_so(monkeypatch):
    with pytest.raises(AnnotatorError, match="no chat model is named"):
        open_chat(ChatModel())
    with pytest.raises(AnnotatorError, match="not an address"):
        open_chat(ChatModel("m", url="localhost:8000"))
    monkeypatch.delenv("REEL_NO_KEY", raising=False)
    with pytest.raises(AnnotatorError, match="REEL_NO_KEY"):
        open_chat(ChatModel("m", api_key_env="REEL_NO_KEY"))


def test_a_chat_model_refuses_what_makes_no_sense():
    for wrong in ({"concurrency": 0}, {"temperature": -1.0}, {"timeout_s": float("nan")}, {"jpeg_quality": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ChatModel("m", **wrong)
    with pytest.raises(ValueError, match="prices"):
        ChatModel("m", max_cost_usd=1.0)


def test_the_fingerprint_names_the_model(tmp_path):
    assert ChatModel().models == ()
    assert ChatModel("Qwen/Qwen2.5-VL-7B-Instruct", revision="abc").models == ("Qwen/Qwen2.5-VL-7B-Instruct@abc",)
    (tmp_path / "config.json").write_text("{}")
    before = ChatModel(str(tmp_path)).models
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert ChatModel(str(tmp_path)).models != before
