"""What was traced, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from reelwright.pipelines.browse.trace.find import Clip, Traced

ALL = "all"
CAPTION, SOURCE, SHOWN_SCORES = 72, 48, 5
COSTLY = 1.3
"""Relative loss from which a clip is one that the network does not learn well."""


def words(found: Traced) -> list[str]:
    """Return the lines that a person reads."""
    row = found.row
    about = f"{row['category'] or 'no category'}, seed {row['seed']}"
    lines = [
        f"generation   {row['generation_id']}, by {row['model']} in {found.evaluation} ({about})",
        f"prompt       {row['prompt'] or '(none)'}",
    ]
    if row["state"] != "ok":
        lines.append(f"failed       {row['error']}")
    if found.figures:
        lines.append("measured     " + ", ".join(f"{name} {value:.4g}" for name, value in found.figures.items()))
    for one in found.trained_on:
        size = f", {one.snapshot.num_clips:,} clips" if one.snapshot else ""
        lines.append(f"trained on   {one.name or 'not known'} {one.content_hash[:19]}{size} ({one.by})")
    lines += _section("nearest in caption", found.by_caption)
    by = f" by {found.by_picture_of}" if found.by_picture_of else ""
    lines += _section(f"nearest in picture{by}", found.by_picture)
    return lines + [""] * bool(found.notes) + [f"note: {note}" for note in found.notes]


def _section(title: str, clips: Sequence[Clip]) -> list[str]:
    return ["", f"{title}:", *(line for clip in clips for line in _clip(clip))] if clips else []


def _clip(clip: Clip) -> list[str]:
    weights = ", ".join(f"weight {weight:.3g} in {name}" for name, weight in clip.weight.items())
    place = f"{_end(clip.source)} {clip.start_s:.1f}-{clip.end_s:.1f} s"
    scores = ", ".join(f"{name} {_value(value)}" for name, value in list(clip.scores.items())[:SHOWN_SCORES])
    lines = [f'  {clip.likeness:5.2f}  {clip.clip_id}  "{_cut(clip.caption)}"', f"         {place}"]
    lines += [f"         {line}" for line in ("; ".join(filter(None, (weights, loss(clip)))), scores) if line]
    return lines


def loss(clip: Clip) -> str:
    """Say what a clip cost the run; empty where no run kept its losses."""
    if ALL not in clip.losses:
        return ""
    relative, draws = clip.losses[ALL]
    mark = ": hard to learn, look at its caption" if relative >= COSTLY else ""
    return f"loss {relative:.2f} of the usual over {draws:,} draws{mark}"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= CAPTION else text[: CAPTION - 1] + "…"


def _end(text: str) -> str:
    return text if len(text) <= SOURCE else "…" + text[1 - SOURCE :]
