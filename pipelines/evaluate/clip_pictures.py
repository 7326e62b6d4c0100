"""Pictures for a suite from clips of a store: the middle frame of each, with the clip's caption."""

from __future__ import annotations

from pathlib import Path

from reelwright.curation.media.frames import Frames, sample
from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.evaluation.suites.pictures import Picture

HEIGHT = 720  # pixels of the shorter side; a sampler scales it to its own size


def pictures_of_clips(store: Store, query: str, folder: Path) -> list[Picture]:
    """Write the middle frame of each clip of a query to a folder; return them as pictures.

    Args:
        store: has the clips.
        query: SELECT with `clip_id`; `caption` and `category` are taken where it has them.
        folder: of the pictures; made if it is not there.

    Raises:
        UserError: the query has no clip.
    """
    import cv2

    rows = store.sql(query).to_pylist()
    if not rows or "clip_id" not in rows[0]:
        raise UserError(f"{query!r} gives no clip_id; such as: select clip_id from clips limit 25")
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    mp4s = store.read_media(row["clip_id"] for row in rows)
    for row, (clip, mp4) in zip(rows, mp4s, strict=True):
        ((frame,),) = sample(mp4, [Frames(count=1, height=HEIGHT, color="rgb")])
        path = folder / f"{clip}.png"
        path.write_bytes(cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes())
        found.append(Picture(path, (row.get("caption") or "").strip(), row.get("category") or "pictures"))
    return found
