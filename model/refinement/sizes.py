"""Sizes by aspect ratio, as the published sampler chooses them: the nearest label of a table of (height, width).

The tables are made by rule: per height, a multiple of `multiple`, the width that comes nearest to the area, and a
square; the label is height / width to two digits. The rule gives all published sizes that are known to us: 480×832
(.58), 704×1312 (.54), 736×1248 (.59), and with multiples of 64, 704×1280 (.55).
"""

import math
import re
from dataclasses import dataclass
from functools import cache

from reelwright.model.errors import ModelError

SIDES = {"480p": 627, "720p": 960}
"""Side in pixels of the square with the area of a size class."""

MULTIPLE = 32  # of the sizes that are sampled from noise
REFINED_MULTIPLE = 64  # 8 of the VAE × 2 of the patch × 4 of the attention's block
WIDEST = 4.0  # largest ratio of the sides


@dataclass(frozen=True)
class Size:
    """In pixels."""

    height: int
    width: int

    @property
    def label(self) -> float:
        """Height over width, to two digits."""
        return round(self.height / self.width, 2)


@cache
def aspect_table(side: int, multiple: int = REFINED_MULTIPLE) -> tuple[Size, ...]:
    """Return the sizes of about side² pixels, from wide to tall.

    Args:
        side: of the square of that area, pixels.
        multiple: of height and width.

    Raises:
        ModelError: the side is smaller than `multiple`.
    """
    if side < multiple:
        raise ModelError(f"no size of {side}×{side} pixels has sides that are multiples of {multiple}")
    wide = []
    for height in range(multiple, side + multiple, multiple):
        width = math.ceil(side * side / height / multiple - 0.5) * multiple  # a tie: the smaller
        if height < width <= WIDEST * height:
            wide.append(Size(height, width))
    equal = round(side / multiple) * multiple
    return (*wide, Size(equal, equal), *(Size(size.width, size.height) for size in reversed(wide)))


def nearest_size(height: int, width: int, side: int, multiple: int = REFINED_MULTIPLE) -> Size:
    """Return the size whose label is nearest to height / width."""
    return min(aspect_table(side, multiple), key=lambda size: abs(size.label - height / width))


def refined_size(height: int, width: int, to: str = "720p", *, multiple: int = REFINED_MULTIPLE) -> Size:
    """Return the size that a video of the first stage is refined to.

    Args:
        height: of the first stage, pixels.
        width: of the first stage, pixels.
        to: a size class (480p, 720p, or any such as 128p: of as many pixels as a square of that side), or WIDTHxHEIGHT.
        multiple: of height and width.

    Raises:
        ModelError: `to` is no size, or its sides do not divide.
    """
    if exact := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", to):
        size = Size(int(exact[2]), int(exact[1]))
        if size.height % multiple or size.width % multiple:
            raise ModelError(f"{to} cannot be refined to: width and height must be multiples of {multiple}")
        return size
    if not re.fullmatch(r"[1-9]\d*p", to):
        raise ModelError(f"{to!r} is no size to refine to; name a class (720p) or WIDTHxHEIGHT")
    return nearest_size(height, width, SIDES.get(to, int(to[:-1])), multiple)
