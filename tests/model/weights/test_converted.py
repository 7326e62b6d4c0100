"""The converted layout is a stream: a network never stands in memory twice."""

import itertools

import torch

from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.weights.converted import converted
from reelwright.model.weights.their_names import published_parts

TINY = DiTConfig(hidden_size=48, depth=2, num_heads=4, caption_channels=24, adaln_tembed_dim=16)


def test_one_tensor_is_taken_at_a_time_and_its_parts_are_copies():
    state, taken = DiT(TINY).state_dict(), []

    def stream():
        for name, tensor in state.items():
            taken.append(name)
            yield name, tensor

    out = converted(stream())
    there = list(itertools.takewhile(lambda pair: not pair[0].endswith("to_v.weight"), out))
    assert taken[-1] == "blocks.0.attn.qkv.weight"
    assert [name for name, _ in there][-2:] == [f"blocks.0.self_attn.to_{n}.weight" for n in "qk"]
    assert there[-1][1].untyped_storage().nbytes() == 48 * 48 * 4, "a part that holds the whole would fill memory"


def test_names_are_sorted_back_whatever_their_order():
    state = DiT(TINY).state_dict()
    names = [name for name, _ in converted(state.items())]
    parts = published_parts(reversed(names))
    assert parts.keys() == state.keys()
    assert parts["blocks.1.cross_attn.kv_linear.bias"] == [f"blocks.1.cross_attn.to_{n}.bias" for n in "kv"]
    there = dict(converted(state.items()))
    assert all(torch.equal(torch.cat([there[n] for n in found]), state[name]) for name, found in parts.items())


def test_a_layer_that_is_not_whole_keeps_the_names_of_its_parts():
    at = "blocks.0.self_attn"
    assert published_parts([f"{at}.to_q.weight", f"{at}.to_k.weight"]) == {
        f"{at}.to_{n}.weight": [f"{at}.to_{n}.weight"] for n in "qk"
    }
