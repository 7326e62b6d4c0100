"""The VAE by tiles: its working memory is a tile's, however large the frames and however many."""

import pytest
import torch

from reelwright.model.codec import Codec, load_codec
from reelwright.model.config import CodecConfig
from reelwright.model.errors import ModelError
from tests.model.live import LiveElements
from tests.model.published import save_vae

TILE = 64
COPIES = 4  # of the result: tiles, their blended rows, the joined rows, the clamped video


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    torch.set_num_threads(1)
    return load_codec(CodecConfig(kind="wan", path=str(save_vae(tmp_path_factory.mktemp("wan")))))


def peak(codec: Codec, side: int, frames: int, tile: int) -> tuple[int, int]:
    """Return (elements alive at most, elements of the video) of a decode and an encode."""
    latents = torch.zeros(1, 16, (frames - 1) // 4 + 1, side // 8, side // 8)
    with codec.tiled(tile), LiveElements() as live:
        video = codec.decode(latents)
        codec.encode(video)
    return live.peak, video.numel()


def test_working_memory_is_a_tile_s(codec: Codec) -> None:
    alone, video = peak(codec, TILE, 5, TILE)
    working = alone - video
    for side, frames in ((128, 5), (128, 9)):
        tiled, size = peak(codec, side, frames, TILE)
        assert tiled < working + COPIES * size
    whole, size = peak(codec, 128, 5, 0)
    assert whole > 1.5 * (working + COPIES * size), "whole frames take more, or this shows nothing"


def test_tiles_are_for_a_while(codec: Codec) -> None:
    latents = torch.randn(1, 16, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    whole = codec.decode(latents)
    with codec.tiled(TILE):
        tiled = codec.decode(latents)
        with codec.tiled(0):
            torch.testing.assert_close(codec.decode(latents), whole, rtol=0, atol=0)
        torch.testing.assert_close(codec.decode(latents), tiled, rtol=0, atol=0)
    torch.testing.assert_close(codec.decode(latents), whole, rtol=0, atol=0)
    assert (tiled - whole).abs().max() > 0
    with pytest.raises(ModelError, match="100 pixels"), codec.tiled(100):
        pass


def test_a_codec_without_tiles_takes_no_notice() -> None:
    plain = load_codec(CodecConfig())
    latents = torch.zeros(1, 16, 1, 4, 4)
    with plain.tiled(32):
        torch.testing.assert_close(plain.decode(latents), plain.decode(latents))
