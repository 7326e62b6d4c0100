"""A category starved on purpose is found by evaluation, weighed up, trained again, and better.

    python -m benchmarks.closed_loop [--seeds 5] [--each 14] [--starved 1] [--steps 600] [--keep FOLDER] [--sheet PNG]

The store is the demonstration's, with more takes of five of its scenes as further files: `each` of four, `starved` of
the fifth. `reel curate` and `reel annotate` make it from files, once for all seeds. Per seed, by the commands of
docs/evaluation.md: `reel train` trains a small DiT on all of them, `reel evaluate` generates 20 prompts twice, `reel
balance --weak` finds the weak categories and weighs the clusters near them up, `reel snapshot create --weights` freezes
that, and the same recipe is trained again on it for as many steps.

Likeness is how much nearer a video lies to real clips of its own kind than to the others', at 14 x 8 px, over what real
clips have: 1 is as real clips, below 0 another kind is nearer. No run has seen these clips. Prints its change per kind
with a 95 % interval by bootstrap over prompts and seeds, and one by Student's t over seeds alone. A row per seed goes
to FOLDER/rows.jsonl at once; with --keep, seeds that are there are not made again. A seed in which nothing is called
weak is counted and not trained again. The sheet: one row per kind; real, before, after.
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from benchmarks.closed_loop.demo_store import SQL, demo_store
from benchmarks.closed_loop.footage import KINDS, STARVED, frames_of
from benchmarks.closed_loop.study import (
    RECIPE,
    Evaluation,
    evaluate,
    freeze,
    train,
    weigh,
    write_prompts,
    write_recipe,
)
from reelwright.curation.store import Store
from reelwright.evaluation.statistics.bootstrap import Interval, Resamples, mean_interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default=5, type=int)
    parser.add_argument("--each", default=14, type=int, help="takes of each kind")
    parser.add_argument("--starved", default=1, type=int, help="takes of the starved kind")
    parser.add_argument("--steps", default=600, type=int, help="of each training")
    parser.add_argument("--keep", type=Path, help="folder for stores, runs and rows; default: a temporary one")
    parser.add_argument("--sheet", type=Path, help="picture of the first seed")
    args = parser.parse_args()
    os.nice(5)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        store = demo_store(folder / "demo", each=args.each, starved=args.starved)
        rows = [_seed(folder, store, seed, args) for seed in range(args.seeds)]
        print(*summary(rows), sep="\n")


def _seed(folder: Path, demo: Store, seed: int, args: argparse.Namespace) -> dict:
    """Make one seed, or read its row."""
    file = folder / "rows.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if found := next((row for row in done if row["seed"] == seed), None):
        return found
    at, out = folder / f"store-{seed}", folder / f"runs-{seed}"
    for there in (at, out):  # of a seed that was cut off
        shutil.rmtree(there, ignore_errors=True)
    shutil.copytree(demo.uri, at)
    store = Store.open(at)
    out.mkdir()
    recipe = write_recipe(out / f"{RECIPE}.yaml", seed, args.steps, folder / "cache")
    suite = write_prompts(out / "prompts.yaml")
    freeze(store, "all", sql=SQL)
    before = evaluate(store, train(store, "all", recipe, out), suite, "before", seed)
    advice = weigh(store, "before", "all", "weighed", out / "weights.json", SQL)
    weak = [one["category"] for one in advice["categories"] if one["weak"]]
    print(f"weak: {', '.join(weak) or 'none'}; weights of clusters: {advice['weights']}", flush=True)
    effective = advice["effective_size"]
    row: dict[str, Any] = {
        "seed": seed, "weak": weak, "weights": advice["weights"],
        "effective": [effective["before"], effective["after"]], "before": _values(before), "after": None,
    }  # fmt: skip
    if advice["weights"]:
        after = evaluate(store, train(store, "weighed", recipe, out), suite, "after", seed)
        row["after"] = _values(after)
        if args.sheet and not any(one["after"] for one in done):
            args.sheet.write_bytes(sheet(before, after))
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")
    return row


def _values(found: Evaluation) -> dict[str, list[list[float]]]:
    return {kind: values.tolist() for kind, values in found.likeness.items()}


def summary(rows: list[dict]) -> list[str]:
    """Return the table: likeness of each kind before and after, and the change with its interval."""
    found = sum(STARVED in row["weak"] for row in rows)
    others = sum(len(set(row["weak"]) - {STARVED}) for row in rows)
    told = f"{len(rows)} seeds; {STARVED}, the starved kind, was called weak in {found}; other kinds {others} times"
    rows = [row for row in rows if row["after"]]
    if not rows:
        return [told]
    was, became = np.mean([row["effective"] for row in rows], axis=0)
    lines = [
        told,
        f"{len(rows)} seeds were weighed up and trained again; all that follows is of these",
        f"effective size, before and after: {was:.1f} and {became:.1f}",
        "kind      before   after    change, 95 % interval over prompts and seeds; over seeds alone",
    ]
    for kind in KINDS:
        before, after, change = (_interval(rows, kind, part) for part in ("before", "after", "change"))
        moved = f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
        alone = ", ".join(f"{end:+.3f}" for end in _over_seeds(rows, kind))
        lines.append(f"{kind:8} {before.value:7.3f} {after.value:7.3f}   {moved}   [{alone}]")
    return lines


def _interval(rows: list[dict], kind: str, part: str) -> Interval:
    """Mean over seeds, prompts and noises; what is drawn is a prompt of a seed."""

    def values(name: str) -> np.ndarray:
        return np.concatenate([np.array(row[name][kind]) for row in rows])  # [seeds x prompts, noises]

    x = values("after") - values("before") if part == "change" else values(part)
    return mean_interval(x.sum(1), np.full(len(x), float(x.shape[1])), Resamples(len(x)))


def _over_seeds(rows: list[dict], kind: str) -> tuple[float, float]:
    """Student's t over the mean change of each seed: prompts of one network are not independent."""
    means = np.array([np.mean(row["after"][kind]) - np.mean(row["before"][kind]) for row in rows])
    if len(means) < 2:
        return float("nan"), float("nan")
    half = t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return float(means.mean() - half), float(means.mean() + half)


def sheet(before: Evaluation, after: Evaluation) -> bytes:
    """Draw one row per kind: a real clip, then each prompt's middle frame before, then after, as a PNG."""
    from reelwright.curation.media.sheets import labelled_grid

    grid = [
        [(f"{kind}: real", frames_of(kind, 1000)[4])]
        + [(f"before {i + 1}", video[4]) for i, video in enumerate(before.frames[kind])]
        + [(f"after {i + 1}", video[4]) for i, video in enumerate(after.frames[kind])]
        for kind in KINDS
    ]
    return labelled_grid(grid)


if __name__ == "__main__":
    main()
