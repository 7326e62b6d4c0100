"""The network with its codec, text encoder, adapters and sampler.

from reelwright.model import Generator, load_model
model = load_model("weights")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reelwright.lazy import lazy

if TYPE_CHECKING:
    from reelwright.model.checkpoint import load_model as load_model
    from reelwright.model.checkpoint import save_model as save_model
    from reelwright.model.codec import Codec as Codec
    from reelwright.model.codec import load_codec as load_codec
    from reelwright.model.config import CodecConfig as CodecConfig
    from reelwright.model.config import DiTConfig as DiTConfig
    from reelwright.model.config import TextConfig as TextConfig
    from reelwright.model.dit import DiT as DiT
    from reelwright.model.errors import ModelError as ModelError
    from reelwright.model.sampling.generator import Generator as Generator
    from reelwright.model.sampling.settings import Settings as Settings
    from reelwright.model.sampling.video_file import write_image as write_image
    from reelwright.model.sampling.video_file import write_video as write_video
    from reelwright.model.text import TextEncoder as TextEncoder
    from reelwright.model.text import load_text_encoder as load_text_encoder

_HOME = {
    "Codec": "codec",
    "CodecConfig": "config",
    "DiT": "dit",
    "DiTConfig": "config",
    "Generator": "sampling.generator",
    "ModelError": "errors",
    "Settings": "sampling.settings",
    "TextConfig": "config",
    "TextEncoder": "text",
    "load_codec": "codec",
    "load_model": "checkpoint",
    "load_text_encoder": "text",
    "save_model": "checkpoint",
    "write_image": "sampling.video_file",
    "write_video": "sampling.video_file",
}

__all__ = list(_HOME)

if not TYPE_CHECKING:  # a checker would take any name for granted
    __getattr__, __dir__ = lazy(__name__, _HOME)
