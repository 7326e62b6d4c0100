"""Tuning on a CPU: each use learns a made-up rule, over seeds; and a folder to try `reel tune` on.

    python -m benchmarks.tuning [--seeds 5] [--first 0] [--uses captioner judge reward] [--model qwen_vl|llava_video]
    python -m benchmarks.tuning --make FOLDER

The recipes are those of configs/tune/mini, which docs/tuning.md runs. The models are of the real classes, with two
layers and random weights; the rules can only be seen in the pictures:
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
from typing import Any

import numpy as np

FIGURES = {"captioner": "same_as_reference", "judge": "overall/correlation", "reward": "overall/accuracy"}
RECIPES = Path(__file__).parents[1] / "configs" / "tune" / "mini"
CLIPS, PROMPTS = 120, 80
"""Grey, and the middle levels of lightness, lie near the zero of normalised pixels: the model sees mostly noise,
each clip its own. With half as many, some seeds saw too few of them to know a new one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default=5, type=int)
    parser.add_argument("--first", default=0, type=int, help="the first seed; settings were chosen on 0 to 4")
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
            found = [learn(use, data, seed) for seed in range(given.first, given.first + given.seeds)]
        each = " ".join(f"{one:.3f}" for one in found)
        print(f"{use:10} {FIGURES[use]:22} {np.mean(found):.3f} ± {interval(found):.3f}  {each}", flush=True)


def make(folder: Path, model: str) -> Path:
    """Write base/, data/train.jsonl with its clips, store/ and short.txt; return the folder."""
    from tests.annotate.chat import checkpoints
    from tests.training.tuning.miniature import conversations, rated_store

    folder.mkdir(parents=True, exist_ok=True)
    getattr(checkpoints, model)(folder / "base")
    conversations(folder / "data", CLIPS)
    rated_store(folder / "store", PROMPTS)
    (folder / "short.txt").write_text("version: 1\n\nJudge $aspect. $prompt\n")
    return folder


def learn(use: str, data: Path, seed: int) -> float:
    """Tune the use's recipe on the folder's data; return the use's figure on held-out samples."""
    from reelwright.curation.store import Store
    from reelwright.training.distributed.world import World
    from reelwright.training.tuning.recipe import load_tune_recipe
    from reelwright.training.tuning.run import TuneJob, read_result, run_tuning

    settings: dict[str, Any] = {"base.model": str(data / "base"), "seed": seed}
    if use == "captioner":
        settings |= {"data.jsonl": [str(data / "data" / "train.jsonl")]}
    elif use == "judge":
        settings |= {"prompt": str(data / "short.txt")}
    run = data / f"{use}-{seed}"
    job = TuneJob(use, load_tune_recipe(use, RECIPES / f"{use}.yaml", settings), run, Store.open(data / "store"))
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
