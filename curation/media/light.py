"""Static metadata of HDR (SMPTE ST 2086, CTA-861.3) from a decoded frame into a clip, as x264's parameters.

x264 writes them as SEI messages of ITU-T H.264, where players and ffmpeg look; PyAV has no way to have the mp4's
own boxes (`mdcv`, `clli`) written besides.
"""

import struct
from collections.abc import Mapping

CHROMATICITY, LUMINANCE = 50_000, 10_000  # steps per unit of colour and per cd/m²: H.264, annex D
MASTERING_BYTES = 88  # of libavutil's AVMasteringDisplayMetadata: 10 fractions, and whether colours and light are known
NAMES = ("R", "G", "B", "WP")
ORDER = ("G", "B", "R", "WP")  # in which x264 takes them


def x264_light(side_data: Mapping[str, bytes]) -> list[str]:
    """Return x264's parameters for the mastering display and the content's light level that a frame names.

    Args:
        side_data: as `decode.side_data_of` gives it.

    Returns:
        `name=value` each, without a colon; none where nothing usable is named.
    """
    light = side_data.get("CONTENT_LIGHT_LEVEL", b"")
    return [
        *_mastering_display(side_data.get("MASTERING_DISPLAY_METADATA", b"")),
        *(["cll={},{}".format(*struct.unpack_from("<II", light))] if len(light) >= 8 and any(light[:8]) else []),
    ]


def _mastering_display(data: bytes) -> list[str]:
    if len(data) < MASTERING_BYTES:
        return []
    *fractions, has_colours, has_light = struct.unpack_from("<22i", data)
    pairs = list(zip(fractions[::2], fractions[1::2], strict=True))
    if not (has_colours and has_light and all(under > 0 and over >= 0 for over, under in pairs)):
        return []  # the message has no way to leave one of them out
    steps = [
        round(over * scale / under)
        for (over, under), scale in zip(pairs, 8 * [CHROMATICITY] + 2 * [LUMINANCE], strict=True)
    ]
    if max(steps[:8]) > CHROMATICITY or max(steps[8:]) >= 1 << 31:
        return []
    at = {name: f"{name}({x},{y})" for name, x, y in zip(NAMES, steps[:8:2], steps[1:8:2], strict=True)}
    return [f"mastering-display={''.join(at[name] for name in ORDER)}L({steps[9]},{steps[8]})"]
