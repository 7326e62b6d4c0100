"""A stand-in for an aesthetics model, of measured composition, colour, contrast, sharpness and exposure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Frames
from reelwright.annotate.picture.measures import measures

FLOOR = 0.02  # of a factor: one that is nil pulls the score down, but lets the others be seen


class AestheticStandin(Annotator):
    """Not the LAION score and no opinion of anybody's: the geometric mean of five measures from 0 to 1, none of them
    trained, so that a clip has to do well on all. It ranks the dark, flat, blurred and washed-out last; it does not
    know what a picture shows. `aesthetics` has the model.

    Mean over frames of (exposure · contrast · colour · sharpness · composition) ^ 1/5:
    exposure: mean of exp(-(y - 0.5)² / 2 · 0.2²) over the pixels' greys (Mertens et al., 2007).
    contrast: width of the middle 98 % of the greys (Ke et al., 2006), times their entropy of 8 bits: a title on a plain
        ground has two greys far apart, and no more.
    colour: Hasler & Süsstrunk's M (2003) of 82, highly colourful, at most 1; half of the measure, as black and white is
        a style: (1 + M / 82) / 2.
    sharpness: one less Crété-Roffet's blur (2007), of the sharpest third of the frame.
    composition: mean of how simple it is (one less the area that holds the middle 90 % of the edges, after Ke et al.)
        and how near what stands out (spectral residual: Hou & Zhang, 2007) lies to where the lines of thirds cross.
    """

    name, version = "aesthetic_standin", 1
    needs = Frames(count=5, height=256, color="rgb")
    columns = {
        "aesthetic_standin_score": Column(
            pa.float32(),
            "stand-in of composition, colour, contrast, sharpness and exposure; NOT the LAION aesthetic score",
            "0 to 1",
        )
    }

    def __call__(self, frames: np.ndarray) -> dict[str, Any]:
        """frames: uint8 [T, H, W, 3]."""
        return {"aesthetic_standin_score": float(np.mean([_score(frame) for frame in frames]))}


def _score(rgb: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(np.maximum(list(measures(rgb).values()), FLOOR)))))
