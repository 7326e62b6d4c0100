"""Fresh cases of colour: patches over matrix, range, depth and subsampling; reserved tags; alpha; interlacing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.cases.fresh.bench import HEIGHT, WIDTH, Bench, Entry, encode, ffmpeg, maker
from benchmarks.cases.oracle import WEIGHTS

PATCH = 80
TAGS = {
    "bt709": ("bt709", "bt709", "bt709"), "smpte170m": ("smpte170m", "smpte170m", "smpte170m"),
    "bt470bg": ("bt470bg", "bt470bg", "gamma28"), "bt2020nc": ("bt2020nc", "bt2020", "bt2020-10"),
    "pq": ("bt2020nc", "bt2020", "smpte2084"), "hlg": ("bt2020nc", "bt2020", "arib-std-b67"),
}  # fmt: skip
CODECS = {  # name -> options, suffix, depths, subsamplings
    "h264": (("-c:v", "libx264", "-crf", "8"), "mp4", (8, 10), ("420", "422", "444")),
    "hevc": (("-c:v", "libx265", "-crf", "8", "-x265-params", "log-level=error"), "mp4", (8, 10), ("420", "422")),
    "prores": (("-c:v", "prores_ks"), "mov", (10,), ("422",)),
    "vp9": (("-c:v", "libvpx-vp9", "-crf", "8", "-b:v", "0"), "webm", (8, 10), ("420",)),
    "ffv1": (("-c:v", "ffv1"), "mkv", (8, 10), ("420", "422", "444")),
}


def patches(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Saturated, pure and grey patches, uint8 RGB [H, W, 3]."""
    rows, columns = -(-height // PATCH), -(-width // PATCH)
    colours = rng.integers(0, 256, (rows * columns, 3), np.uint8)
    pure = [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 0),
        (0, 255, 255),
        (255, 0, 255),
        (0, 0, 0),
        (255, 255, 255),
    ]
    colours[: len(pure)] = pure
    rng.shuffle(colours)
    grid = np.kron(colours.reshape(rows, columns, 3), np.ones((PATCH, PATCH, 1), np.uint8))
    return grid[:height, :width]


def write_tagged(path: Path, picture: np.ndarray, tags: str, full: bool, depth: int, sub: str, options: tuple) -> None:
    """Encode 30 frames of a picture whose YUV values are worked out here, by H.273, and tagged as they are."""
    matrix, primaries, transfer = TAGS[tags]
    kr, kb = WEIGHTS[matrix]
    rgb = picture.astype(np.float64) / 255
    y = kr * rgb[..., 0] + (1 - kr - kb) * rgb[..., 1] + kb * rgb[..., 2]
    cb, cr = (rgb[..., 2] - y) / (2 * (1 - kb)), (rgb[..., 0] - y) / (2 * (1 - kr))
    top = (1 << depth) - 1
    if full:
        planes = [y * top, cb * top + (top + 1) / 2, cr * top + (top + 1) / 2]
    else:
        unit = 1 << (depth - 8)
        planes = [(16 + 219 * y) * unit, (128 + 224 * cb) * unit, (128 + 224 * cr) * unit]
    dx, dy = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}[sub]
    height, width = y.shape
    halves = [p.reshape(height // dy, dy, width // dx, dx).mean((1, 3)) for p in planes[1:]]
    kind = np.uint8 if depth == 8 else np.uint16
    frame = b"".join(np.rint(p).clip(0, top).astype(kind).tobytes() for p in (planes[0], *halves))
    pixels = f"yuv{sub}p" + ("10le" if depth == 10 else "")
    named = ("-colorspace", matrix, "-color_primaries", primaries, "-color_trc", transfer,
             "-color_range", "pc" if full else "tv")  # fmt: skip
    raw = ("-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{width}x{height}", "-r", "25", *named, "-i", "-")
    ffmpeg(*raw, *options, "-pix_fmt", pixels, *named, path, data=frame * 30)


@maker
def tagged(bench: Bench) -> Iterator[Entry]:
    """Eight draws of tags, range, codec, depth, subsampling and size; PQ and HLG among them."""
    sizes = [(1280, 720), (640, 480), (1920, 1080), (480, 320), (2560, 1440)]
    wanted = ["bt709", "pq", "hlg", *bench.rng.choice(list(TAGS), 5)]
    for number, tags in enumerate(wanted):
        name = str(bench.rng.choice(list(CODECS))) if tags not in ("pq", "hlg") else "hevc"
        options, suffix, depths, subs = CODECS[name]
        depth = 10 if tags in ("pq", "hlg") else int(bench.rng.choice(depths))
        sub = str(bench.rng.choice(subs))
        full = bool(bench.rng.random() < 0.3) and name in ("h264", "hevc", "ffv1")
        width, height = sizes[int(bench.rng.integers(len(sizes)))]
        file = f"01_{number}_{tags}_{name}_{depth}bit_{sub}_{'pc' if full else 'tv'}.{suffix}"
        write_tagged(bench.out / file, patches(bench.rng, width, height), tags, full, depth, sub, options)
        yield {"file": file, "expect": "colours within 3 of 255; tags as columns"}


@maker
def rgb_source(bench: Bench) -> Iterator[Entry]:
    """RGB in QuickTime Animation: converted to a matrix that the clip names."""
    picture = patches(bench.rng, WIDTH, HEIGHT)
    encode(bench.out / "12_rgb_qtrle.mov", [picture] * 30, "-c:v", "qtrle", "-pix_fmt", "rgb24")
    yield {"file": "12_rgb_qtrle.mov", "expect": "colours within 3 of 255"}


@maker
def odd_tags(bench: Bench) -> Iterator[Entry]:
    """Reserved and unusual matrices, written by a bit stream filter: read as unspecified or converted, never lost."""
    for number in bench.rng.choice([3, 8, 10, 11, 12, 13, 14, 15, 200], 3, replace=False):
        file = f"12_matrix_{number}.mp4"
        plain = encode(bench.out / "plain.mp4", bench.scene(60).frames)
        others = f"colour_primaries={number % 23}:transfer_characteristics={number % 19}"
        tags = f"h264_metadata=matrix_coefficients={number}:{others}"
        ffmpeg("-i", plain, "-c", "copy", "-bsf:v", tags, bench.out / file)
        plain.unlink()
        yield {"file": file, "expect": "decoded and cut"}


@maker
def alpha(bench: Bench) -> Iterator[Entry]:
    """Transparency in VP9 and in ProRes 4444, with hidden colours under it."""
    scene = bench.scene(40).frames
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[60:200, 100:360] = True
    pixels = b"".join(np.dstack([f, np.where(mask, 255, 0).astype(np.uint8)]).tobytes() for f in scene)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{WIDTH}x{HEIGHT}", "-r", "25", "-i", "-")
    for file, options in {
        "27_alpha_vp9_fresh.webm": (
            "-c:v",
            "libvpx-vp9",
            "-pix_fmt",
            "yuva420p",
            "-auto-alt-ref",
            "0",
            "-crf",
            "20",
            "-b:v",
            "0",
        ),
        "27_alpha_prores.mov": ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"),
    }.items():
        ffmpeg(*raw, *options, bench.out / file, data=pixels)
        yield {"file": file, "expect": "composited on a stated colour, or marked"}


@maker
def interlaced(bench: Bench) -> Iterator[Entry]:
    """Combing without a flag, and a stream that becomes interlaced, with its flag, half-way."""
    moving = bench.scene(160, moving=False).frames
    shifted = [np.roll(f, 14 * i, 1) for i, f in enumerate(moving)]
    woven = []
    for even, odd in zip(shifted[::2], shifted[1::2], strict=True):
        frame = even.copy()
        frame[1::2] = odd[1::2]
        woven.append(frame)
    encode(bench.out / "15_woven_unflagged.mp4", woven)
    yield {"file": "15_woven_unflagged.mp4", "expect": "a column tells combing"}
    first = encode(bench.out / "a.ts", moving[:50], "-c:v", "mpeg2video", "-q:v", "3", "-f", "mpegts")
    flags = ("-c:v", "mpeg2video", "-q:v", "3", "-flags", "+ildct+ilme", "-vf", "setfield=tff", "-f", "mpegts")
    second = encode(bench.out / "b.ts", woven[:50], *flags)
    (bench.out / "15_then_interlaced.ts").write_bytes(first.read_bytes() + second.read_bytes())
    first.unlink()
    second.unlink()
    yield {"file": "15_then_interlaced.ts", "expect": "flagged frames deinterlaced wherever they come"}
