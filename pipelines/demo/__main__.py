"""`make demo`: footage in; clips with scores, a snapshot, a report, a small trained network and its video out."""

import argparse
import csv
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
TRAIN_RECIPE = Path("configs/train/mini/demo.yaml")
PROMPT = "fishing boat at sunset"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--footage", type=Path, help="a folder of videos; default: some are made")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for what comes out")
    args = parser.parse_args()
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    footage = args.footage or _with_captions(_made_footage(out / "footage"))
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
    video = _trained(out, store, "" if args.footage else PROMPT) if TRAIN_RECIPE.exists() else None
    print(f"\nlook at   {out / 'report.html'}   and   {out / 'clip.png'}")
    if video:
        print(f"          {video}   and   {video.with_suffix('.png')}   (generated: a toy network, small and blurred)")
    print(f'ask       reel sql "select * from clips" --store {store}        (reel is in .venv/bin)')
    print(f"columns   reel describe clips --store {store}")
    print(f"train on  reel export {out / 'clips'} --format diffusion-pipe --snapshot demo --store {store}")


def _trained(out: Path, store: str, prompt: str) -> Path:
    """Train on the snapshot for some minutes, and generate a clip of a prompt that the network has seen."""
    recipe, runs, video = str(TRAIN_RECIPE), out / "runs", out / "generated.mp4"
    _reel("precompute", recipe, "--snapshot", "demo", "--store", store)
    _reel("train", recipe, "--snapshot", "demo", "--store", store, "--out", str(runs))
    run = max(runs.glob(f"{TRAIN_RECIPE.stem}-demo-*"), key=lambda p: p.stat().st_mtime)
    _reel("lineage", str(run))
    size = ["--frames", "9", "--size", "112x64", "--guidance", "1.5"]
    _reel("generate", str(run), "--prompt", prompt, *size, "--out", str(video), "--force")
    _compare(store, prompt, video)
    return video


def _compare(store: str, prompt: str, video: Path) -> None:
    """A picture of the generated clip under one that it was trained on."""
    from curation.store import Store
    from pipelines.sheets import clips_sheet, write_whole

    opened = Store.open(store)
    clip = "select clip_id from clips c join sources s on s.md5 = c.source_md5 where ? in (s.caption, '') limit 1"
    ids = opened.sql(clip, params=[prompt])["clip_id"].to_pylist()
    rows = [(f"clip {name}", mp4) for name, mp4 in opened.read_media(ids)]
    picture = clips_sheet([*rows, (f"generated: {prompt}", video.read_bytes())], columns=1, tile_height=192)
    write_whole(video.with_suffix(".png"), picture)


def _with_captions(folder: Path) -> Path:
    """A manifest of made footage whose captions are the files' names: what the network is told."""
    manifest = folder.parent / "footage.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "caption"])
        rows.writerows([str(path.absolute()), path.stem] for path in sorted(folder.glob("*.mp4")))
    return manifest


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
