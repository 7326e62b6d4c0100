"""Codecs: the DCT stand-in on real pictures, and Wan's VAE at a tiny size with random weights."""

from pathlib import Path

import pytest
import torch

from benchmarks.dct_codec import moving
from reelwright.model.codec import codec_fingerprint, load_codec, pixel_frames
from reelwright.model.config import CodecConfig
from reelwright.model.errors import ModelError
from tests.model.published import save_vae

torch.set_num_threads(1)
DCT = CodecConfig()


def picture_video(speed_px: float = 2.0, size: tuple[int, int] = (96, 128)) -> torch.Tensor:
    """A photograph that moves: [1, 3, 9, H, W]."""
    from skimage import data

    return moving(data.astronaut(), size, speed_px)[None]


def psnr_db(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(4 / (a - b).square().mean()))


@pytest.mark.parametrize(("speed_px", "least_db"), [(0.0, 23), (1.0, 23), (4.0, 21)])
def test_a_decoded_video_looks_like_the_video(speed_px: float, least_db: float) -> None:
    codec, video = load_codec(DCT), picture_video(speed_px, (192, 256))
    back = codec.decode(codec.encode(video))
    assert back.shape == video.shape
    assert psnr_db(back, video) > least_db
    assert psnr_db(back[:, :, :1], video[:, :, :1]) > 25  # the frame that stands alone


def test_latents_are_about_normalised() -> None:
    latents = torch.cat([load_codec(DCT).encode(picture_video(s, (256, 256))) for s in (0.5, 2.0, 8.0)])
    for part in (latents[:, :, :1], latents[:, :, 1:]):
        channels = part.transpose(0, 1).flatten(1)
        assert channels.mean(1).abs().max() < 1
        assert channels.std(1).min() > 0.3
        assert channels.std(1).max() < 3
        assert 0.5 < part.std() < 2


def test_what_was_decoded_is_encoded_to_the_same_latents() -> None:
    codec = load_codec(DCT)
    latents = codec.encode(picture_video() * 0.3)  # so little contrast that nothing is clamped
    torch.testing.assert_close(codec.encode(codec.decode(latents)), latents, atol=1e-3, rtol=1e-3)


def test_first_frame_and_blocks_of_four_stand_alone() -> None:
    codec, video = load_codec(DCT), picture_video()
    whole = codec.encode(video)
    assert whole.shape == (1, 16, 3, 12, 16)
    torch.testing.assert_close(codec.encode(video[:, :, :1]), whole[:, :, :1])
    torch.testing.assert_close(codec.encode(video[:, :, :5]), whole[:, :, :2])


def test_a_still_scene_is_the_same_in_every_latent_frame_where_channels_mean_the_same() -> None:
    latents = load_codec(DCT).encode(picture_video(0.0))
    torch.testing.assert_close(latents[:, :9, 0], latents[:, :9, 1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(latents[:, :, 1], latents[:, :, 2], atol=1e-4, rtol=1e-4)


def test_a_grey_frame_has_exact_values() -> None:
    codec = load_codec(DCT)
    grey = codec.decode(codec.encode(torch.full((1, 3, 5, 16, 24), 0.25)))
    torch.testing.assert_close(grey, torch.full_like(grey, 0.25), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 3, 5, 60, 64), "64x60"),
        ((1, 3, 4, 64, 64), r"4k \+ 1"),
        ((1, 4, 5, 64, 64), r"\[B, 3"),
        ((3, 64, 64), r"\[B, 3"),
    ],
)
def test_a_video_that_does_not_fit_is_refused(shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        load_codec(DCT).encode(torch.zeros(shape))


def test_latents_of_another_codec_are_refused() -> None:
    with pytest.raises(ModelError, match="16"):
        load_codec(DCT).decode(torch.zeros(1, 48, 2, 4, 4))


def test_autocast_does_not_reach_the_codec() -> None:
    codec, video = load_codec(DCT), picture_video()
    latents = codec.encode(video)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(codec.encode(video), latents, rtol=0, atol=0)
        assert codec.decode(latents).dtype == torch.float32


def test_the_stand_in_says_so() -> None:
    codec = load_codec(DCT)
    assert "standin" in codec.name
    assert codec.fingerprint.startswith("dct-standin-")
    assert codec.fingerprint == codec_fingerprint(DCT)
    assert pixel_frames(24) == 93


# --- Wan -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vae(tmp_path_factory.mktemp("wan"))


def test_wan_latents_are_the_mode_normalised_by_the_config(vae_folder: Path) -> None:
    from diffusers import AutoencoderKLWan

    video = picture_video(size=(32, 48))
    latents = load_codec(CodecConfig(kind="wan", path=str(vae_folder))).encode(video)
    vae = AutoencoderKLWan.from_pretrained(vae_folder / "vae")
    mean, std = (torch.tensor(getattr(vae.config, k)).view(1, 16, 1, 1, 1) for k in ("latents_mean", "latents_std"))
    with torch.no_grad():
        expect = (vae.encode(video).latent_dist.mean - mean) / std
    assert latents.shape == (1, 16, 3, 4, 6)
    torch.testing.assert_close(latents, expect, rtol=0, atol=1e-6)


def test_wan_decodes_what_it_encodes(vae_folder: Path) -> None:
    from diffusers import AutoencoderKLWan

    codec = load_codec(CodecConfig(kind="wan", path=str(vae_folder)))
    video = torch.cat([picture_video(size=(32, 48)), picture_video(0.0, size=(32, 48))])
    latents = codec.encode(video)
    decoded = codec.decode(latents)
    assert decoded.shape == video.shape
    assert decoded.abs().max() <= 1
    torch.testing.assert_close(codec.encode(video[1:]), latents[1:])  # a sample does not hang on the one beside it
    vae = AutoencoderKLWan.from_pretrained(vae_folder / "vae")
    with torch.no_grad():
        expect = vae.decode(vae.encode(video).latent_dist.mode()).sample
    torch.testing.assert_close(decoded, expect, rtol=0, atol=1e-4)


def test_wan_tiles_are_about_the_whole(vae_folder: Path) -> None:
    whole, tiled = (load_codec(CodecConfig(kind="wan", path=str(vae_folder), tile=tile)) for tile in (0, 64))
    video = picture_video(0.0, (96, 96))[:, :, :5]
    a, b = whole.encode(video), tiled.encode(video)
    assert a.shape == b.shape
    assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.9
    decoded = tiled.decode(a)
    assert decoded.shape == video.shape
    assert torch.corrcoef(torch.stack([whole.decode(a).flatten(), decoded.flatten()]))[0, 1] > 0.9
    assert whole.fingerprint != tiled.fingerprint


def test_wan_in_bf16_is_near_fp32_and_has_another_fingerprint(vae_folder: Path) -> None:
    full, half = (load_codec(CodecConfig(kind="wan", path=str(vae_folder), dtype=d)) for d in ("fp32", "bf16"))
    video = picture_video(0.0, (32, 32))[:, :, :5]
    a, b = full.encode(video), half.encode(video)
    assert a.dtype == b.dtype == torch.float32
    assert (a - b).abs().max() < 0.1 * a.abs().max()
    assert full.fingerprint != half.fingerprint


def test_wan_fingerprint_follows_the_weights(vae_folder: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKLWan

    config = CodecConfig(kind="wan", path=str(vae_folder))
    assert codec_fingerprint(config) == codec_fingerprint(config) == load_codec(config).fingerprint
    vae = AutoencoderKLWan.from_pretrained(vae_folder / "vae")
    vae.save_pretrained(tmp_path / "split", max_shard_size="100KB")  # the same, in other files
    assert codec_fingerprint(CodecConfig(kind="wan", path=str(tmp_path / "split"))) == codec_fingerprint(config)
    with torch.no_grad():
        vae.decoder.conv_out.weight.add_(1e-3)
    vae.save_pretrained(tmp_path / "other")
    assert codec_fingerprint(CodecConfig(kind="wan", path=str(tmp_path / "other"))) != codec_fingerprint(config)


def test_what_is_no_wan_vae_is_one_sentence(vae_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="nobody/nothing.*neither a folder nor a hub id"):
        load_codec(CodecConfig(kind="wan", path="nobody/nothing"))
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_codec(CodecConfig(kind="wan", path=str(tmp_path)))
    with pytest.raises(ModelError, match="multiple of 32"):
        load_codec(CodecConfig(kind="wan", path=str(vae_folder), tile=100))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no \.safetensors"):
        load_codec(CodecConfig(kind="wan", path=str(tmp_path)))
