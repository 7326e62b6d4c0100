"""Distilled students against their teacher, in miniature: a base, its CFG-distilled, 16-step and 4-step students.

    python -m benchmarks.distill [../shared/corpus] [--seeds 3] [--steps 900] [--keep FOLDER] [--sheet distill.png]

Trains a small network on windows of the corpus' natural footage that move, then LoRAs on it with the objectives
`cfg_distillation`, `consistency` and `dmd`, each begun as the one before and trained on clips that the teacher made,
at the published shift of 12. Then samples the captions that it knows, from the same noises: by the teacher (50
steps, guidance 4), by the network without distillation (16 steps, guidance 1 and 4), and by the students (50, 16 and 4
steps, one pass each). Per seed and sampler a row goes to FOLDER/rows.jsonl at once: mean squared error of the latents
against the teacher's; energy of spatial high frequencies and motion (mean squared difference of following frames) of
the decoded frames; passes of the network per video; CPU seconds, which other load hardly changes, and how many times as
many the teacher takes, in turns, for two videos of 256 × 256.
The base is trained at shift 12, then half as long at shift 1, since guidance at 4 enlarges what a network gets wrong:
after 300 steps its clips were up to 11 (mean squared) from the real ones, and a student's errors early on the path grew
to 40 to 100 times their power. At shift 12 one draw in 30 lies below 0.3 and weighs next to nothing, so a base that is
trained long at that shift alone errs there, and its student in the last step, from 0.2 to 0.
With --keep a run that was stopped goes on. Prints means over seeds with 95 % intervals (Student's t).
Rows of the sheet: teacher, undistilled at 16 steps, student at 16, student at 4.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from reelwright.curation.media.errors import MediaError
from reelwright.model.codec import load_codec
from reelwright.model.dit import DiT
from reelwright.model.lora.adapters import merge_lora
from reelwright.model.sampling.generator import Generator
from reelwright.model.sampling.settings import Settings
from reelwright.model.sampling.video_file import to_frames
from reelwright.model.text import load_text_encoder, pack_text
from reelwright.training.batch import Batch
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.encode import encode_frames
from reelwright.training.data.sandbox_decoder import SandboxDecoder
from reelwright.training.distributed.world import World
from reelwright.training.loop import Hooks, Trainer
from reelwright.training.recipe import TrainRecipe
from reelwright.training.run import build

FOLDER = "natural"  # of the corpus
WIDTH, HEIGHT, FRAMES, FPS = 64, 64, 9, 8
TOKENS = 3 * 4 * 4  # latents of 3 × 8 × 8, tokens of 2 × 2
CLIPS, PLACES, MOST_BYTES = 4, (0.1, 0.5, 0.9), 1 << 20  # of a file: longer ones take minutes to decode
STILL, CUT = 5e-3, 0.06  # of following frames, mean squared in -1..1: a window with less hardly moves, with more is cut
LEAP = 2.5  # times the mean of a window: more is a cut, too
SAMPLES = 8  # of a step
NOISES = 8  # that each caption is measured with: one video that becomes another clip decides no figure
TURNS = 3  # of sampling by the teacher and by a student, for their times
TIMED, TIMED_SIDE = 2, 256  # videos and their sides in px: at the size that is trained, a pass is mostly overhead
TAUGHT = 24  # clips of the teacher per caption, which students are trained on
STUDENT_T = {1: float("nan"), 2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % point, by number of seeds
FIGURES = ("latent_mse", "high_frequencies", "motion", "passes", "seconds")


@dataclass(frozen=True)
class Stage:
    """A run of training. share: of --steps. start: the stage whose LoRA, or network, it begins as."""

    objective: dict[str, Any]
    share: float
    lr: float
    start: str = ""


# Without a rollout the students err most at low noise, where their own path has left the mixtures that they train on.
CFG = {"kind": "cfg_distillation", "by_span": 0.5, "rollout": 3}
CONSISTENCY = {"kind": "consistency", "by_span": 0.5, "rollout": 3}
DMD = {"kind": "dmd", "critic_steps": 2, "critic_lr": 1e-3, "match": 0.005, "anchor": 1.0}
STAGES: dict[str, Stage] = {
    "base": Stage({"kind": "flow"}, 1.0, 2e-3),
    "base-slow": Stage({"kind": "flow", "shift_at_reference": 1.0, "weighting": "uniform"}, 0.5, 5e-4, start="base"),
    "cfg": Stage(CFG, 1.0, 3e-3),
    "cfg-slow": Stage(CFG, 0.5, 5e-4, start="cfg"),
    "consistency": Stage(CONSISTENCY, 0.5, 1e-3, start="cfg-slow"),
    "consistency-slow": Stage(CONSISTENCY, 0.4, 2e-4, start="consistency"),
    "dmd": Stage(DMD, 0.6, 1e-3, start="consistency-slow"),
}
"""In this order. A stage has one rate, as in the report; the base and two distillations go on at a lower one."""
BASE = "base-slow"
"""The stage whose network teaches and is distilled."""


LAYERS = ("*.qkv", "*.proj", "*.q_linear", "*.kv_linear", "*.ffn.w?", "*adaLN_modulation.1", "final_layer.linear")
"""Of the LoRAs. A network that knows few clips by heart has a guided velocity several times as long as its own, which
the layers of the published distilled LoRA, all before the last norm, cannot make."""


@dataclass(frozen=True)
class Sampler:
    """How a row is made. stage: whose weights."""

    stage: str
    settings: dict[str, Any]


SAMPLERS = {
    "teacher": Sampler(BASE, {"steps": 50, "guidance": 4.0}),
    "undistilled 16, guidance 1": Sampler(BASE, {"steps": 16, "guidance": 1.0}),
    "undistilled 16, guidance 4": Sampler(BASE, {"steps": 16, "guidance": 4.0}),
    "cfg student 50": Sampler("cfg-slow", {"steps": 50, "guidance": 1.0, "distilled": True}),
    "student 16": Sampler("consistency-slow", {"steps": 16, "guidance": 1.0, "distilled": True}),
    "student 4": Sampler("dmd", {"steps": 4, "guidance": 1.0, "distilled": True}),
}
STUDENTS = ("student 16", "student 4")
SHOWN = ("teacher", "undistilled 16, guidance 4", *STUDENTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", default="../shared/corpus", type=Path)
    parser.add_argument("--seeds", default=3, type=int, choices=sorted(STUDENT_T))
    parser.add_argument("--steps", default=900, type=int, help="that stages take shares of")
    parser.add_argument("--keep", type=Path, help="folder for runs and rows; default: a temporary one")
    parser.add_argument("--sheet", default=Path("distill.png"), type=Path)
    parser.add_argument("--only", type=int, help="this seed alone, for runs side by side into one folder; no means")
    parser.add_argument("--threads", default=2, type=int, help="of torch; fewer on a busy machine")
    args = parser.parse_args()
    if not (args.corpus / FOLDER).is_dir():
        sys.exit(f"skipped: {args.corpus / FOLDER} is not there; give the corpus' folder")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        footage = Footage.load(args.corpus / FOLDER, folder / "footage.npz")
        for seed in range(args.seeds) if args.only is None else [args.only]:
            measure(footage, seed, args.steps, folder, args.sheet if seed == 0 else None)
        if args.only is None:
            report([json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()], args.seeds)


# --- footage -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Footage:
    """Windows of clips. latents: float32 [N, C, T, h, w]; captions: one each."""

    latents: Tensor
    captions: list[str]

    @classmethod
    def load(cls, folder: Path, cache: Path) -> "Footage":
        """Decode and encode, or read what was encoded before."""
        if not cache.exists():
            latents, captions = _encoded(folder)
            np.savez(cache, latents=latents.numpy(), captions=np.array(captions))
        with np.load(cache) as found:
            return cls(torch.from_numpy(found["latents"]), [str(caption) for caption in found["captions"]])


def _encoded(folder: Path) -> tuple[Tensor, list[str]]:
    codec, decoder = load_codec(_recipe("base", 1, 0, Path()).codec), SandboxDecoder(FPS)
    bucket = Bucket(FRAMES, HEIGHT, WIDTH)
    latents, captions = [], []
    try:
        for file in sorted(f for f in folder.iterdir() if f.stat().st_size <= MOST_BYTES):
            for place in PLACES:
                try:
                    frames = decoder(file.read_bytes(), bucket, place).frames
                except MediaError:
                    continue
                moved = np.square(np.diff(frames.astype(np.float32) / 127.5, axis=0)).mean((1, 2, 3))
                if moved.mean() > STILL and moved.max() < min(CUT, LEAP * moved.mean()):
                    latents.append(encode_frames(frames, codec))
                    captions.append(file.stem.replace("_", " ").replace("-", " "))
                    break
    finally:
        decoder.close()
    chosen = np.linspace(0, len(latents) - 1, min(CLIPS, len(latents))).round().astype(int)
    return torch.stack([latents[i] for i in chosen]), [captions[i] for i in chosen]


@dataclass(frozen=True)
class Data:
    """The loop's data: samples of a step, by its number alone."""

    footage: Footage
    recipe: TrainRecipe
    states: list[Tensor]  # of the captions, then of the empty one

    def batches(self, start_step: int) -> Iterator[Batch]:
        for step in range(start_step, self.recipe.steps):
            random = np.random.default_rng([self.recipe.seed, step])
            clips = random.integers(len(self.footage.captions), size=SAMPLES)
            dropped = random.random(SAMPLES) < self.recipe.data.caption_dropout
            states = [self.states[-1 if gone else clip] for clip, gone in zip(clips, dropped, strict=True)]
            yield Batch(
                self.footage.latents[clips], pack_text(states, self.recipe.model.text_tokens), "t2v", 0,
                seeds=random.integers(2**62, size=SAMPLES).tolist(), clip_ids=[str(clip) for clip in clips],
                samples_in_step=SAMPLES, step=step, micro=0,
            )  # fmt: skip

    def validation(self) -> Sequence[Batch]:
        return []


# --- training ------------------------------------------------------------------------------------------------------


def _recipe(stage: str, steps: int, seed: int, folder: Path) -> TrainRecipe:
    own = STAGES[stage]
    objective = {"reference_tokens": TOKENS, **own.objective}
    base, init = own.objective["kind"] == "flow", str(folder / BASE)
    if base:
        init = str(folder / own.start) if own.start else ""
    elif own.start:
        objective["start"] = str(folder / own.start)
    return TrainRecipe.model_validate({
        "model": {"hidden_size": 96, "depth": 4, "num_heads": 2, "caption_channels": 64, "adaln_tembed_dim": 64,
                  "text_tokens": 16},
        "text": {"kind": "hashing", "dim": 64, "tokens": 16},
        "data": {"batches_per_step": 1, "caption_dropout": 0.1 if base else 0.0, "store_dtype": "fp32"},
        "tasks": {"t2v": 1},
        "objective": objective,
        "optim": {"lr": own.lr, "warmup_steps": 10, "ema": 0.98, "weight_decay": 0.01 if base else 0.0},
        "compute": {"precision": "fp32"},
        "checkpoints": {"every": 100, "keep": 1},
        "log": {"every": 25, "tensorboard": False},
        "steps": max(1, round(own.share * steps)), "seed": seed, "init": init,
        **({} if base else {"lora": {"rank": 64, "alpha": 64, "targets": LAYERS}}),
    })  # fmt: skip


def train(stage: str, footage: Footage, steps: int, seed: int, folder: Path) -> DiT:
    """Train a stage, or go on with it, and return its network with the averaged weights."""
    world, recipe = World.alone("cpu"), _recipe(stage, steps, seed, folder)
    model, parent = build(recipe, world)
    encoder = load_text_encoder(recipe.text)
    data = Data(footage, recipe, encoder.encode([*footage.captions, ""]))
    about = {"recipe_fingerprint": recipe.fingerprint, "snapshot": {"content_hash": "corpus"}, "parent": parent,
             "recipe": recipe.model_dump(mode="json")}  # fmt: skip
    trainer = Trainer(
        recipe=recipe, data=data, model=model, world=world, folder=folder / stage, metadata=about,
        hooks=Hooks(say=_say(f"seed {seed}, {stage}: ")),
    )  # fmt: skip
    outcome = trainer.run()
    if not outcome.finished:
        sys.exit(f"stopped at step {outcome.step} of {stage}; with --keep the same command goes on")
    ema = trainer.state.ema
    assert ema is not None
    with torch.no_grad():
        for name, parameter in trainer.state.parameters.items():
            parameter.copy_(ema.average[name])
    return model.eval()


def _say(before: str) -> Callable[[str], None]:
    return lambda line: print(before + line, flush=True)


# --- measures ------------------------------------------------------------------------------------------------------


def measure(footage: Footage, seed: int, steps: int, folder: Path, sheet: Path | None) -> None:
    """Train one seed's networks, sample each as soon as it is trained, and append its rows."""
    rows, place = folder / "rows.jsonl", folder / f"seed-{seed}"
    done = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    found = {row["sampler"]: row for row in done if row["seed"] == seed}
    measured = Footage(footage.latents, footage.captions * NOISES)
    for name, sampler in SAMPLERS.items():
        if name in found:
            continue
        model = trained(sampler.stage, footage, steps, seed, place)
        merge_lora(model)  # as `reel generate` does
        latents, figures = sample(model, measured, sampler)
        if name in STUDENTS:
            figures["times_faster"] = times_faster(model, measured, sampler)
        np.save(place / f"{name}.npy", latents.numpy())
        taught = torch.from_numpy(np.load(place / "teacher.npy"))
        mse = float((latents - taught).square().mean())
        found[name] = {"seed": seed, "steps": steps, "sampler": name, "latent_mse": mse, **figures}
        print(json.dumps(found[name]), flush=True)
        with rows.open("a") as out:
            out.write(json.dumps(found[name]) + "\n")
    if sheet:
        codec = load_codec(_recipe("base", 1, 0, Path()).codec)
        write_sheet(sheet, [codec.decode(torch.from_numpy(np.load(place / f"{name}.npy"))) for name in SHOWN])


def trained(stage: str, footage: Footage, steps: int, seed: int, place: Path) -> DiT:
    """Train a stage and those that it begins as, or read what was trained before."""
    if STAGES[stage].start:
        trained(STAGES[stage].start, footage, steps, seed, place)
    own = footage if STAGES[stage].objective["kind"] == "flow" else teacher_clips(footage, place, steps, seed)
    return train(stage, own, steps, seed, place)


def teacher_clips(footage: Footage, place: Path, steps: int, seed: int) -> Footage:
    """Return clips of the teacher, from other noises than are measured, to train students on.

    So far a guided clip of this small network lies from real ones that noised real clips are not on the teacher's path.
    """
    file = place / "teacher-clips.npz"
    if not file.exists():
        captions = footage.captions * TAUGHT
        model = train(BASE, footage, steps, seed, place)
        latents, _ = sample(model, Footage(footage.latents, captions), SAMPLERS["teacher"], first=1000)
        np.savez(file, latents=latents.numpy(), captions=np.array(captions))
    with np.load(file) as found:
        return Footage(torch.from_numpy(found["latents"]), [str(caption) for caption in found["captions"]])


def sample(
    model: DiT, footage: Footage, sampler: Sampler, *, first: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> tuple[Tensor, dict[str, float]]:
    """Return latents of all captions, each from a noise of its own, and figures."""
    recipe = _recipe("base", 1, 0, Path())
    generator = Generator(model, load_codec(recipe.codec), load_text_encoder(recipe.text))
    settings = Settings.of(width=size[0], height=size[1], frames=FRAMES, shift=12.0, **sampler.settings)
    passes = 0

    def count(_: Any, inputs: tuple[Tensor, ...]) -> None:
        nonlocal passes
        passes += len(inputs[0])

    hook = model.register_forward_pre_hook(count)
    noise = [torch.Generator().manual_seed(first + i) for i in range(len(footage.captions))]
    condition = generator.encode_condition(footage.captions, settings)
    began = time.process_time()
    latents = generator.sample_latents(condition, settings, noise).latents
    seconds = time.process_time() - began
    hook.remove()
    video = generator.decode(latents, condition).clamp(-1, 1)
    figures = {
        "high_frequencies": high_frequencies(video), "motion": float(video.diff(dim=2).square().mean()),
        "passes": passes / len(latents), "seconds": seconds,
    }  # fmt: skip
    return latents, figures


def times_faster(model: DiT, footage: Footage, sampler: Sampler) -> float:
    """Return how many times as many CPU seconds the teacher's sampling takes: the median of a few, in turns.

    Both by the same network, for merged weights take the time of the base's.
    """
    found, some, size = [], Footage(footage.latents, footage.captions[:TIMED]), (TIMED_SIDE, TIMED_SIDE)
    for _ in range(TURNS):
        teacher, own = (sample(model, some, one, size=size)[1]["seconds"] for one in (SAMPLERS["teacher"], sampler))
        found.append(teacher / own)
    return float(np.median(found))


def high_frequencies(video: Tensor) -> float:
    """Return the mean energy of a frame's spatial frequencies above half of Nyquist's. video: [N, 3, F, H, W]."""
    spectrum = torch.fft.fft2(video.double(), norm="ortho").abs().square()
    rows, columns = (torch.fft.fftfreq(size, dtype=torch.float64).abs() for size in video.shape[-2:])
    high = torch.maximum(rows[:, None], columns[None, :]) > 0.25
    return float((spectrum * high).sum((-2, -1)).mean())


def report(rows: list[dict[str, Any]], seeds: int) -> None:
    """Print means over seeds; errors over the better undistilled one's, the rest over the teacher's."""
    of = [{r["sampler"]: r for r in rows if r["seed"] == seed} for seed in range(seeds)]
    for name in SAMPLERS:
        for figure in FIGURES:
            _print(f"{name}: {figure}", [one[name][figure] for one in of])
        for figure in ("high_frequencies", "motion"):
            _print(f"{name}: {figure} over the teacher's", [one[name][figure] / one["teacher"][figure] for one in of])
    plain = [min(one[name]["latent_mse"] for name in one if name.startswith("undistilled")) for one in of]
    for name in STUDENTS:
        ratios = [one[name]["latent_mse"] / least for one, least in zip(of, plain, strict=True)]
        _print(f"{name}: latent_mse over the better undistilled one's", ratios)
        passes = [one["teacher"]["passes"] / one[name]["passes"] for one in of]
        _print(f"{name}: the teacher's passes over its own", passes)
        _print(f"{name}: the teacher's seconds over its own", [one[name]["times_faster"] for one in of])


def _print(name: str, values: list[float]) -> None:
    found = np.array(values)
    half = STUDENT_T[len(found)] * found.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
    print(f"{name} {found.mean():.4g} ± {half:.2g}", flush=True)


def write_sheet(path: Path, videos: Sequence[Tensor], *, scale: int = 2, clips: int = 6) -> None:
    """Samplers below one another; of each clip its first, middle and last frame."""
    rows = []
    for video in videos:
        frames = [to_frames(one)[[0, FRAMES // 2, FRAMES - 1]] for one in video[:clips]]
        rows.append(np.concatenate([np.concatenate(list(one), 1) for one in frames], 1))
    picture = cv2.resize(np.concatenate(rows, 0), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    print("sheet", path)


if __name__ == "__main__":
    main()
