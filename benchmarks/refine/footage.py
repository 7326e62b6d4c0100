"""A small refinement expert on real footage: trained, then held against plain up-sampling on clips it has not seen."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.refine.measures import BETTER, likeness
from benchmarks.train import FOLDER, SCALE, SNAPSHOT, make_store
from reelwright.curation.store import Store
from reelwright.model.codec import Codec, load_codec
from reelwright.model.dit import DiT
from reelwright.model.refinement.noise import noised_start, refinement_sigmas
from reelwright.model.sampling.solvers import euler
from reelwright.model.sampling.video_file import to_frames
from reelwright.model.text import PackedText, load_text_encoder, pack_text
from reelwright.pipelines.precompute.encoder import Encoder
from reelwright.training.checkpoints import find_checkpoint
from reelwright.training.data.encode import fingerprints_of
from reelwright.training.data.fresh import stored_media
from reelwright.training.data.latents import StoredSamples
from reelwright.training.data.loader import make_schedule
from reelwright.training.data.pairs import pair_maker, stored_seed
from reelwright.training.data.prepared import Clips
from reelwright.training.data.sandbox_decoder import SandboxDecoder
from reelwright.training.data.schedule import Draw, latent_condition
from reelwright.training.distributed.world import World
from reelwright.training.logs import read_log
from reelwright.training.recipe import TrainRecipe
from reelwright.training.run import run
from reelwright.training.weights.convert import network_tensors

__all__ = ["FOLDER", "measure"]

STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % point, by number of seeds
NORMAL = 1.96
HELD_OUT, SHOWN_CLIPS, SHOWN_FRAMES = 16, 4, 4
CONDITION = {"t2v": 0, "i2v": 1, "continuation": 5}
"""Frames that are given, by task."""
RATE, SLOW = 2e-3, 0.3
"""Learning rate, and the share of the steps that end a training at a fifth of it."""


@dataclass(frozen=True)
class HeldOut:
    """Clips that were not trained on.

    truth, plain: the clips and their enlarged first stages, uint8 [N, F, H, W, 3]. clean, upsampled: their latents, [N,
    C, T, h, w].
    """

    truth: np.ndarray
    plain: np.ndarray
    clean: torch.Tensor
    upsampled: torch.Tensor
    texts: PackedText


def recipe_of(steps: int, seed: int, threshold: float, begun: Path | None = None) -> TrainRecipe:
    """Return the recipe of a run, or of the run at a lower rate that goes on from the weights of `begun`."""
    lr, warmup_steps = (RATE, 20) if begun is None else (RATE / 5, 0)
    mild = {
        "blur": {"sigma": [0.2, 0.6]}, "resize": None, "noise": {"sigma": [1, 4]}, "jpeg": None, "video": None,
    }  # fmt: skip
    return TrainRecipe.model_validate({
        "model": {"hidden_size": 128, "depth": 4, "num_heads": 2, "caption_channels": 64, "adaln_tembed_dim": 64,
                  "text_tokens": 16},
        "text": {"kind": "hashing", "dim": 64, "tokens": 16},
        "data": {"sizes": ["128x64"], "frames": [17], "fps": 16, "tokens_per_batch": 640, "batches_per_step": 1,
                 "holdout": 0.15, "workers": 1, "pair": {"first_stage": "64x32", "multiple": 16, "fps": 8, **mild}},
        "tasks": {"t2i": 0, "t2v": 2, "i2v": 1, "continuation": 1, "condition_frames": [5]},
        "objective": {"kind": "refinement", "threshold": threshold},
        "optim": {"lr": lr, "warmup_steps": warmup_steps, "ema": 0.98},
        "compute": {"precision": "fp32"},
        "validation": {"every": 0, "clips": HELD_OUT},
        "checkpoints": {"every": 100, "keep": 1},
        "log": {"every": 25, "tensorboard": False},
        "steps": steps, "seed": seed, **({"init": str(begun)} if begun else {}),
    })  # fmt: skip


def measure(corpus: Path, folder: Path, args: argparse.Namespace) -> None:
    """Train, or go on training where `folder` has runs; print the figures and write the sheet."""
    torch.set_num_threads(args.threads)
    store = make_store(corpus, folder / "store")
    make_pairs(store, recipe_of(args.steps, 0, args.threshold))
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(args.seeds):
        slow = round(SLOW * args.steps)
        begun, where = folder / f"run-{seed}", folder / f"run-{seed}-slow"
        recipe = recipe_of(slow, seed, args.threshold, begun)
        for one, its_folder in ((recipe_of(args.steps - slow, seed, args.threshold), begun), (recipe, where)):
            outcome = run(one, Clips(store, SNAPSHOT), its_folder, World.alone("cpu"))
            if not outcome.finished:
                raise SystemExit(f"stopped after step {outcome.step}, and saved; the same command with --keep goes on")
            _print_losses(its_folder, seed)
        held = held_out(store, recipe)
        for name, values in compare(held, recipe, where, args.sheet if seed == 0 else None).items():
            found.setdefault(name, []).append(values)
    for name, runs in found.items():
        print(name, _with_interval(runs), flush=True)
    print("sheet", args.sheet)


def make_pairs(store: Store, recipe: TrainRecipe) -> None:
    """Encode the pairs and captions that are missing, by the worker of `reel precompute` in this process."""
    plan = make_schedule(store, SNAPSHOT, recipe)
    missing = StoredSamples(store, plan, fingerprints_of(recipe)).missing()
    worker = Encoder(
        recipe.model_dump(mode="json"), store.uri, [store.snapshots.show(SNAPSHOT).media_version], "cpu"
    )  # fmt: skip
    if len(missing.captions):
        store.commit_encoded("texts", [worker.encode_captions(missing.captions.to_pylist()).fragments])
    for window, rows in missing.latents.items():
        made = worker.encode_clips(window, plan.clip_ids.take(rows).to_pylist())
        store.commit_encoded("latents", [made.fragments])
        if made.failures:
            raise SystemExit(f"{len(made.failures)} clips do not decode: {next(iter(made.failures.values()))}")
    worker.decode.close()


def held_out(store: Store, recipe: TrainRecipe) -> HeldOut:
    """Read the pairs of held-out clips from the store, and decode their frames."""
    plan = make_schedule(store, SNAPSHOT, recipe)
    bucket, _ = next(iter(plan.wanted()))
    rows = plan.held_out[:HELD_OUT].tolist()
    ids = [plan.clip_ids[r].as_py() for r in rows]
    draws = [Draw(clip, 0, 0, r) for clip, r in zip(ids, rows, strict=True)]
    pairs = StoredSamples(store, plan, fingerprints_of(recipe)).latents(bucket, draws)
    clean, upsampled = pairs.chunk(2, 1)
    media, decode = stored_media(store, SNAPSHOT)(ids), SandboxDecoder(recipe.data.fps)
    try:
        truth = np.stack([decode(media[clip], bucket, 0.5).frames for clip in ids])
    finally:
        decode.close()
    maker, codec = pair_maker(recipe), load_codec(recipe.codec)
    assert maker is not None
    plain = []
    for clip, frames in zip(ids, truth, strict=True):
        low = maker.first_stage(frames, bucket, stored_seed(maker.config, clip, bucket.key))
        plain.append(to_frames(maker.enlarge(low, bucket, codec)[0]))
    states = load_text_encoder(recipe.text).encode([plan.captions_of(r)[0] for r in rows])
    return HeldOut(truth, np.stack(plain), clean, upsampled, pack_text(states, recipe.model.text_tokens))


def compare(held: HeldOut, recipe: TrainRecipe, where: Path, sheet: Path | None) -> dict[str, np.ndarray]:
    """Return each measure per clip: of the up-sampled video, of the refined one, and how much better that is."""
    model, codec = DiT(recipe.model), load_codec(recipe.codec)
    model.load_state_dict(dict(network_tensors(find_checkpoint(where), ema=True)))
    model.eval()
    plain = held.plain
    out: dict[str, np.ndarray] = {}
    shown = _decoded(codec, held.clean)  # the most that a refined latent can show
    for name, values in _likeness(shown, held.truth, 0).items():
        out[f"codec_alone_{name}"] = values
    for task, frames in CONDITION.items():
        cond = latent_condition(task, frames)  # type: ignore[arg-type] # the keys are tasks
        refined = _decoded(codec, refine(model, held, recipe, cond))
        before, after = (_likeness(video, held.truth, frames) for video in (plain, refined))
        for name in before:
            out[f"{task}_{name}_upsampled"], out[f"{task}_{name}_refined"] = before[name], after[name]
            out[f"{task}_{name}_better_by"] = BETTER[name] * (after[name] - before[name])
        soft, fine = (_likeness(video, shown, frames)["high"] for video in (plain, refined))
        out[f"{task}_high_of_codec_upsampled"], out[f"{task}_high_of_codec_refined"] = soft, fine
        out[f"{task}_high_of_codec_better_by"] = soft - fine
        if task == "t2v" and sheet is not None:
            write_sheet(plain, refined, held.truth, sheet)
    return out


@torch.no_grad()
def refine(model: DiT, held: HeldOut, recipe: TrainRecipe, cond: int) -> torch.Tensor:
    """Refine all held-out clips, of which the first `cond` latent frames are given."""
    threshold = recipe.objective.threshold  # type: ignore[attr-defined] # of the refinement objective
    noise = torch.stack([
        torch.randn(held.upsampled.shape[1:], generator=torch.Generator().manual_seed(i))
        for i in range(len(held.upsampled))
    ])  # fmt: skip
    clean = held.clean[:, :, :cond]
    start = noised_start(held.upsampled, noise, threshold)[:, :, cond:]

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        levels = torch.cat([t.new_zeros(len(t), cond), t[:, None].expand(-1, x.shape[2])], 1)
        return model(torch.cat([clean, x], 2), levels, held.texts, cond_frames=cond)[:, :, cond:]

    found = euler(predict, start, refinement_sigmas(threshold)).latents
    return torch.cat([clean, found], 2)


def write_sheet(plain: np.ndarray, refined: np.ndarray, truth: np.ndarray, path: Path) -> None:
    """Write rows of frames: up-sampled, refined, truth, clip by clip."""
    import cv2

    chosen = np.linspace(0, len(truth) - 1, min(SHOWN_CLIPS, len(truth))).astype(int)
    steps = np.linspace(1, truth.shape[1] - 1, SHOWN_FRAMES).astype(int)
    rows = [np.concatenate(list(video[i][steps]), 1) for i in chosen for video in (plain, refined, truth)]
    big = cv2.resize(np.concatenate(rows, 0), None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), cv2.cvtColor(big, cv2.COLOR_RGB2BGR))


def _decoded(codec: Codec, latents: torch.Tensor) -> np.ndarray:
    return np.stack([to_frames(v) for v in codec.decode(latents)])


def _likeness(found: np.ndarray, truth: np.ndarray, given: int) -> dict[str, np.ndarray]:
    """Measures per clip, of the frames that were not given."""
    rows = [likeness(a[given:], b[given:]) for a, b in zip(found, truth, strict=True)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _print_losses(where: Path, seed: int) -> None:
    losses: list[dict[str, Any]] = [row for row in read_log(where) if "val/loss" in row]
    print(f"seed_{seed}_val_loss {losses[0]['val/loss']:.4g} -> {losses[-1]['val/loss']:.4g}", flush=True)


def _with_interval(runs: list[np.ndarray]) -> str:
    """Mean and 95 % interval: over seeds, or with one seed over clips."""
    means = np.array([values.mean() for values in runs])
    if len(runs) > 1:
        half = STUDENT_T[len(runs)] * means.std(ddof=1) / np.sqrt(len(runs))
        return f"{means.mean():.4g} ± {half:.2g} over {len(runs)} seeds"
    half = NORMAL * runs[0].std(ddof=1) / np.sqrt(len(runs[0]))
    return f"{means[0]:.4g} ± {half:.2g} over {len(runs[0])} clips"
