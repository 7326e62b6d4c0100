"""Tuning on a CPU: each use learns a made-up rule, over seeds; and a folder to try `reel tune` on.

    python -m benchmarks.tuning [--seeds 3] [--uses captioner judge reward] [--model qwen_vl|llava_video]
    python -m benchmarks.tuning --make FOLDER

The models are of the real classes, with two layers and random weights; the rules can only be seen in the pictures:
captioner: the answer names the clip's colour, of four (share of held-out clips answered word for word);
judge: people's scores are the lightness from 1 to 5, one in five of them one off (correlation with held-out means);
reward: of two generations people like the lighter one, if any (accuracy on held-out pairs that differ).
Prints each figure's mean over seeds, a 95 % interval of it (Student's t), and each seed's: that the machinery
learns what it is told, which says nothing of published models.

With --make: writes a small base model, clips with captions as conversations, and a store with rated generations.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

FIGURES = {"captioner": "same_as_reference", "judge": "overall/correlation", "reward": "overall/accuracy"}
STEPS = {"captioner": 60, "judge": 60, "reward": 40}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default=3, type=int)
    parser.add_argument("--uses", nargs="+", default=list(FIGURES), choices=list(FIGURES))
    parser.add_argument("--model", default="qwen_vl", choices=["qwen_vl", "llava_video"])
    parser.add_argument("--make", type=Path, help="write a folder to try `reel tune` on, and end")
    given = parser.parse_args()
    if given.make:
        make(given.make, given.model)
        return
    for use in given.uses:
        with tempfile.TemporaryDirectory() as folder:
            data = make(Path(folder), given.model)
            found = [learn(use, data, seed) for seed in range(given.seeds)]
        each = " ".join(f"{one:.3f}" for one in found)
        print(f"{use:10} {FIGURES[use]:22} {np.mean(found):.3f} ± {interval(found):.3f}  {each}", flush=True)


def make(folder: Path, model: str) -> Path:
    """Write base/, data/train.jsonl with its clips, store/ and short.txt; return the folder."""
    from tests.annotate.chat import checkpoints
    from tests.training.tuning.miniature import conversations, rated_store

    folder.mkdir(parents=True, exist_ok=True)
    getattr(checkpoints, model)(folder / "base")
    conversations(folder / "data", 60)
    rated_store(folder / "store", 40)
    (folder / "short.txt").write_text("version: 1\n\nJudge $aspect. $prompt\n")
    return folder


def learn(use: str, data: Path, seed: int) -> float:
    """Tune on the folder's data; return the use's figure on held-out samples."""
    from reelwright.curation.store import Store
    from reelwright.training.distributed.world import World
    from reelwright.training.tuning import rows
    from reelwright.training.tuning.recipe import load_tune_recipe
    from reelwright.training.tuning.run import TuneJob, read_result, run_tuning
    from tests.training.tuning.miniature import SETTINGS

    settings = {name: value for name, value in SETTINGS.items() if name != "max_new_tokens" or use == "captioner"}
    settings |= {"base.model": str(data / "base"), "steps": STEPS[use], "seed": seed, "optim.schedule": "constant",
                 "data.max_tokens": 2000}  # fmt: skip
    if use == "captioner":
        settings |= {"data.jsonl": [str(data / "data" / "train.jsonl")]}
    elif use == "judge":
        settings |= {"data.sql": rows.SCORES, "prompt": str(data / "short.txt"), "aspects": {"overall": "it"}}
    else:
        settings |= {"data.sql": rows.CHOICES}
    run = data / f"{use}-{seed}"
    job = TuneJob(use, load_tune_recipe(use, None, settings), run, Store.open(data / "store"))
    run_tuning(job, World.alone("cpu"), lambda _: None)
    return float(read_result(run)["measured"][FIGURES[use]])


def interval(values: list[float]) -> float:
    """Return half of the 95 % interval of the mean; NaN of a single value."""
    from scipy.stats import t

    if len(values) < 2:
        return float("nan")
    return float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    main()
