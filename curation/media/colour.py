"""A frame's colour tags (ITU-T H.273), in ffmpeg's words, and conversions that keep pixels and tags in agreement."""

from dataclasses import dataclass
from typing import Any

MATRICES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020", 10: "smpte428",
    11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
TRANSFERS = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "linear", 11: "iec61966-2-4",
    12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 17: "smpte428",
    18: "arib-std-b67",
}  # fmt: skip
RANGES = {1: "tv", 2: "pc"}
BT709, BT2020, UNSPECIFIED, LIMITED, FULL = 1, 9, 2, 1, 2
PQ, HLG = 16, 18
HDR_KINDS = {PQ: "pq", HLG: "hlg"}


@dataclass(frozen=True)
class Colour:
    """Colour tags of a frame: numbers of H.273; `range` 0 unspecified, 1 limited, 2 full. is_rgb: it has no matrix."""

    matrix: int
    primaries: int
    transfer: int
    range: int
    depth: int
    is_rgb: bool
    has_alpha: bool

    @property
    def hdr(self) -> str:
        """Kind of its transfer: pq, hlg, else sdr."""
        return HDR_KINDS.get(self.transfer, "sdr")

    def names(self) -> dict[str, Any]:
        """Columns of a source or clip: ffmpeg's words, None where unspecified."""
        return {
            "color_matrix": "gbr" if self.is_rgb else MATRICES.get(self.matrix),
            "color_primaries": PRIMARIES.get(self.primaries),
            "color_transfer": TRANSFERS.get(self.transfer),
            "color_range": RANGES.get(self.range),
            "bit_depth": self.depth,
        }


def colour_of(frame: Any) -> Colour:
    """Read a decoded frame's tags. RGB and yuvj formats are full range, whatever their tags say."""
    format = frame.format
    is_rgb = bool(format.is_rgb or format.has_palette)
    is_full = is_rgb or format.name.startswith("yuvj")
    return Colour(
        matrix=0 if is_rgb else int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        range=FULL if is_full else int(frame.color_range),
        depth=max((component.bits for component in format.components), default=8),
        is_rgb=is_rgb,
        has_alpha=any(component.is_alpha for component in format.components) or format.has_palette,
    )


def state_range(frame: Any) -> None:
    """Mark a YUV frame that names no range as limited, in place, which is how swscale reads it.

    Without the mark, libavfilter would convert from unspecified to limited, pixel by pixel to the same values.
    """
    format = frame.format
    is_yuv = len(format.components) >= 3 and not format.is_rgb and not format.name.startswith("yuvj")
    if is_yuv and int(frame.color_range) == 0:
        frame.color_range = LIMITED


def hdr_kind(frame: Any, side_data: dict[str, bytes]) -> str:
    """Kind of HDR of a source's frame: dolby_vision, hdr10plus, pq, hlg; sdr where nothing says otherwise."""
    if side_data.keys() & {"DOVI_METADATA", "DOVI_RPU_BUFFER"}:
        return "dolby_vision"
    if "DYNAMIC_HDR_PLUS" in side_data:
        return "hdr10plus"
    return colour_of(frame).hdr


def alike(frame: Any, size: tuple[int, int], format: str, colour: Colour) -> Any:
    """Convert `frame` to this size, pixel format, matrix and range; return the very frame where nothing differs.

    A stream may change them half-way, and a filter graph may not.
    """
    from av.video.reformatter import Interpolation

    own = colour_of(frame)
    same_colour = own.is_rgb or (own.matrix, own.range) == (colour.matrix, colour.range)
    if (frame.width, frame.height, frame.format.name) == (*size, format) and same_colour:
        return frame
    wanted: dict[str, int] = {}
    if not colour.is_rgb and not (own.matrix == colour.matrix == UNSPECIFIED):
        wanted = {"dst_colorspace": _as_swscale(colour.matrix), "dst_color_range": colour.range or LIMITED}
        if own.matrix == UNSPECIFIED:
            wanted["src_colorspace"] = _as_swscale(UNSPECIFIED)
    how = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
    made = frame.reformat(*size, format, interpolation=how, threads=1, **wanted)
    made.pts, made.time_base, made.duration = frame.pts, frame.time_base, frame.duration
    if not colour.is_rgb:
        made.colorspace, made.color_range = colour.matrix, colour.range
    return made


def _as_swscale(matrix: int) -> int:
    """Return libswscale's number of a matrix: BT.601 is 5 there, and stands for an unspecified one."""
    return 5 if matrix in (UNSPECIFIED, 5, 6) else matrix
