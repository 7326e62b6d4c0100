"""Does training work: a DiT of 4.6 M parameters on a few clips, minutes on two CPU cores, and a sheet to look at.

    python -m benchmarks.train [../shared/corpus] [--sheet train.png] [--steps 900] [--keep FOLDER]

Curates the corpus' natural footage into clips of at most 1.3 s, and takes by SQL the calm shots that have three or more
of them (`CALM`: little motion, but not none); a clip's caption names its shot. Freezes a snapshot, encodes it (DCT
stand-in codec, hashing stand-in text encoder), trains with `reel train`'s own code, and generates prompts it has seen.
Held-out clips are other moments of the same shots: with so few scenes, nothing could be learned for unseen ones.
Prints `name value` lines: validation loss on them at step 0 and at the end, and their ratio (at most 0.5); the share of
step time spent waiting for data (2 workers; under 0.03); tokens/s. Rows of the sheet: frames of a clip as the codec
decodes them, then generated frames of its prompt.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.store import Store
from reelwright.model.codec import load_codec
from reelwright.model.sampling.generator import Generator
from reelwright.model.sampling.settings import Settings
from reelwright.model.sampling.video_file import to_frames
from reelwright.model.text import load_text_encoder
from reelwright.pipelines.curate.run import run_all
from reelwright.pipelines.precompute.run import Options, precompute
from reelwright.pipelines.recipes.curation import load_recipe
from reelwright.training.checkpoints import find_checkpoint
from reelwright.training.data.encode import fingerprints_of
from reelwright.training.data.latents import StoredSamples
from reelwright.training.data.loader import make_schedule
from reelwright.training.data.prepared import Clips
from reelwright.training.data.schedule import Draw
from reelwright.training.distributed.world import World
from reelwright.training.logs import read_log
from reelwright.training.recipe import TrainRecipe
from reelwright.training.run import run
from reelwright.training.weights.convert import network_tensors

FOLDER = "natural"  # of the corpus
CURATE = {"encode.preset": "ultrafast", "encode.crf": 20, "encode.max_short_side": 256, "clips.max_s": 1.3,
          "clips.min_s": 0.6, "shots.detector": "pyscenedetect", "annotators": ["motion"]}  # fmt: skip
CALM = """
with shot as (
    select source_md5, shot_index from clips where duration_s >= 1.1 group by 1, 2
    having count(*) >= 3 and avg(motion_score) between 0.002 and 0.01
) select clip_id from clips join shot using (source_md5, shot_index) where duration_s >= 1.1
"""
SHOWN_CLIPS, SHOWN_FRAMES, SCALE = 6, 5, 3
SNAPSHOT = "few"


def recipe_of(steps: int) -> TrainRecipe:
    return TrainRecipe.model_validate({
        "model": {"hidden_size": 192, "depth": 6, "num_heads": 3, "caption_channels": 64, "adaln_tembed_dim": 128,
                  "text_tokens": 16},
        "text": {"kind": "hashing", "dim": 64, "tokens": 16},
        "data": {"sizes": ["96x64"], "frames": [9], "fps": 8, "tokens_per_batch": 720, "batches_per_step": 1,
                 "holdout": 0.15, "workers": 2},
        "tasks": {"t2i": 0, "t2v": 1},
        "optim": {"lr": 1.5e-3, "warmup_steps": 20, "ema": 0.98},
        "compute": {"precision": "fp32"},
        "validation": {"every": 100, "clips": 16},
        "checkpoints": {"every": 100_000, "keep": 1},
        "log": {"every": 25, "tensorboard": False},
        "steps": steps,
    })  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", default="../shared/corpus", type=Path)
    parser.add_argument("--sheet", default=Path("train.png"), type=Path)
    parser.add_argument("--steps", default=900, type=int)
    parser.add_argument("--keep", type=Path, help="folder for store and run; default: a temporary one")
    parser.add_argument("--threads", default=2, type=int, help="of torch; fewer on a busy machine")
    args = parser.parse_args()
    if not (args.corpus / FOLDER).is_dir():
        sys.exit(f"skipped: {args.corpus / FOLDER} is not there; give the corpus' folder")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        measure(args.corpus, args.keep or Path(temporary), recipe_of(args.steps), args.sheet)


def measure(corpus: Path, folder: Path, recipe: TrainRecipe, sheet: Path) -> None:
    """Train, or resume where `folder` has a run, print the figures and write the sheet."""
    store = make_store(corpus, folder / "store")
    precompute(store, SNAPSHOT, recipe, Options(workers=1, quiet=True))
    began, cpu = time.monotonic(), time.process_time()
    run(recipe, Clips(store, SNAPSHOT), folder / "run", World.alone("cpu"))
    seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu
    rows = read_log(folder / "run")
    losses = [row["val/loss"] for row in rows if "val/loss" in row]
    speed = [row for row in rows if "tokens_per_s" in row]
    values = {
        "train_s": seconds,
        "train_cpu_s": cpu_s,
        "val_loss_first": losses[0],
        "val_loss_last": losses[-1],
        "val_loss_ratio": losses[-1] / losses[0],
        "data_wait_share": float(np.mean([row["data_wait_share"] for row in speed])),
        "tokens_per_s": float(np.mean([row["tokens_per_s"] for row in speed])),
    }
    likeness = write_sheet(store, recipe, folder / "run", sheet)
    for name, value in {**values, **likeness}.items():
        print(name, f"{value:.4g}")
    print("sheet", sheet)


def make_store(corpus: Path, where: Path) -> Store:
    """Curated clips, captioned by their file's name and the number of their shot, and a snapshot of the calm ones."""
    store = Store.open(where, create=True)
    if any(s.name == SNAPSHOT for s in store.snapshots.list()):
        return store
    with store.committing():
        run_all(store, load_recipe(None, CURATE), list_inputs([str(corpus / FOLDER)]), quiet=True)
    uris = {row["md5"]: row["uri"] for row in store.read("sources", ["md5", "uri"]).to_pylist()}
    clips = store.read("clips", ["clip_id", "source_md5", "shot_index"]).to_pylist()
    captions = [f"{Path(uris[c['source_md5']]).stem.replace('_', ' ')}, shot {c['shot_index']}" for c in clips]
    store.merge("clips", pa.table({"clip_id": [c["clip_id"] for c in clips], "caption": captions}), on="clip_id")
    store.snapshots.create(SNAPSHOT, CALM)
    return store


def write_sheet(store: Store, recipe: TrainRecipe, run_folder: Path, path: Path) -> dict[str, float]:
    """Real over generated, clip by clip. Returns how near generated frames are to their clip's and to another's."""
    import cv2

    prompts, real = seen(store, recipe)
    made = generate(recipe, run_folder, prompts)
    rows = [row for pair in zip(real, made, strict=True) for row in pair]
    steps = np.linspace(0, real.shape[1] - 1, SHOWN_FRAMES).astype(int)
    picture = np.concatenate([np.concatenate(list(row[steps]), 1) for row in rows], 0)
    big = cv2.resize(picture, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), cv2.cvtColor(big, cv2.COLOR_RGB2BGR))
    a, b = real.astype(float), made.astype(float)
    return {
        "psnr_to_own_clip": float(np.mean([_psnr(x, y) for x, y in zip(a, b, strict=True)])),
        "psnr_to_another_clip": float(np.mean([_psnr(x, y) for x, y in zip(np.roll(a, 1, 0), b, strict=True)])),
    }


def seen(store: Store, recipe: TrainRecipe) -> tuple[list[str], np.ndarray]:
    """Prompts of training clips of several scenes, and their frames uint8 [N, F, H, W, 3] as the codec decodes them."""
    plan = make_schedule(store, SNAPSHOT, recipe)
    stored = StoredSamples(store, plan, fingerprints_of(recipe))
    bucket, _ = next(iter(plan.wanted()))
    rows = sorted((int(r) for r in plan.train), key=lambda r: plan.captions_of(r)[0])  # by scene
    chosen = rows[:: max(1, len(rows) // SHOWN_CLIPS)][:SHOWN_CLIPS]
    draws = [Draw(plan.clip_ids[r].as_py(), 0, 0, r) for r in chosen]
    video = load_codec(recipe.codec).decode(stored.latents(bucket, draws))
    return [plan.captions_of(r)[0] for r in chosen], np.stack([to_frames(v) for v in video])


def generate(recipe: TrainRecipe, run_folder: Path, prompts: Sequence[str]) -> np.ndarray:
    """uint8 [N, F, H, W, 3], by the averaged weights."""
    from reelwright.model.dit import DiT

    model = DiT(recipe.model)
    model.load_state_dict(dict(network_tensors(find_checkpoint(run_folder), ema=True)))
    width, height = map(int, recipe.data.sizes[0].split("x"))
    frames = recipe.data.frames[0]
    tokens = recipe.model.tokens((frames - 1) // 4 + 1, height // 8, width // 8)
    settings = Settings.of(width=width, height=height, frames=frames, steps=30, guidance=3.0,
                        shift=recipe.sampling.timestep_shift(tokens))  # fmt: skip
    generator = Generator(model.eval(), load_codec(recipe.codec), load_text_encoder(recipe.text))
    return np.stack([to_frames(v) for v in generator.text(prompts, list(range(len(prompts))), settings)])


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.square(a - b).mean(), 1e-9)))


if __name__ == "__main__":
    main()
