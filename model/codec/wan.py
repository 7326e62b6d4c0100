"""Wan 2.1's causal VAE through diffusers' AutoencoderKLWan, in the normalised latents that LongCat-Video works on.

Time needs no tiles: diffusers runs the VAE over 4 frames at a time with a cache of the frames before, so memory grows
with the area of a frame and hardly with the length. Space is cut into overlapping, blended tiles when `tile` is set.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from reelwright.curation.extras import install_command
from reelwright.errors import first_line
from reelwright.model.codec.base import CHANNELS, Codec
from reelwright.model.config import STRIDE, CodecConfig
from reelwright.model.dtypes import DTYPES
from reelwright.model.errors import ModelError
from reelwright.model.weights.pretrained import digest, resolve

TILE_STEP_PX = 32  # a tile's stride is 3/4 of it and must be whole latent positions


class WanCodec(Codec):
    """The mode of the posterior is the latent, so that a clip always has the same one."""

    name = "wan"

    def __init__(self, config: CodecConfig, *, device: str = "cpu") -> None:
        """Load the VAE.

        Raises:
            ModelError: the weights or diffusers are missing, or the VAE is not of Wan 2.1's kind.
        """
        self.fingerprint = wan_fingerprint(config)
        self.device, self.dtype = torch.device(device), DTYPES[config.dtype]
        self.vae = _load(config, self.dtype).to(device)
        mean, std = (torch.tensor(getattr(self.vae.config, f"latents_{k}")) for k in ("mean", "std"))
        self.mean, self.std = mean.view(1, -1, 1, 1, 1).to(device), std.view(1, -1, 1, 1, 1).to(device)
        self.tile = 0
        self._set_tile(config.tile)

    @contextmanager
    def tiled(self, tile: int) -> Iterator[None]:
        """Set the side in pixels of the overlapping, blended tiles to work on; 0: whole frames. Raises ModelError."""
        before = self.tile
        _check_tile(tile)
        try:
            self._set_tile(tile)
            yield
        finally:
            self._set_tile(before)

    def _set_tile(self, tile: int) -> None:
        self.tile = tile
        if tile:
            self.vae.enable_tiling(tile, tile, tile * 3 // 4, tile * 3 // 4)
        else:
            self.vae.use_tiling = False

    def _encode(self, video: Tensor) -> Tensor:
        posterior = self.vae.encode(video.to(self.device, self.dtype)).latent_dist
        return (posterior.mode().float() - self.mean) / self.std

    def _sample(self, video: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        posterior = self.vae.encode(video.to(self.device, self.dtype)).latent_dist
        shape = posterior.mode().shape[1:]
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device)
        return (posterior.mode().float() + posterior.std.float() * noise - self.mean) / self.std

    def _decode(self, latents: Tensor) -> Tensor:
        raw = latents.to(self.device, torch.float32) * self.std + self.mean
        return self.vae.decode(raw.to(self.dtype)).sample.float()


def wan_fingerprint(config: CodecConfig) -> str:
    """Return the fingerprint of weights, precision and tile, without loading the network."""
    _check_tile(config.tile)
    folder = resolve(config.path, "vae", revision=config.revision)
    return f"wan-{digest(folder)}-{config.dtype}" + (f"-tile{config.tile}" if config.tile else "")


def _check_tile(tile: int) -> None:
    if tile % TILE_STEP_PX:
        raise ModelError(f"codec.tile is {tile} pixels; it must be a multiple of {TILE_STEP_PX}, or 0 for none")


def _load(config: CodecConfig, dtype: torch.dtype) -> Any:
    try:
        from diffusers import AutoencoderKLWan
    except ImportError as error:
        raise ModelError(f"Wan's VAE needs diffusers: {install_command('models')}") from error
    folder = resolve(config.path, "vae", revision=config.revision)
    try:
        vae = AutoencoderKLWan.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, low_cpu_mem_usage=False
        )  # it is small; with True, diffusers asks for accelerate
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{folder} does not load as an AutoencoderKLWan: {first_line(error)}") from error
    if vae.config.z_dim != CHANNELS or vae.config.scale_factor_spatial != STRIDE[1]:
        raise ModelError(
            f"{folder}: a VAE of {vae.config.z_dim} channels and {vae.config.scale_factor_spatial}× in space; "
            f"Wan 2.1's has {CHANNELS} channels and {STRIDE[1]}×"
        )
    vae.use_slicing = True  # one sample at a time: the memory of a batch is that of a sample
    return vae.eval().requires_grad_(False)
