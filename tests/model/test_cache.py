"""A cache of the condition frames gives what the whole pass gives."""

import pytest
import torch

from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError

CONFIG = DiTConfig(
    hidden_size=40, depth=2, num_heads=2, in_channels=3, out_channels=3, caption_channels=8, adaln_tembed_dim=8,
    frequency_embedding_size=12,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> DiT:
    return stirred(CONFIG)


def stirred(config: DiTConfig) -> DiT:
    """Weights without the zeros of a new network, which would hide what happens inside."""
    model, generator = DiT(config).init_weights(0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def inputs(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    x, text = (torch.randn(s, generator=generator) for s in ((batch, 3, 5, 6, 10), (batch, 7, 8)))
    mask = torch.arange(7) < torch.tensor([[7], [4], [1]])[:batch]
    return x, torch.tensor([900.0, 20.0, 500.0])[:batch], text, mask


@pytest.mark.parametrize("clean", [1, 3, 4])
@pytest.mark.parametrize("zero_pad", [True, False])
def test_cached_is_uncached(clean, zero_pad):
    model = stirred(CONFIG.model_copy(update={"text_tokens_zero_pad": zero_pad}))
    x, t, text, mask = inputs()
    with torch.no_grad():
        whole = model(x, t, text, mask, cond_frames=clean)[:, :, clean:]
        cached = model(x[:, :, clean:], t, text, mask, cache=model.cache(x[:, :, :clean]))
    torch.testing.assert_close(cached, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("autocast", [True, False])
def test_cached_is_uncached_in_bf16(model, autocast):
    """Under autocast over fp32 weights, and with bf16 weights; as close as bf16 is to fp32, and closer."""
    x, t, text, mask = inputs()
    with torch.no_grad():
        exact = model(x, t, text, mask, cond_frames=2)[:, :, 2:]
        half = model if autocast else stirred(CONFIG).bfloat16()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            whole = half(x, t, text, mask, cond_frames=2)[:, :, 2:].float()
            cached = half(x[:, :, 2:], t, text, mask, cache=half.cache(x[:, :, :2])).float()
    assert (cached - whole).abs().mean() < 0.01 * exact.abs().mean()
    assert (whole - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_a_cache_serves_a_batch_that_repeats_its_samples(model):
    x, t, text, mask = inputs()
    other = text.flip(1)
    with torch.no_grad():
        cache = model.cache(x[:, :, :2])
        alone = [model(x[:, :, 2:], t, states, mask, cache=cache) for states in (text, other)]
        joined = model(
            x[:, :, 2:].repeat(2, 1, 1, 1, 1), t.repeat(2), torch.cat((text, other)), mask.repeat(2, 1),
            cache=cache.expand(2).to("cpu"),
        )  # fmt: skip
    torch.testing.assert_close(joined, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_a_strip_has_its_own_cache_at_its_origin(model):
    """RoPE of keys is made when they are used, so that the cache and x of a strip start at the same place."""
    x, t, text, mask = inputs()
    with torch.no_grad():
        cache = model.cache(x[:, :, :2])
        shifted = model(x[:, :, 2:], t, text, mask, cache=cache, origin=(0, 4, 0))
        plain = model(x[:, :, 2:], t, text, mask, cache=cache)
    torch.testing.assert_close(shifted, plain, rtol=1e-4, atol=1e-4)  # distances alone count


def test_what_does_not_go_together_is_refused(model):
    x, t, text, mask = inputs()
    cache = model.cache(x[:, :, :2])
    with pytest.raises(ModelError, match="noisy frames alone"):
        model(x[:, :, 2:], t, text, mask, cache=cache, cond_frames=1)
    with pytest.raises(ModelError, match="the cache is of"):
        model(x[:, :, 2:, :4], t, text, mask, cache=cache)
    with pytest.raises(ModelError, match="the cache is of"):
        model(x[:1, :, 2:], t[:1], text[:1], mask[:1], cache=cache)
