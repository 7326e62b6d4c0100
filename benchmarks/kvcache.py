"""The saving by the KV cache of condition frames, and that it changes nothing: `python -m benchmarks.kvcache`.

50 steps with 4 of 24 latent frames as condition, cached and not, in turns, on one CPU thread; seconds are CPU seconds.
Where attention is a small part, dropping 4 of 24 frames can make a step 24 / 20 = 1.2 times as fast at most.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.sampling.schedules import sigmas
from reelwright.model.sampling.solvers import denoise

CONFIG = DiTConfig(
    hidden_size=128, depth=4, num_heads=4, caption_channels=64, adaln_tembed_dim=64, frequency_embedding_size=64,
    text_tokens=32,
)  # fmt: skip
FRAMES, CONDITION, STEPS, ROUNDS = 24, 4, 50, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=12, help="latent rows and columns")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        for name, value in measure(options.rows, options.steps, options.rounds):
            print(f"kvcache.{name} {value:.6g}")


def measure(rows: int, steps: int, rounds: int) -> list[tuple[str, float]]:
    """(name, value): largest difference of the latents, seconds of the quickest round of each, and their ratio."""
    model, generator = network(), torch.Generator().manual_seed(0)
    condition = torch.randn(1, 16, CONDITION, rows, rows, generator=generator)
    noise = torch.randn(1, 16, FRAMES - CONDITION, rows, rows, generator=generator)
    text = torch.randn(1, CONFIG.text_tokens, CONFIG.caption_channels, generator=generator)
    ways = {"cached": lambda: cached(model, condition, noise, text, steps),
            "uncached": lambda: uncached(model, condition, noise, text, steps)}  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    made: dict[str, Tensor] = {}
    for i in range(rounds):
        for name in sorted(ways, reverse=bool(i % 2)):
            made[name] = timed(ways[name], seconds[name])
    best = {name: min(times) for name, times in seconds.items()}
    return [
        ("max_difference", (made["cached"] - made["uncached"]).abs().max().item()),
        ("largest_latent", made["uncached"].abs().max().item()),
        ("cached_s", best["cached"]),
        ("uncached_s", best["uncached"]),
        ("speedup", best["uncached"] / best["cached"]),
    ]


def cached(model: DiT, condition: Tensor, noise: Tensor, text: Tensor, steps: int) -> Tensor:
    cache = model.cache(condition)
    return denoise(lambda x, t: model(x, t, text, cache=cache), noise, sigmas(steps))


def uncached(model: DiT, condition: Tensor, noise: Tensor, text: Tensor, steps: int) -> Tensor:
    def predict(x: Tensor, t: Tensor) -> Tensor:
        return model(torch.cat([condition, x], 2), t, text, cond_frames=CONDITION)[:, :, CONDITION:]

    return denoise(predict, noise, sigmas(steps))


def network() -> DiT:
    """Random, with a modulation and an output that are not zero."""
    model = DiT(CONFIG).init_weights(0).eval()
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "adaLN" in name or name.startswith("final_layer"):
            weight.data.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


def timed(call: Callable[[], Tensor], seconds: list[float]) -> Tensor:
    began = time.process_time()
    result = call()
    seconds.append(time.process_time() - began)
    return result


if __name__ == "__main__":
    main()
