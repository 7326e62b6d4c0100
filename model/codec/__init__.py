"""Video to latents and back: Wan 2.1's VAE, or a fixed DCT that stands in for it where there are no weights."""

from reelwright.model.codec.base import Codec, latent_size, pixel_frames
from reelwright.model.config import CodecConfig

__all__ = ["Codec", "codec_fingerprint", "latent_size", "load_codec", "pixel_frames"]


def load_codec(config: CodecConfig, *, device: str = "cpu") -> Codec:
    """Load the codec that a recipe names.

    Raises:
        ModelError: its weights or its library are not there.
    """
    if config.kind == "dct":
        from reelwright.model.codec.dct import DCTCodec

        return DCTCodec(device=device)
    from reelwright.model.codec.wan import WanCodec

    return WanCodec(config, device=device)


def codec_fingerprint(config: CodecConfig) -> str:
    """`load_codec(config).fingerprint`, without loading the network: latents can be looked up before anything runs."""
    if config.kind == "dct":
        return load_codec(config).fingerprint
    from reelwright.model.codec.wan import wan_fingerprint

    return wan_fingerprint(config)
