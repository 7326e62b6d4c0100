"""What a forward of Qwen2-VL costs, for plans: operations and bytes from the sizes of its layers."""

from __future__ import annotations

from dataclasses import dataclass

PATCH_NUMBERS = 3 * 2 * 14 * 14  # of a patch: colours, frames, pixels
MERGED = 4  # patches of a token


@dataclass(frozen=True)
class QwenSize:
    """Layers of a Qwen2-VL.

    width, layers, inner: of the language model; pair: of keys and of values; words: of its vocabulary. seen, depth: of
    the vision tower, whose layers are four times as wide inside.
    """

    width: int
    layers: int
    inner: int
    pair: int
    words: int
    seen: int = 1280
    depth: int = 32

    @property
    def layer_numbers(self) -> int:
        """Weights of the language model's matrices that every token goes through."""
        return self.layers * self.width * (2 * self.width + 2 * self.pair + 3 * self.inner)

    @property
    def patch_numbers(self) -> int:
        """Weights of the vision tower's matrices that every patch goes through."""
        return PATCH_NUMBERS * self.seen + 12 * self.depth * self.seen**2

    @property
    def merger_numbers(self) -> int:
        """Weights that join four patches to a token."""
        return MERGED * self.seen * (MERGED * self.seen + self.width)

    @property
    def model_bytes(self) -> int:
        """Bytes of the weights in bf16, without the layer that predicts words."""
        return 2 * (self.words * self.width + self.layer_numbers + self.patch_numbers + self.merger_numbers)

    def forward_flops(self, *, pictures: int, patches: int, text: int) -> float:
        """Count the FLOPs of a forward, attention as if it were not causal.

        Args:
            pictures: that it sees, or pairs of frames of a video.
            patches: of each.
            text: tokens around them.
        """
        tokens = pictures * patches // MERGED
        length = tokens + text
        matrices = self.layer_numbers * length + self.patch_numbers * pictures * patches + self.merger_numbers * tokens
        attention = self.layers * self.width * length**2 + self.depth * self.seen * pictures * patches**2
        return 2.0 * matrices + 4.0 * attention


QWEN2_VL_7B = QwenSize(width=3584, layers=28, inner=18944, pair=512, words=152064)
QWEN2_VL_2B = QwenSize(width=1536, layers=28, inner=8960, pair=256, words=151936)
