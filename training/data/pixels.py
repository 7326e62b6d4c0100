"""Decoded frames to the codec's input, and through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reelwright.model.codec import Codec

if TYPE_CHECKING:
    import torch


def encode_frames(frames: np.ndarray, codec: Codec) -> torch.Tensor:
    """Encode uint8 frames [F, H, W, 3]: float32 latents [C, T, H/8, W/8] on the device of the codec."""
    return codec.encode(video_of(frames, codec.device))[0].float()


def video_of(frames: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return uint8 frames [F, H, W, 3] as a video, float32 [1, 3, F, H, W] in -1..1."""
    return _video(frames, device).permute(3, 0, 1, 2)[None]


def _video(frames: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return frames as float32 in -1..1. They travel to a GPU as bytes, without a wait."""
    import torch

    if device.type != "cuda":
        video = np.divide(frames, 127.5, dtype=np.float32)
        video -= 1
        return torch.from_numpy(video)
    pinned = torch.empty(frames.shape, dtype=torch.uint8, pin_memory=True)
    np.copyto(pinned.numpy(), frames)
    return pinned.to(device, non_blocking=True).float().div_(127.5).sub_(1)
