"""`reel show CLIP`, and sheets of a training run's samples."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.sheets import clip_sheet, crossed_out, labelled_grid, middle_frame
from reelwright.curation.store import Store, StoreError

LOOK_ALIKES = 4


def samples_sheet(run: Path, most: int = 8, tile_height: int = 135) -> bytes | None:
    """PNG of a training run's samples: one row per prompt, one column per step; None where the run has none.

    Args:
        run: its folder, with samples/step-…/0.mp4 and so on.
        most: columns, of steps spread evenly, the first and the last among them.
        tile_height: of each video's middle frame, px.
    """
    steps = sorted(path for path in (run / "samples").glob("step-*") if path.is_dir())
    chosen = [steps[i] for i in sorted({round(x) for x in np.linspace(0, len(steps) - 1, min(most, len(steps)))})]
    names = sorted({file.name for step in chosen for file in step.glob("*.*")}, key=lambda name: (len(name), name))
    if not names:
        return None
    rows = [
        [(f"step {int(step.name[5:])}", _middle(step / name, tile_height)) for step in chosen]
        for name in names
    ]  # fmt: skip
    return labelled_grid(rows)


def _middle(file: Path, tile_height: int) -> np.ndarray:
    """Middle frame of a sample; a crossed-out tile where there is none."""
    import cv2

    try:
        if file.suffix != ".png":
            return middle_frame(file.read_bytes(), tile_height)
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        width = max(1, round(tile_height * picture.shape[1] / picture.shape[0]))
        return cv2.resize(picture, (width, tile_height), interpolation=cv2.INTER_AREA)
    except (MediaError, OSError, cv2.error):
        return crossed_out(tile_height)


def clip_row(store: Store, clip_id: str) -> dict[str, Any]:
    """Return the clip's row, with the uri and more of its source."""
    return store.sql("SELECT * FROM clips_full WHERE clip_id = ?", params=[clip_id]).to_pylist()[0]


def write_sheet(store: Store, clip_id: str, out: Path) -> Path:
    """Write a contact sheet of one clip (PNG). Raises StoreError."""
    try:
        png = clip_sheet(_mp4(store, clip_id))
    except MediaError as error:
        raise StoreError(f"clip {clip_id} cannot be shown: {error.message}; curate its source again.") from error
    write_whole(out, png)
    return out


def write_clip(store: Store, clip_id: str, out: Path) -> Path:
    """Write the mp4 of one clip, byte by byte as it is stored. Raises StoreError."""
    write_whole(out, _mp4(store, clip_id))
    return out


def _mp4(store: Store, clip_id: str) -> bytes:
    _, mp4 = next(store.read_media([clip_id]))
    return mp4


def find_clip(store: Store, prefix: str) -> str:
    """Return the clip with this id, or with an id that begins so.

    Raises:
        StoreError: there is none, or there are several.
    """
    wanted = prefix.strip().lower()
    query = f"SELECT clip_id FROM clips WHERE starts_with(clip_id, $p) ORDER BY clip_id LIMIT {LOOK_ALIKES + 1}"
    found = store.sql(query, params={"p": wanted}).column(0).to_pylist() if wanted else []
    if len(found) == 1 or wanted in found:
        return found[0]
    if found:
        more = ", …" if len(found) > LOOK_ALIKES else ""
        raise StoreError(
            f"{prefix!r} begins the ids of several clips: {', '.join(found[:LOOK_ALIKES])}{more}; give more of it."
        )
    see = 'See: reel sql "select clip_id from clips"'
    raise StoreError(f"no clip's id begins with {prefix!r}{_alike(store, wanted)}. {see}")


def _alike(store: Store, wanted: str) -> str:
    """Return the ids that differ from a typed one in few characters."""
    query = (
        "SELECT clip_id, levenshtein(clip_id[:length($p)], $p) AS off FROM clips "
        f"WHERE off <= length($p) // 3 ORDER BY off, clip_id LIMIT {LOOK_ALIKES}"
    )
    found = store.sql(query, params={"p": wanted}).column(0).to_pylist() if wanted else []
    return f"; ids that look alike: {', '.join(found)}" if found else ""


def write_whole(out: Path, data: bytes) -> None:
    """Write a file that appears under its name only once it is whole. Raises StoreError."""
    begun = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        begun.write_bytes(data)
        begun.replace(out)
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}; choose a folder you can write.") from error
    finally:
        begun.unlink(missing_ok=True)
