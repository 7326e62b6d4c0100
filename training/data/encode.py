"""Clips and captions to rows of the tables `latents` and `texts`: shared by precomputing and by encoding on the fly.

Decoding is handed in: `decode(mp4, bucket, at)` gives the frames. Bytes of videos are decoded in a sandbox that
`pipelines` owns, and training knows the store alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.model.codec import Codec, codec_fingerprint
from reelwright.model.text import TextEncoder, text_fingerprint
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.pairs import PairMaker, stored_seed
from reelwright.training.data.pixels import encode_frames
from reelwright.training.data.rows import caption_hash
from reelwright.training.data.windows import MIDDLE, Window
from reelwright.training.recipe import DataConfig, TrainRecipe

if TYPE_CHECKING:
    import torch

BASE = "data.pair.base.path"
VERSION = 1  # of which frames are taken and how they are scaled
CENTRE = float(MIDDLE)


@dataclass(frozen=True)
class Decoded:
    """numbers: the clip's frames that were taken. frames: uint8 [F, height, width, 3]. width, height: of the clip."""

    numbers: list[int]
    frames: np.ndarray
    width: int
    height: int


Decode = Callable[[bytes, Bucket, float], Decoded]
"""(mp4, bucket, at) -> a window of `bucket.frames` frames. at: where in the clip, 0 its beginning to 1 its end."""


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of the rows of `latents` and `texts` that belong to a recipe."""

    latents: str
    texts: str

    @property
    def both(self) -> str:
        """16 hex digits, for a checkpoint."""
        return hashlib.sha256(f"{self.latents}|{self.texts}".encode()).hexdigest()[:16]


def fingerprints_of(recipe: TrainRecipe) -> Fingerprints:
    """Return them without loading a network.

    Raises:
        ModelError, TrainError: weights that they follow from are not there.
    """
    dtype = recipe.data.store_dtype
    return Fingerprints(
        f"{codec_fingerprint(recipe.codec)}-{_rates(recipe.data)}-{dtype}-v{VERSION}{_pair(recipe.data)}",
        f"{text_fingerprint(recipe.text)}-{dtype}",
    )


def _rates(data: DataConfig) -> str:
    own = [f"{frames}@{rate:g}" for frames, rate in sorted(data.rates.items()) if rate != data.fps]
    return f"{data.fps:g}fps" + "".join(f"+{one}" for one in own)


def _pair(data: DataConfig) -> str:
    if data.pair is None:
        return ""
    if data.pair.base is None:
        return f"-pair-{data.pair.fingerprint_of()}"
    from reelwright.training.origins import existing, identity_of

    base = existing(Path(data.pair.base.path), BASE)
    return f"-pair-{data.pair.fingerprint_of(identity_of(base))}"


def latents_row(
    clip_id: str, mp4: bytes, bucket: Bucket, codec: Codec, decode: Decode, *, dtype: str, fingerprint: str
) -> dict[str, Any]:
    """Return the row of `latents` of a clip's middle window. Raises what `decode` raises."""
    decoded = decode(mp4, bucket, CENTRE)
    return encoded_row(clip_id, Window(bucket), decoded, codec, dtype=dtype, fingerprint=fingerprint)


def encoded_row(
    clip_id: str,
    window: Window,
    decoded: Decoded,
    codec: Codec,
    *,
    dtype: str,
    fingerprint: str,
    pairs: PairMaker | None = None,
) -> dict[str, Any]:
    """Return the row of `latents` of a window that has been decoded; with `pairs`, of the pair that it makes."""
    bucket = window.bucket
    if pairs is None:
        latents = encode_frames(decoded.frames, codec)
    else:
        low = pairs.first_stage(decoded.frames, bucket, stored_seed(pairs.config, clip_id, window.key))
        latents = pairs.encode(decoded.frames, low, bucket, codec)
    return {
        "clip_id": clip_id,
        "bucket": window.key,
        "encoder_fingerprint": fingerprint,
        "latents": to_bytes(latents, dtype),
        "shape": list(latents.shape),
        "dtype": dtype,
        "first_frame": decoded.numbers[0],
        "last_frame": decoded.numbers[-1],
        "scale": bucket.scale(decoded.width, decoded.height),
    }


def text_rows(captions: Sequence[str], encoder: TextEncoder, *, dtype: str, fingerprint: str) -> list[dict[str, Any]]:
    """Rows of `texts`."""
    return [
        {
            "caption_hash": caption_hash(caption),
            "encoder_fingerprint": fingerprint,
            "caption": caption,
            "states": to_bytes(states, dtype),
            "shape": list(states.shape),
            "dtype": dtype,
        }
        for caption, states in zip(captions, encoder.encode(captions), strict=True)
    ]


def to_bytes(tensor: torch.Tensor, dtype: str) -> bytes:
    """Write the elements in C order, little endian as every machine we run on."""
    import torch

    from reelwright.model.dtypes import DTYPES

    return tensor.detach().cpu().to(DTYPES[dtype]).contiguous().flatten().view(torch.uint8).numpy().tobytes()


def read_into(out: np.ndarray, data: bytes | memoryview, dtype: str) -> None:
    """Read the elements in `data` (as `to_bytes` wrote them) into a float32 array of their number, in one pass."""
    flat = out.reshape(-1)
    if dtype == "bf16":  # the upper half of a float32
        np.left_shift(np.frombuffer(data, "<u2"), 16, out=flat.view(np.uint32), dtype=np.uint32)
    else:
        flat[:] = np.frombuffer(data, {"fp16": "<f2", "fp32": "<f4"}[dtype])


def item_bytes(dtype: str) -> int:
    """Return the bytes per element."""
    return {"bf16": 2, "fp16": 2, "fp32": 4}[dtype]
