"""The cost of captions in a micro-batch of images, padded to 512 tokens as published and without padding.

    python -m benchmarks.text [RECIPE] [--samples 128] [--mean 150] [--deviation 50]

Made-up captions of normally distributed length; the recipe drops some. Prints the bytes of their states, the
seconds that it takes to make them ready, and the floating-point operations of a forward and backward pass.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from reelwright.model.flops import train_flops
from reelwright.model.text import pack_text, pad_text
from reelwright.training.data.buckets import main_bucket
from reelwright.training.recipe import TrainRecipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", default=Path("configs/train/stage1-t2i-256p.yaml"))
    parser.add_argument("--samples", type=int, help="of a micro-batch; default: as many as the recipe takes")
    parser.add_argument("--mean", type=float, default=150, help="tokens of a caption that is not empty")
    parser.add_argument("--deviation", type=float, default=50, help="of them")
    options = parser.parse_args()
    recipe = TrainRecipe.model_validate(yaml.safe_load(options.recipe.read_text(encoding="utf-8")))
    config, bucket = recipe.model, main_bucket(recipe.data)
    samples = options.samples or max(1, recipe.data.tokens_per_batch // bucket.tokens(config.patch_size))
    rng = np.random.default_rng(0)
    lengths = rng.normal(options.mean, options.deviation, samples).round().clip(1, config.text_tokens).astype(int)
    lengths[rng.random(samples) < recipe.data.caption_dropout] = 1
    stored = [torch.randn(length, config.caption_channels).bfloat16() for length in lengths.tolist()]
    (padded, mask), before_s = _timed(lambda: pad_text([s.float() for s in stored], config.text_tokens))
    packed, after_s = _timed(lambda: pack_text(stored, config.text_tokens))
    grid = (bucket.latent[0], *(side // p for side, p in zip(bucket.latent[1:], config.patch_size[1:], strict=True)))
    sizes = {"batch": samples, "cond_frames": 0}
    flops = [train_flops(config, grid, **sizes, text_tokens=n) for n in (config.text_tokens, packed.keys_per_caption)]
    size = padded.numel() * padded.element_size() + mask.numel(), packed.states.numel() * packed.states.element_size()
    print(f"{samples} x {bucket.key}, captions of {lengths.mean():.0f} tokens in the mean, {lengths.max()} at most")
    print(f"padded fp32   {size[0] / 2**20:8,.0f} MiB  {before_s:6.2f} s  {flops[0]:.3e} FLOPs")
    print(f"packed bf16   {size[1] / 2**20:8,.0f} MiB  {after_s:6.2f} s  {flops[1]:.3e} FLOPs")
    print(f"ratio         {size[0] / size[1]:8.1f}      {before_s / after_s:6.1f}    {flops[0] / flops[1]:.3f}")


def _timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """(result, CPU seconds of the fastest of three)."""
    seconds = []
    for _ in range(3):
        began = time.process_time()
        made = make()
        seconds.append(time.process_time() - began)
    return made, min(seconds)


if __name__ == "__main__":
    main()
