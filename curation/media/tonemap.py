"""HDR to SDR: a table of colours that libavfilter's `lut3d` applies, made by the standards' formulas.

PQ is decoded by SMPTE ST 2084, HLG by ITU-R BT.2100 with the system gamma of a display of 1,000 nits. Brightness is
compressed by BT.2390's EETF, applied to the largest of red, green and blue so that hues stay; BT.2020 becomes BT.709 in
linear light, and colours outside of it are clipped. Of SDR, full white is BT.2408's reference white.
"""

import functools
import math
import struct
from collections.abc import Mapping

import numpy as np

from reelwright.curation.media.colour import HLG

WHITE_NITS = 203.0  # HDR reference white: ITU-R BT.2408
USUAL_PEAK_NITS = 1000.0  # where a file does not name its brightest light
PEAK_NITS = 10_000.0
HLG_GAMMA = 1.2  # of a display of 1,000 nits: BT.2100, table 5
DISPLAY_GAMMA = 2.4  # ITU-R BT.1886
POINTS = 65  # per axis of the table, in the source's own coding, which is nearly uniform to the eye
M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
HLG_A, HLG_B, HLG_C = 0.17883277, 0.28466892, 0.55991073
LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])  # BT.2087


def pq_to_nits(signal: np.ndarray) -> np.ndarray:
    """ST 2084's EOTF: 0 to 1 -> 0 to 10,000 cd/m²."""
    root = np.power(signal, 1 / M2)
    return PEAK_NITS * np.power(np.maximum(root - C1, 0) / (C2 - C3 * root), 1 / M1)


def nits_to_pq(nits: np.ndarray) -> np.ndarray:
    """Invert `pq_to_nits`."""
    y = np.power(np.asarray(nits) / PEAK_NITS, M1)
    return np.power((C1 + C2 * y) / (1 + C3 * y), M2)


def hlg_to_nits(signal: np.ndarray) -> np.ndarray:
    """BT.2100's EOTF of a display of 1,000 nits: RGB [..., 3], 0 to 1 -> cd/m²."""
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - HLG_C) / HLG_A) + HLG_B) / 12)
    luma = scene @ LUMA_2020
    return USUAL_PEAK_NITS * np.power(luma, HLG_GAMMA - 1)[..., None] * scene


def compress(nits: np.ndarray, peak_nits: float) -> np.ndarray:
    """BT.2390's EETF from black to `peak_nits` down to WHITE_NITS; values darker than its knee stay."""
    top = float(nits_to_pq(np.asarray(peak_nits)))
    most = float(nits_to_pq(np.asarray(WHITE_NITS))) / top
    if most >= 1:
        return np.minimum(nits, WHITE_NITS)
    e = np.minimum(nits_to_pq(nits) / top, 1)
    knee = 1.5 * most - 0.5
    t = np.clip((e - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return pq_to_nits(np.where(e < knee, e, spline) * top)


def to_sdr(signal: np.ndarray, transfer: int, peak_nits: float = USUAL_PEAK_NITS) -> np.ndarray:
    """BT.2020 RGB [..., 3] of 0 to 1 in PQ or HLG -> BT.709 RGB of 0 to 1 for a display of BT.1886."""
    nits = hlg_to_nits(signal) if transfer == HLG else pq_to_nits(signal)
    largest = nits.max(-1, keepdims=True)
    scaled = nits * compress(largest, peak_nits) / np.maximum(largest, 1e-6)
    return np.power((scaled @ TO_BT709.T / WHITE_NITS).clip(0, 1), 1 / DISPLAY_GAMMA)


def peak_of(side_data: Mapping[str, bytes]) -> float:
    """Brightest light that a frame's metadata names, in nits: content's, else the mastering display's, else usual."""
    light = side_data.get("CONTENT_LIGHT_LEVEL", b"")
    mastering = side_data.get("MASTERING_DISPLAY_METADATA", b"")
    found = float(struct.unpack_from("<I", light)[0]) if len(light) >= 4 else 0.0
    if not found and len(mastering) >= 88:  # libavutil's struct: 8 fractions of colour, then darkest and brightest
        over, under, _, has_luminance = struct.unpack_from("<iiii", mastering, 72)
        found = over / under if has_luminance and under else 0.0
    return min(found, PEAK_NITS) if found > WHITE_NITS and math.isfinite(found) else USUAL_PEAK_NITS


@functools.lru_cache(maxsize=4)
def cube(transfer: int, peak_nits: float) -> str:
    """Return the table as the text of a .cube file, whose red runs fastest."""
    axis = np.linspace(0, 1, POINTS)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    table = to_sdr(np.stack([red, green, blue], -1).reshape(-1, 3), transfer, peak_nits)
    return f"LUT_3D_SIZE {POINTS}\n" + "".join(f"{r:.5f} {g:.5f} {b:.5f}\n" for r, g, b in table.tolist())
