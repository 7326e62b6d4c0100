"""`ray.data.llm`: what it is given, and that every row comes back with its id. vLLM itself needs a GPU.

The rows run through a real processor of `ray.data.llm` on a real Ray: the one that asks a server, in place of the one
that holds engines.
"""

import json
from typing import Any

import pytest

from annotate import Postponed
from annotate.backends.chat import Answer, ChatError, ChatModel, Question, close_chats, resources_of
from annotate.backends.errors import AnnotatorError
from annotate.backends.payload import times_line
from annotate.backends.vllm_ray import VllmChat, config_of, reply_of, request_of, row_of
from tests.annotate.backends import checkpoints
from tests.annotate.backends.faulty_server import numbered_frames


def to_http(row: dict[str, Any]) -> dict[str, Any]:
    request = request_of(row)
    return {"payload": {"model": "m", "messages": request["messages"], **request["sampling_params"]}}


def from_http(row: dict[str, Any]) -> dict[str, Any]:
    reply = row["http_response"]
    used = {"num_input_tokens": reply["usage"]["prompt_tokens"], "num_generated_tokens": 100}
    return reply_of({"id": row["id"], "generated_text": reply["choices"][0]["message"]["content"]} | used)


class ByServer(VllmChat):
    """The same rows and ids, with Ray's processor for servers in place of the one for engines."""

    def processor(self):
        from ray.data.llm import HttpRequestProcessorConfig, build_processor

        config = HttpRequestProcessorConfig(url=f"{self.chat.url}/chat/completions", concurrency=1, batch_size=16)
        return build_processor(config, preprocess=to_http, postprocess=from_http)


def test_rows_come_back_with_their_ids(ray_local, server):
    chat = ByServer(server.chat())
    questions = [
        Question(f"token=t{i} delay={(i * 7 % 10) / 100}", frames=numbered_frames([i, i + 100]) if i % 2 else None)
        for i in range(40)
    ]
    questions[4] = Question("token=t4 faults=empty")
    answers = chat.ask(questions)
    for i, answer in enumerate(answers):
        if i == 4:
            assert isinstance(answer, ChatError)
        else:
            assert isinstance(answer, Answer), answer
            assert json.loads(answer.text) == {"token": f"t{i}", "numbers": [i, i + 100] if i % 2 else []}
    assert answers[0].input_tokens == 1000
    assert chat.ask([]) == []


def test_a_run_that_fails_as_a_whole_postpones(ray_local):
    """Ray Data raises, here for a port where nobody listens; with engines, for one that does not start."""
    (answer,) = ByServer(ChatModel("m", url="http://127.0.0.1:9/v1")).ask([Question("token=a")])
    assert isinstance(answer, Postponed)


def test_ray_takes_the_configuration(ray_local, tmp_path):
    from ray.data.llm import build_processor

    folder = checkpoints.text_model(tmp_path / "model")
    chat = ChatModel(str(folder), backend="vllm", gpus=2, copies=3, engine={"max_model_len": 4096}, seed=5)
    config = config_of(chat)
    assert config.engine_kwargs["tensor_parallel_size"] == 2
    assert config.engine_kwargs["max_model_len"] == 4096
    assert config.get_concurrency() == {"min_size": 3, "max_size": 3}
    processor = build_processor(config, preprocess=request_of, postprocess=reply_of)
    assert processor.list_stage_names() == ["PrepareMultimodalStage", "ChatTemplateStage", "vLLMEngineStage"]
    given = request_of(row_of(chat, 1, Question("what?", frames=numbered_frames([1, 2]), fps=2.0, schema={"a": 1})))
    for stage in processor.stages.values():
        assert stage.get_required_input_keys().keys() <= given.keys() | {"prompt"}


def test_a_row_carries_the_question():
    chat = ChatModel("m", backend="vllm", max_tokens=7, seed=3)
    question = Question("what?", system="Be brief.", frames=numbered_frames([1, 2]), fps=2.0, schema={"type": "object"})
    row = row_of(chat, "clip7", question)
    assert row["id"] == "clip7"
    request = request_of(row)
    assert request["sampling_params"] == {
        "max_tokens": 7, "temperature": 0.0, "seed": 3, "structured_outputs": {"json": '{"type": "object"}'}
    }  # fmt: skip
    system, user = request["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "image_url", "text"]
    assert user["content"][0]["text"] == times_line(2, 2.0)


def test_it_needs_a_running_ray(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(AnnotatorError, match="inside Ray"):
        VllmChat(ChatModel("m", backend="vllm"))
    with pytest.raises(AnnotatorError, match="whole GPUs"):
        config_of(ChatModel("m", backend="vllm", gpus=0.5))
    close_chats()


def test_a_run_brings_many_clips():
    resources = resources_of(ChatModel("m", backend="vllm", gpus=2), batch=8)
    assert (resources.batch, resources.calls, resources.gpus) == (256, 2, 0)  # its engines ask for the GPUs
