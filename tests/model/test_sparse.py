"""The DiT with block-sparse attention: equal to dense at sparsity 0, cached as trained, dense where it should be."""

import pytest
import torch
from pydantic import ValidationError

from reelwright.kernels import block_sparse_attention
from reelwright.model.attention import dense_attention
from reelwright.model.config import AttentionConfig, DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.sparse import use_attention

CONFIG = DiTConfig(hidden_size=48, depth=2, num_heads=2, in_channels=4, caption_channels=8, adaln_tembed_dim=16)


@pytest.fixture
def network():
    model = DiT(CONFIG).init_weights()
    torch.manual_seed(0)
    for weight in model.parameters():  # no gate is at zero, so that attention matters
        weight.data.normal_(std=0.2)
    return model.double()


def inputs(frames=5):
    torch.manual_seed(1)
    x = torch.randn(2, 4, frames, 12, 10, dtype=torch.float64)
    return x, torch.tensor([300.0, 700.0]), torch.randn(2, 3, 8, dtype=torch.float64)


def sparse(**options):
    return AttentionConfig(form="sparse", block=(2, 3, 2), **options)


@pytest.mark.parametrize("cond_frames", [0, 2])
def test_at_sparsity_0_outputs_and_gradients_are_the_dense_ones(network, cond_frames):
    x, t, text = inputs()
    results = []
    for config in (AttentionConfig(), sparse(keep=1.0)):
        use_attention(network, config)
        network.zero_grad()
        out = network(x, t, text, cond_frames=cond_frames)
        out.square().mean().backward()
        results.append([out, *(w.grad.clone() for w in network.parameters() if w.grad is not None)])
    for dense, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-5, atol=1e-6)  # norms and modulation are in fp32


@pytest.mark.parametrize("options", [{"keep": 0.3}, {"cdf": 0.5}, {"keep": 0.3, "key_block": (2, 3, 4)}])
@pytest.mark.parametrize("clean", [1, 3])
def test_sampling_from_a_cache_is_what_training_saw(network, options, clean):
    use_attention(network, sparse(**options))
    x, t, text = inputs()
    with torch.no_grad():
        whole = network(x, t, text, cond_frames=clean)
        cached = network(x[:, :, clean:], t, text, cache=network.cache(x[:, :, :clean]))
    torch.testing.assert_close(cached, whole[:, :, clean:])


def test_it_differs_from_dense_when_blocks_are_left_out_but_not_for_images_or_in_the_warm_up(network):
    attend = use_attention(network, sparse(keep=0.2, dense_steps=3))

    def both(frames):
        x, t, text = inputs(frames)
        with torch.no_grad():
            ours = network(x, t, text)
            for block in network.blocks:
                block.attn.attend = dense_attention
            dense = network(x, t, text)
            for block in network.blocks:
                block.attn.attend = attend
        return ours, dense

    attend.at_step(2)
    assert torch.equal(*both(4))
    attend.at_step(3)
    assert torch.equal(*both(1))
    assert not torch.allclose(*both(4))


def test_tokens_are_put_in_block_order_once_whatever_the_depth(network, monkeypatch):
    attend = use_attention(network, sparse(keep=0.5))
    calls = []
    monkeypatch.setattr(attend, "sparse", lambda *a, **o: calls.append(o) or block_sparse_attention(*a, **o))
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        network(*inputs())
    assert [o["in_block_order"] for o in calls] == [True, True]
    assert sum(event.name == "_Permuted" for event in profile.events()) == 2  # on entering, and back at the end


def test_a_cache_made_before_attention_became_sparse_is_put_in_its_order(network):
    x, t, text = inputs()
    attend = use_attention(network, sparse(keep=1.0, dense_steps=1))
    attend.at_step(0)
    with torch.no_grad():
        dense = network.cache(x[:, :, :3])
        expect = network(x[:, :, 3:], t, text, cache=dense)
        attend.at_step(1)
        ours = network.cache(x[:, :, :3])
        assert (dense.block, ours.block) == (None, attend.block)
        found = [network(x[:, :, 3:], t, text, cache=cache) for cache in (dense, ours)]
    for out in found:
        torch.testing.assert_close(out, expect, rtol=1e-5, atol=1e-6)


def test_a_config_that_does_not_fit_is_refused():
    apart = {"block": (2, 2, 2), "key_block": (3, 4, 4)}
    for wrong in ({"keep": 1.5}, {"cdf": -1}, {"block": (0, 1, 1)}, apart, {"x": 1}):
        with pytest.raises(ValidationError):
            AttentionConfig(form="sparse", **wrong)
