"""`make demo`: footage in, clips with scores, a query, a snapshot and a report out."""

import argparse
import subprocess
import sys
from pathlib import Path

QUERY = (
    "select clip_id, round(duration_s, 1) as seconds, width, height, round(blur_score) as sharpness, "
    "round(motion_score, 3) as motion, round(text_coverage, 3) as text "
    "from clips where duration_s >= 1 order by motion_score desc limit 10"
)
TRAINING_SET = (
    "select clip_id, 1 / (0.05 + text_coverage) as weight from clips "
    "where duration_s >= 1 and motion_score > 0.01 and blur_score > 20"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--footage", type=Path, help="a folder of videos; default: some are made")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for what comes out")
    args = parser.parse_args()
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    footage = args.footage or _made_footage(out / "footage")
    store = str(out / "store")
    _reel("curate", str(footage), "--store", store)
    _reel("sql", QUERY, "--store", store)
    if not _exists(store, "demo"):
        _reel("snapshot", "create", "demo", "--sql", TRAINING_SET, "--weights", "weight", "--store", store)
    _reel("snapshot", "verify", "demo", "--store", store)
    _reel("report", "--store", store, "--out", str(out / "report.html"))
    first = _first_clip(store)
    if first:
        _reel("show", first, "--store", store, "--out", str(out / "clip.png"))
    print(f"\nlook at   {out / 'report.html'}   and   {out / 'clip.png'}")
    print(f'ask       reel sql "select * from clips" --store {store}        (reel is in .venv/bin)')
    print(f"columns   reel describe clips --store {store}")
    print(f"train on  reel export {out / 'clips'} --format diffusion-pipe --snapshot demo --store {store}")


def _made_footage(folder: Path) -> Path:
    from pipelines.demo.footage import make_footage

    print(f"$ making footage in {folder}", flush=True)
    make_footage(folder)
    return folder


def _exists(store: str, name: str) -> bool:
    from curation.store import Store

    return name in [s.name for s in Store.open(store).snapshots.list()]


def _first_clip(store: str) -> str | None:
    from curation.store import Store

    best = Store.open(store).sql("select clip_id from clips order by motion_score desc limit 1")
    return best["clip_id"][0].as_py() if best.num_rows else None


def _reel(*arguments: str) -> None:
    """Run a `reel` command as a user would, and show it."""
    shown = " ".join(f'"{a}"' if " " in a else a for a in arguments)
    print(f"\n$ reel {shown}", flush=True)
    done = subprocess.run([sys.executable, "-m", "pipelines.cli", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
