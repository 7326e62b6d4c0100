"""Measures of a tuned captioner's held-out answers, beside those of the model before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.evaluation.captions.camera_terms import camera_figures
from reelwright.evaluation.captions.cider import cider
from reelwright.evaluation.captions.events import EventJudge, event_figures
from reelwright.training.errors import TrainError
from reelwright.training.tuning.conversations import ReferenceEvents, read_events
from reelwright.training.tuning.run import read_result

if TYPE_CHECKING:
    from reelwright.annotate.chat.model import ChatModel
    from reelwright.curation.store import Store

MEASURES = "measures.json"


def measure_captioner(
    run: Path, *, judge: ChatModel | None, events: Path | None, store: Store | None, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Measure a run's held-out answers, and write measures.json.

    Args:
        run: folder of a finished `reel tune captioner`.
        judge: takes captions apart and compares them; None: no events.
        events: file with the references' events in Tarsier's form, whose videos alone are then scored by events; None:
            the judge takes the references apart.
        store: of the clips, for their column `camera_motion`; None: no camera terms.
        say: prints a line.

    Returns:
        Figures by "before" and "after".
    """
    if read_result(run)["use"] != "captioner":
        raise TrainError(f"{run} is no run of `reel tune captioner`; name one")
    lines = (run / "held_out.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["answer"] is not None]
    if not rows:
        raise TrainError(f"{run} has no held-out answers; raise data.holdout and measured, and run it again")
    known = _events_of(rows, events) if events is not None else None
    if known is not None and judge is not None and (lacking := known.count(None)):
        say(f"events: {lacking} of {len(rows)} held-out videos have none in {events} and are left out of events/…")
    camera = _camera(rows, store) if store is not None else None
    found = {}
    for when, column in (("before", "before"), ("after", "answer")):
        texts, references = [row[column] or "" for row in rows], [row["reference"] for row in rows]
        figures: dict[str, float] = {
            "captions": len(texts), "empty": float(np.mean([not text.strip() for text in texts])),
            "words": float(np.mean([len(text.split()) for text in texts])),
            "cider_own_tokens": float(np.mean(cider(texts, [[text] for text in references]))),
        }  # fmt: skip
        if camera is not None:
            figures |= {f"camera/{name}": value for name, value in camera_figures(texts, camera).items()}
        if judge is not None:
            from reelwright.annotate.chat.registry import open_chat

            some = [n for n in range(len(rows)) if known is None or known[n] is not None]
            given = [one for one in known if one is not None] if known is not None else None
            listed = [one.events for one in given] if given else None
            scores = EventJudge(open_chat(judge)).score([texts[n] for n in some], [references[n] for n in some], listed)
            subsets = [one.subset for one in given] if given else None
            figures |= {f"events/{name}": value for name, value in event_figures(scores, subsets).items()}
        found[when] = figures
    told = {"judge": list(judge.models) if judge else None, **found}
    (run / MEASURES).write_text(json.dumps(told, indent=1), encoding="utf-8")
    say(f"{'':28}{'before':>10}{'after':>10}")
    for name in found["after"]:
        say(f"{name:28}{found['before'][name]:10.4g}{found['after'][name]:10.4g}")
    return found


def _events_of(rows: Sequence[Mapping[str, Any]], events: Path) -> list[ReferenceEvents | None]:
    """Return each row's events, by its video's path or file name; None of a video that the file has not."""
    listed = read_events(events)
    by_name = {Path(name).name: some for name, some in listed.items()}
    found = [listed.get(row["video"]) or by_name.get(Path(row["video"]).name) for row in rows]
    if not any(found):
        raise TrainError(f"{events} has events of none of the {len(rows)} held-out videos; name their file")
    return found


def _camera(rows: Sequence[Mapping[str, Any]], store: Store) -> list[str | None]:
    from reelwright.curation.store.sql_text import literals

    if "camera_motion" not in store.schema("clips").names:
        raise TrainError("the clips have no column camera_motion; run reel annotate --only camera_motion first")
    ids = sorted({row["video"] for row in rows})
    read = store.read("clips", ["clip_id", "camera_motion"], f"clip_id IN ({literals(ids)})").to_pylist()
    labels = {row["clip_id"]: row["camera_motion"] for row in read}
    return [labels.get(row["video"]) for row in rows]
