"""The up-sampler of refinement: bilinear in space, then linear in time, corners aligned; in fp32 on values in -1..1.

Sampling and the pairs of training call the same function. The published sampler does it in bf16 on 0..255.

Where an output frame lies between the frames of the first stage (`Timing`):
published: corners aligned, frame j of M at j (F - 1) / (M - 1). The last frame stands at the last frame, so F frames
that become 2F are stretched: 93 frames at 15 per second become 186 at 30 that are 0.5 % slower.
exact: frame j at j / 2, the time that it is shown at; past the last frame it is the last frame.
Where M = 2F - 1, or M = F, they agree.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from reelwright.model.config import Timing
from reelwright.model.errors import ModelError


def upsample(
    video: Tensor, *, frames: int, height: int, width: int, times: int = 2, timing: Timing = "published"
) -> Tensor:
    """Enlarge a video in space and time.

    Args:
        video: [B, 3, F, h, w], any floating type.
        frames: of the result.
        height: of the result, pixels.
        width: of the result, pixels.
        times: how many times the frame rate grows; 1 in space only.
        timing: where output frames lie in time.

    Returns:
        float32 [B, 3, frames, height, width].
    """
    batch, channels, count = video.shape[:3]
    flat = video.float().transpose(1, 2).flatten(0, 1)
    flat = F.interpolate(flat, size=(height, width), mode="bilinear", align_corners=True)
    enlarged = flat.view(batch, count, channels, height, width).transpose(1, 2)
    return at_positions(enlarged, source_positions(count, frames, times=times, timing=timing))


def source_positions(frames: int, out_frames: int, *, times: int = 2, timing: Timing = "published") -> Tensor:
    """Return where each output frame lies among the given frames, float64 [out_frames], counted in given frames.

    Args:
        frames: that are given.
        out_frames: of the result.
        times: how many times the frame rate grows, for the exact form.
        timing: which form.

    Raises:
        ModelError: a count is not positive, or `times` is neither 1 nor 2.
    """
    if frames < 1 or out_frames < 1:
        raise ModelError(f"{frames} frames cannot become {out_frames}: both counts must be at least 1")
    if times not in (1, 2):
        raise ModelError(f"a frame rate that grows {times} times is not a refinement; give 1 (in space only) or 2")
    at = torch.arange(out_frames, dtype=torch.float64)
    if timing == "exact":
        return (at / times).clamp_max(frames - 1)
    return at * ((frames - 1) / (out_frames - 1)) if out_frames > 1 else at


def at_positions(video: Tensor, positions: Tensor) -> Tensor:
    """Return frames between frames by linear interpolation.

    Args:
        video: [B, C, F, H, W].
        positions: float64 [M], each in 0..F-1.

    Returns:
        [B, C, M, H, W]: at whole positions the very frames.
    """
    last = video.shape[2] - 1
    below = positions.floor().clamp(0, last)
    weight = (positions - below).to(video.dtype).view(-1, 1, 1).to(video.device)
    first = below.long().to(video.device)
    if not weight.any():
        return video[:, :, first] if video.shape[2] != len(positions) else video
    return torch.lerp(video[:, :, first], video[:, :, (first + 1).clamp_max(last)], weight)
