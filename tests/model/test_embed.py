"""Timesteps are embedded in fp32, whatever the type around them."""

import torch

from reelwright.model.embed import TimestepEmbed


def test_timesteps_are_embedded_in_fp32_under_autocast_and_by_rounded_weights() -> None:
    torch.manual_seed(0)
    embed = TimestepEmbed(16, 24)
    t = torch.tensor([0.0, 3.7, 999.0])
    expect = embed(t)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(embed(t), expect)
    rounded = embed.to(torch.bfloat16)(t)
    assert rounded.dtype == torch.float32
    exact = embed.float()(t)  # the same rounded weights, in fp32
    assert torch.equal(rounded, exact)
