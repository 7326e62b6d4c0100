"""The gate between two captioners: 200 clips of a store, their captions by both, and how close each is to its clip."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.annotate import annotate_clips, load
from reelwright.annotate.backends.clip_encoder import ClipEncoder, ClipModel
from reelwright.annotate.contract import Annotator
from reelwright.curation.media.frames import Frames, sample
from reelwright.errors import UserError
from reelwright.evaluation.captions.similarity import ALLOWED_FALL, Gate, gate, similarities

if TYPE_CHECKING:
    from reelwright.curation.store import Store

FRAMES = Frames(count=8, height=448, color="rgb")  # as the annotator visual_embedding sees a clip


def compare_captioners(
    store: Store, caption: Mapping[str, Any], clip: ClipModel, clips: int, say: Callable[[str], None]
) -> Gate:
    """Caption clips that have a caption already, and compare both captions with the clip.

    Args:
        store: with captions by the captioner before, in the column `caption`.
        caption: parameters of the annotator `caption` with the new model.
        clip: the encoder of captions and clips.
        clips: number of them; which ones is decided by their ids.
        say: prints a line.

    Raises:
        UserError: no clip has a caption, or none could be captioned.
    """
    if "caption" not in store.schema("clips").names:
        raise UserError("the clips have no column caption; caption them by the model before, with reel annotate")
    rows = store.read("clips", ["clip_id", "caption"], "caption IS NOT NULL").to_pylist()
    rows = sorted(rows, key=lambda row: hashlib.sha256(row["clip_id"].encode()).digest())[:clips]
    if not rows:
        raise UserError("no clip has a caption; caption them by the model before, with reel annotate")
    annotator = load("caption", caption)
    assert isinstance(annotator, Annotator)
    encoder, before, after, videos, failed = ClipEncoder(clip), [], [], [], 0
    old = {row["clip_id"]: row["caption"] for row in rows}
    for clip_id, mp4 in store.read_media(old):
        ((columns, failures),) = annotate_clips([mp4], [annotator])
        if failures:
            failed += 1
            continue
        (frames,) = sample(mp4, [FRAMES])
        mean = encoder.embed_images(frames).mean(0)
        videos.append(mean / np.linalg.norm(mean))
        before.append(old[clip_id])
        after.append(columns["caption"])
    if not videos:
        raise UserError(f"none of {len(rows)} clips was captioned by the new model; look at its parameters")
    seen = np.stack(videos)
    found = gate(similarities(encoder, before, seen), similarities(encoder, after, seen))
    say(f"clips         {found.clips:,} compared, {failed:,} without a new caption")
    interval = found.difference
    say(f"similarity    {found.before:.4f} before, {found.after:.4f} after")
    say(f"difference    {interval.value:+.4f}, 95 % within {interval.low:+.4f} … {interval.high:+.4f}")
    verdict = f"flagged: a fall of {found.fall:.1%}, over {ALLOWED_FALL:.0%}" if found.is_flagged else "passed"
    say(f"gate          {verdict}")
    return found
