"""The parts of a chat model: one flat mapping in a recipe, and options that fit the backend."""

from dataclasses import fields

import pytest

from reelwright.annotate import Resources, load
from reelwright.annotate.captions.caption import Caption
from reelwright.annotate.chat.model import ChatModel, ServerOptions, TransformersOptions, VllmOptions

KINDS = {"server": ServerOptions, "transformers": TransformersOptions, "vllm": VllmOptions}


@pytest.mark.parametrize("backend", KINDS)
def test_the_backend_chooses_the_options_and_other_keys_are_not_looked_at(backend):
    flat = {"model": "m", "backend": backend, "url": "http://x/v1", "gpus": 2, "copies": 3, "concurrency": 5}
    annotator = load("caption", {"chat": flat})
    assert isinstance(annotator, Caption)
    chat = annotator.chat
    assert type(chat.options) is KINDS[backend]
    assert all(getattr(chat.options, f.name) == getattr(chat, f.name) for f in fields(chat.options))
    assert (chat.sampling.max_tokens, chat.sampling.temperature, chat.sampling.seed) == (512, 0, 0)
    assert annotator.fingerprint == load("caption", {"chat": {"model": "m", "backend": backend}}).fingerprint


def test_a_server_is_fed_by_several_processes_and_engines_have_one_owner():
    server = ChatModel("m", concurrency=130, max_cost_usd=3, usd_per_million_input=1)
    assert server.resources(batch=8) == Resources(batch=8, own_process=True, calls=26, processes=3)
    share = server.per_process(3)
    assert (share.concurrency, share.max_cost_usd) == (44, 1)
    engines = ChatModel("m", backend="vllm", concurrency=130, copies=3, gpus=1)
    assert engines.resources(batch=8).processes == 1
    assert engines.per_process(3) is engines
    assert isinstance(engines.options, VllmOptions)
    assert engines.options.server_at("http://a/v1").concurrency == 44
    local = ChatModel("m", backend="transformers", concurrency=4, gpus=1)
    assert local.resources(batch=8) == Resources(gpus=1, batch=8, own_process=True)
    assert local.per_process(3).concurrency == 4
