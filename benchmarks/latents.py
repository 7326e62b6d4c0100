"""Reading latents for training: the store through `training.data.loader.Loader`, in the random order of a plan, beside
webdataset over tar shards of the very same rows, shuffled as webdataset does it.

`python -m benchmarks.latents` prints `name value` lines. Both sides give batches of float32 latents and padded text
states; both have 2 workers (threads here, processes there), and webdataset is also run without (its better rate
counts). Files are in the page cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import webdataset

from reelwright.curation.store import Store
from reelwright.model.config import DiTConfig
from reelwright.model.text import PackedText, pack_text
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.encode import fingerprints_of, text_rows, to_bytes
from reelwright.training.data.latents import StoredSamples
from reelwright.training.data.loader import Loader, Portion
from reelwright.training.data.schedule import Schedule
from reelwright.training.recipe import DataConfig, TaskConfig, TrainRecipe

WORKERS = 2
ROUNDS = 5  # the medians count
SHARD_BYTES = 100e6
CASES = {  # bucket, clips, clips per micro-batch, clips that a worker of `reel precompute` writes at once
    "256p_x93": (Bucket(93, 256, 256), 400, 8, 32),
    "64p_x17": (Bucket(17, 64, 64), 8000, 16, 32),
}
WORDS = [
    "a",
    "red",
    "fox",
    "walks",
    "slowly",
    "through",
    "fresh",
    "snow",
    "while",
    "the",
    "camera",
    "follows",
    "it",
    "from",
    "the",
    "left",
    "at",
    "dusk",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the clips of each case")
    share = parser.parse_args().share
    torch.set_num_threads(1)
    for name, (bucket, clips, batch, written) in CASES.items():
        with tempfile.TemporaryDirectory(prefix="reel-latents-") as folder:
            compare(name, bucket, max(64, int(clips * share)), batch, written, Path(folder))


def compare(name: str, bucket: Bucket, clips: int, batch: int, written: int, folder: Path) -> None:
    """One case: rates in clips per second, and ours over webdataset's better one."""
    recipe = recipe_of(bucket, batch)
    ids = [f"{i:024x}" for i in range(clips)]
    store, plan = Store.open(folder / "store", create=True), plan_of(recipe, bucket, ids)
    write_both(store, folder, recipe, bucket, ids, written)
    samples = StoredSamples(store, plan, fingerprints_of(recipe))
    epoch = len(plan.train) // batch
    shards = sorted(map(str, folder.glob("*.tar")))
    numbers = iter(range(10_000))

    def ours() -> Iterable[Any]:
        start = next(numbers) * epoch
        portion = Portion(start_step=start, stop_step=start + epoch)
        return Loader(store, "", plan, recipe, portion=portion, samples=samples)

    runs: dict[str, Callable[[], Iterable[Any]]] = {
        "store": ours,
        "webdataset": lambda: webdataset_batches(shards, recipe, bucket, batch, 0),
        "webdataset_2_workers": lambda: webdataset_batches(shards, recipe, bucket, batch, WORKERS),
    }
    rates: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(ROUNDS):  # in turns: other load of the machine meets all alike
        for key, run in runs.items():
            rates[key].append(rate(run()))
    medians = {key: float(np.median(values)) for key, values in rates.items()}
    size = 2 * 16 * int(np.prod(bucket.latent)) / 1e6
    for key, value in medians.items():
        print(f"latents_{name}_{key}_clips_per_s {value:.0f}")
        print(f"latents_{name}_{key}_mb_per_s {value * size:.0f}")
    print(
        f"latents_{name}_over_webdataset {medians['store'] / max(v for k, v in medians.items() if k != 'store'):.2f}",
        flush=True,
    )


def rate(batches: Iterable[Any]) -> float:
    """Clips a second, from the first batch on: starting workers is not reading."""
    clips, began, first = 0, 0.0, 0
    for number, batch in enumerate(batches):
        latents = batch[0] if isinstance(batch, (list, tuple)) else batch.latents
        clips += len(latents)
        if number == 0:
            began, first = time.perf_counter(), clips
    return (clips - first) / (time.perf_counter() - began)


def recipe_of(bucket: Bucket, batch: int) -> TrainRecipe:
    model = DiTConfig(hidden_size=64, num_heads=2, depth=1, caption_channels=64, text_tokens=64)
    data = DataConfig(
        sizes=(f"{bucket.width}x{bucket.height}",), frames=(bucket.frames,), tokens_per_batch=batch * bucket.tokens(),
        batches_per_step=1, caption_dropout=0, holdout=0, workers=WORKERS,
    )  # fmt: skip
    return TrainRecipe(model=model, data=data, tasks=TaskConfig(t2i=0))


def plan_of(recipe: TrainRecipe, bucket: Bucket, ids: list[str]) -> Schedule:
    size = {"width": bucket.width, "height": bucket.height, "num_frames": bucket.frames, "fps": recipe.data.fps}
    columns: dict[str, Any] = {"clip_id": ids, "weight": [1.0] * len(ids), "captions": [[caption(i)] for i in ids]}
    columns |= {key: [value] * len(ids) for key, value in size.items()}
    return Schedule(pa.table(columns), recipe.data, recipe.tasks, recipe.model)


def caption(clip_id: str) -> str:
    """One of its own for each clip."""
    rng = np.random.default_rng(int(clip_id, 16))
    return " ".join([*rng.choice(WORDS, 12), str(int(clip_id, 16))])


def write_both(store: Store, folder: Path, recipe: TrainRecipe, bucket: Bucket, ids: list[str], written: int) -> None:
    """The same latents and text states, in the tables as precomputing leaves them and in tar shards, in the order of
    the ids."""
    from reelwright.model.text import load_text_encoder

    prints, dtype, encoder = fingerprints_of(recipe), recipe.data.store_dtype, load_text_encoder(recipe.text)
    rng = np.random.default_rng(0)
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxsize=SHARD_BYTES, verbose=0) as tar:
        for start in range(0, len(ids), written):
            part = ids[start : start + written]
            texts = text_rows([caption(i) for i in part], encoder, dtype=dtype, fingerprint=prints.texts)
            rows = []
            for clip_id, text in zip(part, texts, strict=True):
                latents = torch.from_numpy(rng.standard_normal((16, *bucket.latent), np.float32))
                data = to_bytes(latents, dtype)
                rows.append({"clip_id": clip_id, "bucket": bucket.key, "encoder_fingerprint": prints.latents,
                "latents": data,
                             "shape": list(latents.shape), "dtype": dtype})  # fmt: skip
                tar.write({"__key__": clip_id, "latents.bin": data, "text.bin": text["states"]})
            store.commit_encoded("latents", [store.write_encoded("latents", rows)])
            store.commit_encoded("texts", [store.write_encoded("texts", texts)])
    store.merge_encoded()


def webdataset_batches(
    shards: list[str], recipe: TrainRecipe, bucket: Bucket, batch: int, workers: int
) -> Iterable[Any]:
    """Batches as webdataset's documentation makes them: shards and samples shuffled, batched in the worker."""
    shape, tokens, dim = (16, *bucket.latent), recipe.model.text_tokens, recipe.text.dim

    def decode(sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        latents = torch.frombuffer(bytearray(sample["latents.bin"]), dtype=torch.bfloat16).view(shape)
        return latents, torch.frombuffer(bytearray(sample["text.bin"]), dtype=torch.bfloat16).view(-1, dim)

    def collate(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, PackedText]:
        latents = torch.stack([s[0] for s in samples]).float()
        return latents, pack_text([s[1] for s in samples], tokens)

    dataset = webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False)
    dataset = dataset.shuffle(1000 if bucket.frames < 93 else 64).map(decode).batched(batch, collation_fn=collate)
    if not workers:
        return dataset
    return webdataset.WebLoader(dataset, batch_size=None, num_workers=workers)


if __name__ == "__main__":
    main()
