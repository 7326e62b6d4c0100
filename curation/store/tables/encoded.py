"""Tables `latents` and `texts`: what `reel precompute` encodes, megabytes per row."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import Table, field, register

ROWS_FROM = "Store.write_encoded; commit them with Store.commit_encoded"


def _latent_columns() -> list[pa.Field]:
    text, i32, i64 = pa.string(), pa.int32(), pa.int64()
    return [
        field("clip_id", text, "the clip: clips.clip_id", computed_by="encode"),
        field("bucket", text, "frames x height x width of the bucket, in pixels; @ and a place in 0..1 for a window "
              "beside the middle", computed_by="encode"),
        field("encoder_fingerprint", text, "VAE, frame rate and element type that made this row", computed_by="encode"),
        *_payload("latents", "VAE latents [C, T, H, W], C order, little endian"),
        field("shape", pa.list_(i32), "C, T, H, W", computed_by="encode"),
        field("dtype", text, "bf16, fp16 or fp32", computed_by="encode"),
        field("first_frame", i64, "first frame of the clip that it shows", unit="frame", computed_by="encode"),
        field("last_frame", i64, "last frame of the clip that it shows", unit="frame", computed_by="encode"),
        field("scale", pa.float32(), "how much the clip was enlarged to cover the bucket", computed_by="encode"),
    ]  # fmt: skip


def _text_columns() -> list[pa.Field]:
    text = pa.string()
    return [
        field("caption_hash", text, "of the caption: clips that share a caption share the row", computed_by="encode"),
        field("encoder_fingerprint", text, "text encoder and element type that made this row", computed_by="encode"),
        field("caption", text, "the caption", computed_by="encode"),
        *_payload("states", "text states [L, D], C order, little endian"),
        field("shape", pa.list_(pa.int32()), "L, D", computed_by="encode"),
        field("dtype", text, "bf16, fp16 or fp32", computed_by="encode"),
    ]  # fmt: skip


def _payload(name: str, meaning: str) -> tuple[pa.Field, pa.Field, pa.Field]:
    """Return the fields of a tensor's bytes: a blob, or in the row where the tensor is small."""
    import lance

    blob = lance.blob_field(name)
    metadata = {"meaning": meaning, "computed_by": "encode"}
    inline = {"meaning": f"{meaning}: where they are few", "computed_by": "encode"}
    return (
        field("bytes", pa.int64(), f"length of {name}", unit="byte", computed_by="encode"),
        blob.with_metadata({**(blob.metadata or {}), **metadata}),
        # compressing noise costs the reader five times the time and saves a fifth of the bytes
        pa.field(f"{name}_inline", pa.large_binary(), metadata=inline | {"lance-encoding:compression": "none"}),
    )


LATENTS = register(
    Table(
        "latents", _latent_columns, key="clip_id", lock="latents", is_core=True, is_encoded=True,
        payload=("latents", "latents_inline"), payload_bytes="bytes", rows_from=ROWS_FROM,
    )
)  # fmt: skip
TEXTS = register(
    Table(
        "texts", _text_columns, key="caption_hash", lock="latents", is_core=True, is_encoded=True,
        payload=("states", "states_inline"), payload_bytes="bytes", rows_from=ROWS_FROM,
    )
)  # fmt: skip
