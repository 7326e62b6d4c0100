"""vLLM in Ray: an engine is loaded once, asked as a server is, and ends with its owner. vLLM itself needs a GPU, so its
place takes a process with the same command line and endpoints (`vllm_stand_in`), started by our code on a real Ray."""

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from reelwright.annotate import Postponed
from reelwright.annotate.chat.base import Answer, Question
from reelwright.annotate.chat.model import ChatModel, VllmOptions
from reelwright.annotate.chat.registry import close_chats, open_chat
from reelwright.annotate.chat.vllm import VllmChat, arguments_of
from reelwright.annotate.chat.vllm_engine import options_of
from reelwright.annotate.errors import AnnotatorError
from tests.annotate.chat.faulty_server import numbered_frames
from tests.annotate.chat.vllm_stand_in import command
from tests.annotate.chat_server import SIDE, caption_of


@pytest.fixture
def engine(ray_local, tmp_path):
    """(makes a chat model, pids of all engines that were started for it)"""
    (tmp_path / "notes").mkdir()
    executable = command(tmp_path)

    def model(**parameters) -> ChatModel:
        notes = {"notes": str(tmp_path / "notes")} | parameters.pop("engine", {})
        return ChatModel("some/vlm", backend="vllm", vllm=executable, engine=notes, **parameters)

    yield model, lambda: [int(f.name) for f in (tmp_path / "notes").iterdir() if f.name.isdigit()]
    close_chats()


def question(number: int) -> Question:
    return Question("what?", frames=numbered_frames([number], SIDE))


def until_gone(pids: list[int]) -> None:
    while any(Path(f"/proc/{pid}").exists() and "vllm" in Path(f"/proc/{pid}/cmdline").read_text() for pid in pids):
        time.sleep(0.05)


def test_an_engine_is_loaded_once_for_all_calls_and_ends_when_it_is_closed(engine):
    model, pids = engine
    chat = open_chat(model(concurrency=8))
    for start in range(0, 60, 20):
        answers = chat.ask([question(n) for n in range(start, start + 20)])
        assert [a.text for a in answers] == [caption_of(n) for n in range(start, start + 20)]
    assert len(pids()) == 1
    assert chat.budget.input_tokens == 60 * 1000
    assert_key_is_needed(chat._servers[0].url)
    close_chats()
    until_gone(pids())


def assert_key_is_needed(url: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError, match="401"):
        direct.open(url, data=json.dumps({"messages": []}).encode())


@pytest.mark.exhaustive
def test_copies_share_the_questions(engine):
    model, pids = engine
    chat = open_chat(model(copies=2, concurrency=4))
    while len(chat._servers) < 2:
        time.sleep(0.05)
    answers = chat.ask([question(n) for n in range(40)])
    assert [a.text for a in answers] == [caption_of(n) for n in range(40)]
    assert len(pids()) == 2
    assert all(server.requests >= 10 for server in chat._servers)


@pytest.mark.exhaustive
def test_an_engine_that_dies_is_started_again(engine):
    model, pids = engine
    answers = open_chat(model(engine={"crash_once": True})).ask([question(n) for n in range(10)])
    assert {type(a) for a in answers} == {Answer}, answers
    assert len(pids()) == 2


@pytest.mark.exhaustive
def test_an_engine_ends_with_the_process_that_asked_for_it(engine):
    import ray

    model, pids = engine

    class Owner:
        def ask(self, model: ChatModel) -> str:
            return open_chat(model).ask([question(7)])[0].text

    owner = ray.remote(Owner).options(num_cpus=0).remote()
    assert ray.get(owner.ask.remote(model())) == caption_of(7)
    (pid,) = pids()
    assert Path(f"/proc/{pid}").exists()
    ray.kill(owner)
    until_gone([pid])


def test_what_keeps_it_from_starting_is_said(engine, tmp_path):
    model, _ = engine
    with pytest.raises(AnnotatorError, match=r"did not start.*exit code 1: there is no GPU here"):
        open_chat(model(engine={"unable": True}))
    with pytest.raises(AnnotatorError, match=r"no command 'nowhere'.*chat\.vllm"):
        open_chat(ChatModel("m", backend="vllm", vllm="nowhere"))
    assert issubclass(AnnotatorError, Postponed)  # so its clips are left for another run


def of(chat: ChatModel) -> tuple[ChatModel, VllmOptions]:
    assert isinstance(chat.options, VllmOptions)
    return chat, chat.options


def test_arguments_are_vllm_s_own():
    engine = {"max_model_len": 8, "enforce_eager": True, "enable_prefix_caching": False, "revision": None}
    assert options_of(engine) == [
        "--max-model-len", "8", "--enforce-eager", "--no-enable-prefix-caching"
    ]  # fmt: skip
    assert options_of({"limit_mm_per_prompt": {"image": 4}, "middleware": ["a", "b"]}) == [
        "--limit-mm-per-prompt", '{"image": 4}', "--middleware", "a", "b"
    ]  # fmt: skip
    with pytest.raises(AnnotatorError, match="no argument of vLLM"):
        options_of({"max model len; rm": 1})
    chat = ChatModel("Qwen/x", backend="vllm", revision="abc", gpus=2, engine={"dtype": "half"})
    model, *options = arguments_of(*of(chat))
    said = dict(zip(options[::2], options[1::2], strict=True))
    assert (model, said["--served-model-name"], said["--revision"]) == ("Qwen/x", "Qwen/x", "abc")
    assert (said["--tensor-parallel-size"], said["--dtype"]) == ("2", "half")


def test_it_needs_a_running_ray_and_whole_gpus(monkeypatch):
    import ray

    with pytest.raises(AnnotatorError, match="whole GPUs"):
        arguments_of(*of(ChatModel("m", backend="vllm", gpus=0.5)))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(AnnotatorError, match="inside Ray"):
        VllmChat(*of(ChatModel("m", backend="vllm")))
    assert "VLLM_API_KEY" not in os.environ
