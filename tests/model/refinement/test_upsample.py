"""The up-sampler of refinement against torch's own, and where its frames lie in time."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.model.errors import ModelError
from reelwright.model.refinement.upsample import at_positions, source_positions, upsample


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 7), st.integers(1, 14), st.integers(2, 6), st.integers(2, 9))
def test_published_form_is_bilinear_then_trilinear_with_aligned_corners(frames, out, height, width):
    video = torch.rand(2, 3, frames, 4, 5, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    bytes_like = (video + 1) * 127.5
    in_space = F.interpolate(
        bytes_like.transpose(1, 2).flatten(0, 1), (height, width), mode="bilinear", align_corners=True
    )
    in_space = in_space.view(2, frames, 3, height, width).transpose(1, 2) / 255
    expect = F.interpolate(in_space, (out, height, width), mode="trilinear", align_corners=True) * 2 - 1
    found = upsample(video, frames=out, height=height, width=width)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expect, rtol=0, atol=2e-5)


def test_published_form_stretches_time_by_half_a_percent_and_the_exact_form_does_not():
    published, exact = (source_positions(93, 186, timing=timing) for timing in ("published", "exact"))
    j = torch.arange(186, dtype=torch.float64)
    torch.testing.assert_close(published, j * 92 / 185, rtol=1e-15, atol=0)
    torch.testing.assert_close(exact, (j / 2).clamp_max(92), rtol=0, atol=0)
    behind = (j / 2 - published)[:185]  # in frames of the first stage: the refined video lags behind its own time
    assert behind.max().item() == pytest.approx(92 * (1 - 184 / 185), rel=1e-12)
    assert (behind.diff() > 0).all()
    assert published[-1].item() == exact[-1].item() == 92


@pytest.mark.parametrize(("frames", "out", "times"), [(95, 189, 2), (47, 93, 2), (93, 93, 1), (1, 1, 1)])
def test_both_forms_agree_on_the_lengths_that_are_trained(frames, out, times):
    published, exact = (source_positions(frames, out, times=times, timing=timing) for timing in ("published", "exact"))
    assert torch.equal(published, exact)


def test_every_other_frame_of_a_doubled_clip_is_the_clip_itself():
    video = torch.rand(1, 3, 5, 8, 8)
    doubled = upsample(video, frames=9, height=8, width=8)
    torch.testing.assert_close(doubled[:, :, ::2], video, rtol=0, atol=1e-6)
    torch.testing.assert_close(doubled[:, :, 1::2], (video[:, :, 1:] + video[:, :, :-1]) / 2, rtol=0, atol=1e-6)


def test_exact_form_repeats_the_last_frame():
    video = torch.arange(3.0).view(1, 1, 3, 1, 1)
    found = at_positions(video, source_positions(3, 6, timing="exact")).flatten()
    assert found.tolist() == [0, 0.5, 1, 1.5, 2, 2]


def test_impossible_counts_are_refused():
    with pytest.raises(ModelError, match="0 frames cannot become 4"):
        source_positions(0, 4)
    with pytest.raises(ModelError, match="grows 3 times"):
        source_positions(2, 6, times=3)
