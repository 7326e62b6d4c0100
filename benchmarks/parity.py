"""Our network against numbers of the published one.

    python -m benchmarks.parity BASE.safetensors [--lora LORA.safetensors --expect OUT.safetensors]

BASE holds weights (`w.*`), inputs (x, t, y, mask) and outputs, and in its metadata JSON {config, cases}; the network
is built from that alone. Prints `name value` lines: the largest absolute error of every case, uncached, with its text
packed (without padding), cached, and against the published cached output where there is one; with --lora those of the
adapted network, unmerged and merged.
Exits 1 if one is above 1e-4 or not a number, 2 if a file is not of the right kind.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reelwright.model.checkpoint import compare_keys
from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError
from reelwright.model.text import pack_text

LIMIT = 1e-4
Error = tuple[str, float]


@dataclass(frozen=True)
class Vectors:
    """A vector file: metadata and tensors."""

    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> "Vectors":
        try:
            with safe_open(path, "pt") as file:
                meta = dict(json.loads((file.metadata() or {})["meta"]))
                return cls(meta, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read as safetensors ({error})") from None
        except (KeyError, TypeError, ValueError):
            raise ModelError(f"{path}: not a file of parity vectors (its metadata has no JSON called meta)") from None

    def __getitem__(self, name: str) -> Tensor:
        """A tensor that the file must have."""
        if name not in self.tensors:
            raise ModelError(f"the vector file has no tensor {name!r}; it has {', '.join(list(self.tensors)[:5])} …")
        return self.tensors[name]

    def told(self, name: str) -> dict[str, Any]:
        """A part of the metadata that must be there."""
        found = self.meta.get(name)
        if not isinstance(found, dict):
            raise ModelError(f"the vector file's metadata says no {name}, or not as a JSON object")
        return found

    def config(self) -> DiTConfig:
        """Of what the file says, as far as the network knows it."""
        sizes = {name: value for name, value in self.told("config").items() if name in DiTConfig.model_fields}
        try:
            return DiTConfig(**sizes)
        except ValidationError as error:
            reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ModelError(f"the vector file's config is not one of a network: {reasons}") from None

    def network(self, *, zero_pad: bool) -> DiT:
        """With the file's weights."""
        config, text_tokens = self.config(), self.inputs()[2].shape[1]
        model = DiT(config.model_copy(update={"text_tokens_zero_pad": zero_pad, "text_tokens": text_tokens}))
        weights = {name.removeprefix("w."): w for name, w in self.tensors.items() if name.startswith("w.")}
        compare_keys(model, {name: tuple(w.shape) for name, w in weights.items()}).check("the vector file")
        model.load_state_dict(weights)
        return model.eval()

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """x [B, C, T, H, W], t [B] or [B, T], text [B, L, D], mask [B, L]."""
        text, mask = self["y"], self.tensors.get("mask")
        text = text.squeeze(1) if text.ndim == 4 else text
        return self["x"], self["t"], text, None if mask is None else mask.reshape(text.shape[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="vector file with weights")
    parser.add_argument("--lora", type=Path, help="LoRA file in the published key format")
    parser.add_argument("--expect", type=Path, help="output with the LoRA on")
    options = parser.parse_args()
    if (options.lora is None) != (options.expect is None):
        parser.error("--lora and --expect go together")
    torch.set_num_threads(2)
    try:
        base = Vectors.read(options.base)
        if unknown := sorted(base.told("config").keys() - DiTConfig.model_fields.keys()):
            print(f"note: not known, so ignored, in the file's config: {', '.join(unknown)}", file=sys.stderr)
        with torch.no_grad():
            found = list(base_errors(base))
            if options.lora:
                found += lora_errors(base, options.lora, Vectors.read(options.expect))
    except ModelError as error:
        parser.exit(2, f"{error}\n")
    for name, largest_error in [*found, ("worst", worst(found))]:
        print(f"parity.{name} {largest_error:.3g}")
    sys.exit(0 if found and worst(found) <= LIMIT else 1)


def base_errors(base: Vectors) -> Iterator[Error]:
    """(case, largest absolute error)"""
    for name, case in base.told("cases").items():
        model = base.network(zero_pad=case.get("text_tokens_zero_pad", base.config().text_tokens_zero_pad))
        yield from _case_errors(model, base, name, case.get("num_cond_latents", 0), base)


def lora_errors(base: Vectors, lora: Path, expect: Vectors) -> Iterator[Error]:
    """Errors of the adapted network, with adapters beside the weights, and merged into them."""
    from reelwright.model.lora.adapters import load_lora, merge_lora

    clean, meta = expect.meta.get("num_cond_latents", 0), expect.meta
    model = base.network(zero_pad=meta.get("text_tokens_zero_pad", base.config().text_tokens_zero_pad))
    load_lora(model, lora, name="parity", weight=meta.get("multiplier", 1.0))
    for state in ("unmerged", "merged"):
        if state == "merged":
            merge_lora(model)
        for name, error in _case_errors(model, base, "out", clean, expect):
            yield f"lora_{state}.{name}", error


def _case_errors(model: DiT, base: Vectors, name: str, clean: int, expected: Vectors) -> Iterator[Error]:
    """Of the plain pass, and, with condition frames, of the pass against their cache, which gives the noisy frames."""
    x, t, text, mask = base.inputs()
    if t.ndim == 2:
        t = t * (torch.arange(t.shape[1]) >= clean)  # condition frames are at 0
    yield name, largest(model(x, t, text, mask, cond_frames=clean), expected[name])
    if mask is not None:
        packed = pack_text([states[keep.bool()] for states, keep in zip(text, mask, strict=True)], text.shape[1])
        yield f"{name}_packed", largest(model(x, t, packed, cond_frames=clean), expected[name])
    if clean:
        cache, late = model.cache(x[:, :, :clean]), t if t.ndim == 1 else t[:, clean:]
        out = model(x[:, :, clean:], late, text, mask, cache=cache)
        yield f"{name}_cached", largest(out, expected[name][:, :, clean:])
        if f"{name}_kvcache" in expected.tensors:
            yield f"{name}_kvcache", largest(out, expected[f"{name}_kvcache"])


def largest(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference; infinite where shapes differ."""
    return (found - expected).abs().max().item() if found.shape == expected.shape else float("inf")


def worst(found: list[Error]) -> float:
    """The largest error; not a number if any is not."""
    return torch.tensor([error for _, error in found] or [float("nan")]).max().item()


if __name__ == "__main__":
    main()
