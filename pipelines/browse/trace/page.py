"""The page of one traced generation: its frames, the snapshots, and the clips nearest to it with their pictures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from reelwright.curation.store import Store
from reelwright.pipelines.browse.report.page import environment
from reelwright.pipelines.browse.report.picks import picture
from reelwright.pipelines.browse.sheets import write_whole
from reelwright.pipelines.browse.trace.find import Clip, Traced, media_of
from reelwright.pipelines.browse.trace.words import ALL, COSTLY

FILE = "trace.html"


def write_page(store: Store, found: Traced, out: Path) -> Path:
    """Write the page, which needs nothing else, and return its path. out: a file, or a folder for trace.html."""
    path = out / FILE if out.is_dir() else out
    write_whole(path, render(store, found).encode("utf-8", "replace"))
    return path


def render(store: Store, found: Traced) -> str:
    """Return the page as text."""
    clips = {clip.clip_id: clip for clip in [*found.by_caption, *found.by_picture]}
    snapshots = [one.snapshot.name for one in found.trained_on if one.snapshot]
    media = dict(media_of(store, snapshots, list(clips)))
    with ThreadPoolExecutor(2) as pool:  # decoding leaves the interpreter's lock
        pictures = dict(zip(clips, pool.map(picture, (media.get(name, b"") for name in clips)), strict=True))
    sections = [
        ("Nearest in caption", "cosine of the prompt to the clips' captions", found.by_caption),
        ("Nearest in picture", f"cosine by {found.by_picture_of}", found.by_picture),
    ]
    return str(environment(Path(__file__).parent).get_template("trace.html").render(
        found=found, row=found.row, own=picture(found.video) if found.video else "",
        sections=[(title, note, [_shown(clip, pictures) for clip in some]) for title, note, some in sections if some],
    ))  # fmt: skip


def _shown(clip: Clip, pictures: dict[str, str]) -> dict[str, Any]:
    relative, draws = clip.losses.get(ALL, (None, 0))
    return {
        "clip": clip, "picture": pictures[clip.clip_id], "relative": relative, "draws": draws,
        "is_costly": relative is not None and relative >= COSTLY,
        "bands": [(band, one) for band, (one, _) in sorted(clip.losses.items()) if band != ALL],
    }  # fmt: skip
