"""The gate between two captioners: 200 clips of a store, their captions by both, and how close each is to its clip."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.annotate import annotate_clips, load
from reelwright.annotate.backends.clip_encoder import ClipEncoder, ClipModel
from reelwright.annotate.contract import Annotator
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.frames import Frames, sample
from reelwright.errors import UserError
from reelwright.evaluation.captions.similarity import ALLOWED_FALL, Gate, gate, similarities

if TYPE_CHECKING:
    from reelwright.curation.store import Store

MAKER = "caption_fingerprint"
FRAMES = Frames(count=8, height=448, color="rgb")  # as the annotator visual_embedding sees a clip


def compare_captioners(
    store: Store, caption: Mapping[str, Any], clip: ClipModel, clips: int, say: Callable[[str], None]
) -> Gate:
    """Caption clips that have a caption already, and compare both captions with the clip.

    Captions by the new captioner itself are no captions of before, and are left out. A clip that it fails to caption
    has an empty one, whose similarity is 0; a clip that does not decode is left out.

    Args:
        store: with captions by captioners before, in the column `caption`.
        caption: parameters of the annotator `caption` with the new model.
        clip: the encoder of captions and clips.
        clips: number of them; which ones is decided by their ids.
        say: prints a line.

    Raises:
        UserError: no clip has a caption by another captioner, or none could be captioned.
    """
    if "caption" not in store.schema("clips").names:
        raise UserError("the clips have no column caption; caption them by the model before, with reel annotate")
    annotator = load("caption", caption)
    assert isinstance(annotator, Annotator)
    old, makers = _captions_before(store, annotator.fingerprint, clips)
    encoder, before, after, videos, failed, left_out = ClipEncoder(clip), [], [], [], 0, 0
    for clip_id, mp4 in store.read_media(old):
        try:
            (frames,) = sample(mp4, [FRAMES])
        except MediaError:
            left_out += 1
            continue
        ((columns, failures),) = annotate_clips([mp4], [annotator])
        failed += bool(failures)
        mean = encoder.embed_images(frames).mean(0)
        videos.append(mean / np.linalg.norm(mean))
        before.append(old[clip_id])
        after.append("" if failures else columns["caption"])
    if failed == len(videos):
        raise UserError(f"none of {len(old)} clips was captioned by the new model; look at its parameters")
    seen = np.stack(videos)
    found = gate(similarities(encoder, before, seen), similarities(encoder, after, seen))
    say(f"before        captions of {makers} captioner{'s' if makers > 1 else ''}")
    say(f"clips         {found.clips:,} compared, {failed:,} of them without a new caption, which counts as 0; "
        f"{left_out:,} do not decode")  # fmt: skip
    interval = found.difference
    say(f"similarity    {found.before:.4f} before, {found.after:.4f} after")
    say(f"difference    {interval.value:+.4f}, 95 % within {interval.low:+.4f} … {interval.high:+.4f}")
    verdict = f"flagged: a fall of {found.fall:.1%}, over {ALLOWED_FALL:.0%}" if found.is_flagged else "passed"
    say(f"gate          {verdict}")
    return found


def _captions_before(store: Store, new: str, clips: int) -> tuple[dict[str, str], int]:
    """Return clip -> caption by another captioner, and how many captioners these are of.

    Args:
        store: with the clips.
        new: fingerprint of the new captioner.
        clips: number of them, at most.

    Raises:
        UserError: there is none.
    """
    has_maker = MAKER in store.schema("clips").names
    columns = ["clip_id", "caption", *([MAKER] if has_maker else [])]
    every = store.read("clips", columns, "caption IS NOT NULL").to_pylist()
    if not every:
        raise UserError("no clip has a caption; caption them by the model before, with reel annotate")
    rows = [row for row in every if row.get(MAKER) != new]
    if not rows:
        raise UserError(
            f"all {len(every):,} captions are by this captioner itself, and it would be compared with itself; run the "
            "gate before reel annotate, or on a store with captions by the model before"
        )
    rows = sorted(rows, key=lambda row: hashlib.sha256(row["clip_id"].encode()).digest())[:clips]
    return {row["clip_id"]: row["caption"] for row in rows}, len({row.get(MAKER) for row in rows})
