import numpy as np
import pytest
import torch

from tests.training.rewards.qwen2_vl import published


@pytest.fixture(scope="package")
def base(tmp_path_factory):
    return published.base(tmp_path_factory.mktemp("base") / "Qwen2-VL-small")


@pytest.fixture(scope="package")
def rows(base):
    """Tokens of the base."""
    from transformers import AutoTokenizer

    return len(AutoTokenizer.from_pretrained(base))


@pytest.fixture(scope="session")
def movie():
    """Soft shapes that move, uint8 [F, H, W, 3]."""

    def make(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
        own = torch.Generator().manual_seed(seed)
        coarse = torch.rand(1, 3, 3 + frames // 2, 6, 6, generator=own)
        soft = torch.nn.functional.interpolate(coarse, (frames, height, width), mode="trilinear")
        return (soft[0].permute(1, 2, 3, 0) * 255).round().byte().numpy()

    return make
