"""Curate a folder that has a `truth.json` by the default recipe and score what came out.

    python -m benchmarks.quality ../shared/corpus [--pred PRED.json] [--store STORE]

Writes the predictions that `../shared/tools/score.py` reads and prints its figures as `name value` lines, then the
clips' own: every clip's first and last frame against the source's, and its frame count.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.fidelity import clip_fidelity
from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.store import Store
from reelwright.pipelines.curate.run import run_all
from reelwright.pipelines.recipes.curation import load_recipe, parse_overrides

SCORER = Path(__file__).parents[2] / "shared" / "tools" / "score.py"
SCORES = ("blur_score", "motion_score", "text_coverage", "watermark_score", "watermark_box", "camera_motion")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="footage with a truth.json")
    parser.add_argument("--pred", type=Path, help="where to write the predictions")
    parser.add_argument("--store", type=Path, help="keep the store here")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE over the default recipe")
    parser.add_argument("--wrong", action="store_true", help="list what was wrong")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = Store.open(args.store or Path(temporary) / "store", create=True)
        summary, _ = run_all(store, load_recipe(None, parse_overrides(args.settings)), list_inputs([str(args.folder)]))
        root = Path(os.path.abspath(args.folder))
        predictions = predict(store, root)
        leave_out_unannotated(predictions, root / "truth.json")
        if args.pred:
            args.pred.write_text(json.dumps(predictions))
        show(score(root / "truth.json", predictions, wrong := []))
        show(clip_fidelity(store))
    if args.wrong:
        for line in wrong:
            print("#", *line)
    show({"seconds": round(summary.seconds, 1), "counts_add_up": summary.adds_up})


def show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        print(f"{name:24} {value}", flush=True)


def predict(store: Store, root: Path) -> dict[str, Any]:
    """The scorer's input. A duplicate has the shots and clips of the file it repeats."""
    sources = store.read("sources").to_pylist()
    paths = {s["uri"]: str(Path(s["uri"]).relative_to(root)) for s in sources}
    shots, clips = _by_md5(store.read("shots")), _by_md5(store.read("clips"))
    out: dict[str, Any] = {"sources": {}, "shots": {}, "clips": {}}
    for source in sources:
        path = paths[source["uri"]]
        known = {k: source[k] for k in ("state", "width", "height", "fps", "num_frames")}
        out["sources"][path] = known | {"duplicate_of": paths.get(source["duplicate_of"])}
        if source["state"] == "failed":
            continue
        md5 = source["md5"]
        mine = sorted(shots.get(md5, []), key=lambda s: s["shot_index"])
        out["shots"][path] = [_boundary(s) for s in mine if s["transition"] != "start"]
        out["clips"][path] = [_clip(c) for c in clips.get(md5, [])]
    return out


def leave_out_unannotated(predictions: dict[str, Any], truth: Path) -> None:
    """Drop crops of files whose truth says null, "not annotated": the scorer compares whatever it is given."""
    for file in json.loads(truth.read_text())["files"]:
        if file.get("crop", ...) is None:
            for clip in predictions["clips"].get(file["path"], []):
                clip.pop("crop", None)


def _by_md5(table: Any) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["source_md5"], []).append(row)
    return rows


def _boundary(shot: dict[str, Any]) -> Any:
    if shot["transition"] == "gradual":
        return [shot["transition_first_frame"], shot["transition_last_frame"]]
    return shot["start_frame"]


def _clip(clip: dict[str, Any]) -> dict[str, Any]:
    crop = [clip[f"crop_{side}"] for side in "xywh"]
    known = {"crop": crop} | {name: clip[name] for name in SCORES if clip.get(name) is not None}
    if box := known.get("watermark_box"):  # of the clip's pixels; the truth is of the source's
        scale = crop[2] / clip["width"]
        known["watermark_box"] = [crop[0] + box[0] * scale, crop[1] + box[1] * scale, box[2] * scale, box[3] * scale]
    return known


def score(truth: Path, predictions: dict[str, Any], wrong: list) -> dict[str, Any]:
    """The scorer's figures; none, and a word on it, where the scorer is not there."""
    if not SCORER.exists():
        print(f"# {SCORER} is not there, so nothing is scored; predictions were made", file=sys.stderr)
        return {}
    spec = importlib.util.spec_from_file_location("score", SCORER)
    assert spec is not None
    assert spec.loader is not None
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    return scorer.score(json.loads(truth.read_text()), predictions, wrong)


if __name__ == "__main__":
    main()
