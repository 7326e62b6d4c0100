"""Captions without padding give what padded ones give: the published network's numbers at a part of the work."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.flop_counter import FlopCounterMode

from reelwright.model.config import DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError
from reelwright.model.lora.adapters import add_lora
from reelwright.model.text import PackedText, pack_text, pad_text
from reelwright.model.text.keys import _padding_bias
from tests.model.test_cache import CONFIG, inputs, stirred

TOKENS = 60
LENGTHS = [(1, 60, 7), (59, 58, 60), (3, 3, 3), (60, 60, 60), (14, 15, 1)]
"""Of captions, of which 60 are the most: the empty prompt has one token."""


def network(*, zero_pad: bool = True, **changes) -> DiT:
    return stirred(CONFIG.model_copy(update={"text_tokens": TOKENS, "text_tokens_zero_pad": zero_pad, **changes}))


def captions(lengths, seed: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, CONFIG.caption_channels, generator=generator) for length in lengths]


def output_and_gradients(model: DiT, text, *, cond_frames: int = 0):
    x, t, *_ = inputs(3)
    model.zero_grad()
    out = model(x, t, *text, cond_frames=cond_frames)
    (out * x).sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("zero_pad", [True, False], ids=["zero-pad", "masked"])
@pytest.mark.parametrize("cond_frames", [0, 2])
def test_packed_is_padded(lengths, zero_pad, cond_frames):
    model, states = network(zero_pad=zero_pad), captions(lengths)
    expect, expected = output_and_gradients(model, pad_text(states, TOKENS), cond_frames=cond_frames)
    found, gradients = output_and_gradients(model, (pack_text(states, TOKENS),), cond_frames=cond_frames)
    torch.testing.assert_close(found, expect, rtol=1e-5, atol=2e-6)
    for name, gradient in gradients.items():
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5 * scale, msg=name)


def test_the_padding_counts():
    """Else the test above could not fail by it: without padding's weight the output is another."""
    states = captions((3, 3, 3))
    x, t, *_ = inputs(3)
    with torch.no_grad():
        padded = network()(x, t, pack_text(states, TOKENS))
        masked = network(zero_pad=False)(x, t, pack_text(states, TOKENS))
    assert (padded - masked).abs().max() > 1e-3


@given(count=st.integers(0, 512))
def test_two_keys_weigh_as_all_padding(count):
    """Exact in fp32, and to 2.5e-4 once a mask is rounded to bf16, as autocast does."""
    biases = torch.stack(_padding_bias(torch.tensor([count])))
    assert float(biases.double().exp().sum()) == pytest.approx(count, rel=1e-6)
    assert float(biases.bfloat16().double().exp().sum()) == pytest.approx(count, rel=2.5e-4)


@pytest.mark.parametrize("autocast", [True, False])
def test_packed_is_padded_in_bf16(autocast):
    """As close to fp32 as the padded text is."""
    states, (x, t, *_) = captions((2, 60, 7)), inputs(3)
    model = network()
    half = model if autocast else network().bfloat16()
    with torch.no_grad():
        exact = model(x, t, *pad_text(states, TOKENS))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            padded, packed = half(x, t, *pad_text(states, TOKENS)), half(x, t, pack_text(states, TOKENS))
    noise = (padded.float() - exact).abs().mean()
    assert (packed.float() - exact).abs().mean() < 1.25 * noise
    assert (packed.float() - padded.float()).abs().mean() < 1.25 * noise


def test_packed_is_padded_with_adapters_and_a_cache():
    model, states, (x, t, *_) = network(), captions((2, 60, 7)), inputs(3)
    add_lora(model, LoRAConfig(rank=4, alpha=4))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora" in name:
                weight.normal_(std=0.1)
        cache, noisy = model.cache(x[:, :, :2]), x[:, :, 2:]
        padded, packed = (
            model(noisy, t, *text, cache=cache) for text in (pad_text(states, 60), (pack_text(states, 60),))
        )
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=5e-6)


def test_padding_costs_nothing():
    """Matrix products of text have a row per token, and one for the padding of the whole batch."""
    model, (x, t, *_) = network(depth=1), inputs(3)

    def products(text) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x, t, *text)
        return counter.get_total_flops()

    short, long = captions((2, 3, 4)), captions((4, 4, 5))
    width, hidden = CONFIG.caption_channels, CONFIG.hidden_size
    a_token = 2 * hidden * (width + hidden + 2 * hidden)
    assert products((pack_text(long, TOKENS),)) - products((pack_text(short, TOKENS),)) == 4 * a_token
    saved = products(pad_text(short, TOKENS)) - products((pack_text(short, TOKENS),))
    in_mlp, in_blocks = 2 * hidden * (width + hidden), 4 * hidden * hidden
    assert saved == (3 * TOKENS - 9) * in_mlp + (3 * TOKENS - 10) * in_blocks


@pytest.mark.parametrize("samples", [3, 1])
def test_captions_of_any_length_share_a_graph(samples):
    """Else each micro-batch would be compiled for itself; of one sample too, whose dropped caption is one token."""
    torch._dynamo.reset()
    model, (x, t, *_) = network(depth=1), inputs(3)
    x, t, of = x[:samples], t[:samples], [lengths[-samples:] for lengths in LENGTHS]
    backend = CompileCounterWithBackend("aot_eager")
    plain = [model(x, t, pack_text(captions(lengths), TOKENS)) for lengths in of]
    model.blocks[0].forward = torch.compile(model.blocks[0].forward, dynamic=False, backend=backend)
    for lengths, expect in zip(of, plain, strict=True):
        found = model(x, t, pack_text(captions(lengths), TOKENS))
        found.sum().backward()
        torch.testing.assert_close(found, expect, rtol=1e-5, atol=5e-6)
    assert backend.frame_count == 1


def test_it_runs_without_storage():
    text = pack_text(captions((2, 3)), TOKENS)
    with torch.device("meta"):
        model = DiT(CONFIG.model_copy(update={"text_tokens": TOKENS}))
        out = model(torch.empty(2, 3, 5, 6, 10), torch.empty(2), text.to("meta"))
    assert out.is_meta


def test_it_is_traced_without_storage():
    """As the planner of memory and captures of a step do it: no length is read from a tensor."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = DiT(CONFIG.model_copy(update={"text_tokens": TOKENS}))
        text = PackedText(torch.empty(5, CONFIG.caption_channels), torch.empty(2, dtype=torch.int64), 3)
        out = model(torch.empty(2, 3, 5, 6, 10), torch.empty(2), text)
        out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_attends_to_packed_text_by_a_fused_kernel_and_waits_for_nothing():
    """Scores in memory would be gigabytes per block at full size; a wait would end what the host has prepared."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    states, (x, t, *_) = captions((2, 60, 7)), inputs(3)
    wide = {"hidden_size": 64}  # kernels want head dims that 8 divides
    half = network(**wide).cuda().bfloat16()
    x, t, text = x.cuda().bfloat16(), t.cuda(), pack_text(states, TOKENS).to("cuda", torch.bfloat16)
    expect = network(**wide)(*inputs(3)[:2], pack_text(states, TOKENS))
    half(x, t, text)  # tables of positions are made at the first call
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]):
            out = half(x, t, text)
            out.float().square().mean().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (out.float().cpu() - expect).abs().mean() < 0.05 * expect.abs().mean()


def test_packing_cuts_and_says_what_it_cannot():
    text = pack_text(captions((2, 60, 7)), 5)
    assert (text.lengths.tolist(), text.longest, text.keys_per_caption) == ([2, 5, 5], 5, 5)
    assert [len(state) for state in text.unpacked()] == [2, 5, 5]
    assert text.to("cpu", torch.bfloat16).states.dtype == torch.bfloat16
    for states in ([], [torch.ones(2, 4), torch.ones(2, 5)], [torch.ones(0, 4)]):
        with pytest.raises(ModelError, match="one D"):
            pack_text(states, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (pack_text(captions((2, 3)), TOKENS), "2 captions with states of shape .* 3 captions of width 8"),
        (pack_text(captions((2, 3, 70)), 70), "the longest of 70 tokens"),
        (PackedText(torch.ones(3, 9), torch.ones(3, dtype=torch.int64), 1), "of width 8"),
    ],
)
def test_packed_text_that_does_not_fit_is_named(text, says):
    x, t, *_ = inputs(3)
    with pytest.raises(ModelError, match=says):
        network()(x, t, text)


def test_packed_text_has_no_mask():
    x, t, _, mask = inputs(3)
    with pytest.raises(ModelError, match="text_mask must not be given"):
        network()(x, t, pack_text(captions((1, 2, 3)), TOKENS), mask)


def test_a_config_with_few_text_tokens_works():
    config = DiTConfig.model_validate(CONFIG.model_dump() | {"text_tokens": 1})
    x, t, *_ = inputs(3)
    states = captions((1, 1, 1))
    with torch.no_grad():
        packed, padded = stirred(config)(x, t, pack_text(states, 1)), stirred(config)(x, t, *pad_text(states, 1))
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=2e-6)
