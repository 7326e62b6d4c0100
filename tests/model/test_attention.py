"""Dense attention with condition frames, and where another kernel plugs in."""

import pytest
import torch

from reelwright.model.attention import CrossAttention, Layout, SelfAttention, dense_attention, set_attention
from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.rope import rotation
from reelwright.model.text.keys import padded_keys


@pytest.mark.parametrize("cond_frames", [0, 1, 3, 4])
def test_it_is_attention_under_the_mask_of_the_condition(cond_frames):
    layout = Layout(4, 2, 3, cond_frames)
    q, k, v = torch.randn(3, 2, 2, 24, 8, dtype=torch.float64)
    scores = q @ k.transpose(-1, -2) / 8**0.5
    clean = torch.arange(24) < cond_frames * layout.frame_tokens
    scores = scores.masked_fill(clean[:, None] & ~clean, -torch.inf)
    torch.testing.assert_close(dense_attention(q, k, v, layout), scores.softmax(-1) @ v)


def test_every_self_attention_computes_by_what_is_set():
    config = DiTConfig(hidden_size=24, depth=2, num_heads=2, in_channels=2, caption_channels=4, adaln_tembed_dim=8)
    model, seen = DiT(config), []

    def attend(q, k, v, layout):
        seen.append((q.shape, k.shape, layout))
        return dense_attention(q, k, v, layout)

    set_attention(model, attend)
    x, t, text = torch.randn(1, 2, 3, 4, 6), torch.tensor([3.0]), torch.randn(1, 5, 4)
    cache = model.cache(x[:, :, :1])
    model(x[:, :, 1:], t, text, cache=cache)
    model(x, t, text, cond_frames=1)
    of_cache, cached, whole = seen[0], seen[2], seen[4]
    assert len(seen) == 6
    assert of_cache[2] == Layout(1, 2, 3)
    assert cached == ((1, 2, 12, 12), (1, 2, 18, 12), Layout(3, 2, 3, cached_frames=1))
    assert whole[2] == Layout(3, 2, 3, cond_frames=1)


def test_self_attention_gives_its_keys_before_rope():
    layer = SelfAttention(16, 2)
    x, layout = torch.randn(1, 4, 16), Layout(1, 2, 2)
    _, (k, _) = layer(x, rotation(8, (1, 2, 2)), layout)
    _, (far, _) = layer(x, rotation(8, (1, 2, 2), (5, 5, 5)), layout)
    assert k.shape == (1, 2, 4, 8)
    assert torch.equal(k, far)
    torch.testing.assert_close(k.square().mean(-1), torch.ones(1, 2, 4), rtol=1e-3, atol=1e-3)


def test_masked_text_has_no_effect_and_no_text_at_all_is_finite():
    layer = CrossAttention(16, 2)
    x, text, mask = torch.randn(2, 5, 16), torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
    mask[0, 3:], mask[1] = False, False
    found = layer(x, padded_keys(text, mask, zero_pad=False))
    torch.testing.assert_close(found[:1], layer(x[:1], padded_keys(text[:1, :3], None, zero_pad=False)))
    torch.testing.assert_close(found[1], layer.proj.bias.expand(5, 16))
