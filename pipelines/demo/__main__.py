"""`make demo`: footage in; clips with scores, a snapshot, a report, a small trained network and its video out."""

import argparse
import csv
import hashlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from reelwright.pipelines.demo.choice import Choice, choose, snapshot_name

QUERY = (
    "select clip_id, round(duration_s, 1) as seconds, width, height, round(blur_score) as sharpness, "
    "round(motion_score, 3) as motion, round(text_coverage, 3) as text "
    "from clips where duration_s >= 1 order by motion_score desc limit 10"
)
TRAIN_RECIPE = Path("configs/train/mini/demo.yaml")
PROMPT = "fishing boat at sunset"
EVALUATION = "evaluation.html"


def main(arguments: list[str] | None = None) -> None:
    """Curate, report, snapshot, train and generate on made footage or a folder of videos."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--footage", type=Path, help="a folder of videos; default: some are made")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for what comes out")
    parser.add_argument("--steps", type=int, help="training steps; default: the recipe's")
    args = parser.parse_args(arguments)
    out = folder_of(args.out, args.footage)
    out.mkdir(parents=True, exist_ok=True)
    footage = args.footage or _with_captions(_made_footage(out / "footage"))
    store = str(out / "store")
    _reel("curate", str(footage), "--store", store)
    choice = _choice(store)
    if choice.clips:
        _reel("sql", QUERY, "--store", store)
    snapshot = _snapshot(store, choice) if choice.clips else ""
    _reel("report", "--store", store, "--out", str(out / "report.html"))
    first = _first_clip(store)
    if first:
        _reel("show", first, "--store", store, "--out", str(out / "clip.png"))
    prompt = "" if args.footage else PROMPT
    video = _trained(out, store, snapshot, prompt, args.steps) if snapshot and TRAIN_RECIPE.exists() else None
    pages = [str(out / "report.html"), *([str(out / "clip.png")] if first else [])]
    print(f"\nlook at   {'   and   '.join(pages)}")
    if video:
        picture = video.with_suffix(".png")
        print(f"          {video}   and   {picture}   "
              "(above: it was trained on it; below: what the toy made of its title)")  # fmt: skip
        print(f"          {out / EVALUATION}   (its last two checkpoints beside one another)")
    if choice.note:
        print(f"note      {choice.note}{'' if snapshot else '; so there is no snapshot and no network'}")
    at = shlex.quote(store)
    reel = shlex.quote(os.path.relpath(Path(sys.executable).parent / "reel"))
    print(f'ask       {reel} sql "select clip_id, duration_s, motion_score, blur_score from clips" --store {at}')
    print(f"browse    {reel} app --store {at}")
    print(f"columns   {reel} describe clips --store {at}")
    if snapshot:
        clips = shlex.quote(str(out / "clips"))
        print(f"train on  {reel} export {clips} --format diffusion-pipe --snapshot {snapshot} --store {at}")
    elif not first:
        print(f"failed    {reel} failures --store {at}")


def folder_of(out: Path, footage: Path | None) -> Path:
    """Return the folder for the results of some footage: one each, so that no run shows another's clips or network."""
    if footage is None:
        return out
    folder = footage.expanduser().absolute()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-.") or "footage"
    return out / f"{name[:60]}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def _choice(store: str) -> Choice:
    from reelwright.curation.store import Store

    return choose(Store.open(store))


def _snapshot(store: str, choice: Choice) -> str:
    """Freeze the clips that were chosen, unless a snapshot has just these; returns its name."""
    from reelwright.curation.store import Store

    name, is_there = snapshot_name(Store.open(store), choice.clips)
    if not is_there:
        _reel("snapshot", "create", name, "--sql", choice.sql, "--weights", "weight", "--store", store)
    _reel("snapshot", "verify", name, "--store", store)
    return name


def _trained(out: Path, store: str, snapshot: str, prompt: str, steps: int | None) -> Path:
    """Train on the snapshot for some minutes, and generate a clip of a prompt that the network has seen."""
    recipe, runs, video = str(TRAIN_RECIPE), out / "runs", out / "generated.mp4"
    _reel("precompute", recipe, "--snapshot", snapshot, "--store", store)
    fewer = ["--steps", str(steps)] if steps else []
    _reel("train", recipe, "--snapshot", snapshot, "--store", store, "--out", str(runs), *fewer)
    made = re.compile(rf"{TRAIN_RECIPE.stem}-{re.escape(snapshot)}-[0-9a-f]+")
    run = max((p for p in runs.iterdir() if made.fullmatch(p.name)), key=lambda p: p.stat().st_mtime)
    _reel("lineage", str(run))
    _reel("generate", str(run), "--prompt", prompt, "--guidance", "1.5", "--out", str(video), "--force")
    _compare(store, prompt, video)
    _evaluate(out, store, run, snapshot if prompt else "")
    return video


def _evaluate(out: Path, store: str, run: Path, snapshot: str) -> None:
    """Compare the run's last two checkpoints. snapshot: whose titles are prompts; empty: its footage has none."""
    suite = _titles(out / "prompts.yaml", store, snapshot) if snapshot else "tiny"
    checkpoints = sorted((run / "checkpoints").glob("step-*"))
    models = [f"step-{int(one.name.removeprefix('step-'))}={one}" for one in checkpoints]
    name = "-".join([run.name.rpartition("-")[2], *(model.partition("=")[0] for model in models[-1:])])
    how = ("--guidance", "1.5", "--steps", "8")
    _reel("evaluate", *models, "--prompts", str(suite), "--name", name, "--store", store, *how)
    _reel("evaluate", "--report", name, "--out", str(out / EVALUATION), "--store", store)


def _titles(path: Path, store: str, snapshot: str) -> Path:
    """Write a suite of titles that the network was trained on, and of prompts that no footage has."""
    from reelwright.curation.store import Store
    from reelwright.evaluation.suites.files import load_suite
    from reelwright.evaluation.suites.suite import Prompt
    from reelwright.evaluation.suites.writing import write_suite

    query = (
        "select distinct s.caption from snapshot_rows r join clips c using (clip_id) join sources s on "
        "s.md5 = c.source_md5 where r.snapshot = ? and s.state = 'ok' and s.caption is not null order by 1 limit 4"
    )
    titles = Store.open(store).sql(query, params=[snapshot]).column(0).to_pylist()
    seen = [Prompt(f"title-{i + 1}", title, "trained on") for i, title in enumerate(titles)]
    new = [replace(prompt, category="never seen") for prompt in load_suite("tiny").prompts[1:3]]
    write_suite(path, "demo", [*seen, *new])
    return path


def _compare(store: str, prompt: str, video: Path) -> None:
    """Put a picture of the generated clip under one of a clip that it was trained on."""
    from reelwright.curation.media.sheets import clips_sheet
    from reelwright.curation.store import Store

    opened = Store.open(store)
    clip = "select clip_id from clips c join sources s on s.md5 = c.source_md5 where ? in (s.caption, '') limit 1"
    ids = opened.sql(clip, params=[prompt])["clip_id"].to_pylist()
    rows = [(f"clip {name}", mp4) for name, mp4 in opened.read_media(ids)]
    picture = clips_sheet([*rows, (f"generated: {prompt}", video.read_bytes())], columns=1, tile_height=192)
    begun = video.with_suffix(".part")
    begun.write_bytes(picture)
    begun.replace(video.with_suffix(".png"))


def _with_captions(folder: Path) -> Path:
    """Write a manifest of made footage with the files' names as captions, which condition the network."""
    manifest = folder.parent / "footage.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "caption"])
        rows.writerows([str(path.absolute()), path.stem] for path in sorted(folder.glob("*.mp4")))
    return manifest


def _made_footage(folder: Path) -> Path:
    from reelwright.pipelines.demo.footage import make_footage

    print(f"$ making footage in {folder}", flush=True)
    made = make_footage(folder)
    print(f"{len(made)} files; as in real folders, one is there twice, one breaks off and one is no video", flush=True)
    return folder


def _first_clip(store: str) -> str | None:
    from reelwright.curation.store import Store

    best = Store.open(store).sql("select clip_id from clips order by motion_score desc limit 1")
    return best["clip_id"][0].as_py() if best.num_rows else None


def _reel(*arguments: str) -> None:
    """Run a `reel` command as a user would, and show it."""
    print(f"\n$ reel {shlex.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "reelwright.pipelines.cli", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
