"""Fresh cases of shots: long dark and white scenes, transitions in motion, windows, strobes, repeated frames."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from benchmarks.cases.fresh.bench import HEIGHT, WIDTH, Bench, Entry, encode, ffmpeg, maker

FPS = 25
SEEN = 12  # grey levels of 255 of a scene that can be seen in the other one
MOVING = (  # ffmpeg's xfade, in which one picture or both of them move, or the front has an odd shape
    "slideleft", "slideright", "slideup", "slidedown", "smoothleft", "smoothright", "smoothup", "smoothdown",
    "coverleft", "coverright", "coverup", "coverdown", "revealleft", "revealright", "revealup", "revealdown",
    "squeezeh", "squeezev", "circleopen", "circleclose", "radial", "diagtl", "hlslice", "vuslice", "zoomin",
)  # fmt: skip


def joined(bench: Bench, file: str, parts: Sequence[Sequence[np.ndarray]]) -> Entry:
    """A file of scenes with hard cuts between them."""
    encode(bench.out / file, [f for part in parts for f in part])
    edges = np.cumsum([len(p) for p in parts])[:-1].tolist()
    return {"file": file, "boundaries": [[e, e] for e in edges], "expect": "each scene is a shot"}


def starry(rng: np.random.Generator, frames: int) -> list[np.ndarray]:
    """A night sky: points that drift slowly over black, with noise."""
    sky = np.zeros((HEIGHT, 2 * WIDTH, 3), np.float32)
    for _ in range(60):
        y, x = rng.integers(4, HEIGHT - 4), rng.integers(4, 2 * WIDTH - 4)
        sky[y : y + 2, x : x + 2] = rng.uniform(80, 255)
    return [
        (sky[:, i // 4 : i // 4 + WIDTH] + rng.normal(2, 1, (HEIGHT, WIDTH, 1))).clip(0, 255).astype(np.uint8)
        for i in range(frames)
    ]


@maker
def dark_and_white(bench: Bench) -> Iterator[Entry]:
    """Scenes of 4 to 16 s that are dark, starry, black, white or of one colour, between bright ones."""
    rng = bench.rng
    for name in ("night", "starry", "black", "white", "grey"):
        length = int(rng.integers(4 * FPS, 16 * FPS))
        before, after = bench.pair(int(rng.integers(50, 90)), int(rng.integers(50, 90)))
        if name == "night":
            scene = [(f * 0.06).astype(np.uint8) for f in bench.scene(length, moving=False).frames]
        elif name == "starry":
            scene = starry(rng, length)
        else:
            level = {"black": 1, "white": 252, "grey": 120}[name]
            scene = [np.full((HEIGHT, WIDTH, 3), level, np.uint8)] * length
        yield joined(bench, f"02_{name}_{length / FPS:.0f}s.mp4", [before, scene, after])


@maker
def moving_transitions(bench: Bench) -> Iterator[Entry]:
    """Transitions in which pictures move, 10 to 40 frames long."""
    for name in bench.rng.choice(MOVING, 8, replace=False):
        length, before, after = (int(bench.rng.integers(*r)) for r in ((10, 41), (60, 100), (60, 100)))
        a, b = bench.pair(before + length, after + length)
        first, second = encode(bench.out / "a.mkv", a, "-c:v", "ffv1"), encode(bench.out / "b.mkv", b, "-c:v", "ffv1")
        file = f"10_{name}_{length}.mp4"
        mixed = [before + frame for frame in _mixed(name, length)]
        fade = f"[0][1]xfade=transition={name}:duration={length / FPS}:offset={before / FPS}"
        out = ("-filter_complex", fade, "-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p")
        ffmpeg("-i", first, "-i", second, *out, bench.out / file)
        first.unlink()
        second.unlink()
        yield {"file": file, "boundaries": [mixed], "expect": "a gradual transition"}


def _mixed(name: str, length: int) -> tuple[int, int]:
    """First and last frame of an xfade that show both scenes: seen where it goes from black to white.

    At 0 it shows the first scene alone and at `length` the second; soft fronts are in the picture for less than that.
    """
    if name == "zoomin":  # it moves the first scene before it mixes, which black does not show
        return 1, length - 1
    flat = (f"color={level}:s={WIDTH}x{HEIGHT}:r={FPS}:d={length / FPS + 0.2}" for level in ("black", "white"))
    inputs = [part for colour in flat for part in ("-f", "lavfi", "-i", colour)]
    fade = f"[0][1]xfade=transition={name}:duration={length / FPS}:offset=0,format=gray"
    raw = ffmpeg(*inputs, "-filter_complex", fade, "-frames:v", str(length + 1), "-f", "rawvideo", "-")
    frames = np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT * WIDTH)
    both = np.flatnonzero((frames.max(1) > SEEN) & (frames.min(1) < 255 - SEEN))
    return int(both[0]), int(both[-1])


@maker
def windowed(bench: Bench) -> Iterator[Entry]:
    """Dissolves in a window that fills about half of the picture, beside a still studio graphic."""
    scenes = [bench.scene(90).frames for _ in range(3)]
    frame = np.full((HEIGHT, WIDTH, 3), (30, 40, 90), np.uint8)
    cv2.putText(frame, "EVENING NEWS", (12, HEIGHT - 20), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (240, 240, 240), 2)
    x, y, w, h = 150, 12, 312, 200
    length = int(bench.rng.integers(12, 25))
    out, boundaries = [], []
    for number, scene in enumerate(scenes):
        begin = length if number else 0
        if number:
            boundaries.append([len(out), len(out) + length - 1])
            for i in range(length):
                share = (i + 1) / (length + 1)
                out.append(cv2.addWeighted(scenes[number - 1][60 + i], 1 - share, scene[i], share, 0))
        out += scene[begin:60]
    framed = []
    for picture in out:
        shown = frame.copy()
        shown[y : y + h, x : x + w] = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
        framed.append(shown)
    encode(bench.out / "29_window.mp4", framed)
    yield {"file": "29_window.mp4", "boundaries": boundaries, "expect": "dissolves inside the window are found"}


@maker
def strobes(bench: Bench) -> Iterator[Entry]:
    """Flashes over one take: white, black and both, at several rates."""
    for name, period, levels in (("white", 5, (255,)), ("black", 3, (0,)), ("both", 2, (255, 0))):
        frames = [f.copy() for f in bench.scene(120).frames]
        for i in range(30, 90):
            if i % period == 0:
                level = levels[(i // period) % len(levels)]
                frames[i] = cv2.addWeighted(frames[i], 0.15, np.full_like(frames[i], level), 0.85, 0)
        encode(bench.out / f"28_strobe_{name}.mp4", frames)
        yield {"file": f"28_strobe_{name}.mp4", "boundaries": [], "expect": "no boundary"}


@maker
def repeats(bench: Bench) -> Iterator[Entry]:
    """Fast pans whose frames come two to four times each, with and without a cut between two of them."""
    for times in (2, 3, 4):
        scenes = [_fast_pan(bench, 60), _fast_pan(bench, 50)][: int(bench.rng.integers(1, 3))]
        frames = [f for scene in scenes for f in scene for _ in range(times)]
        encode(bench.out / f"34_stutter_x{times}.mp4", frames)
        cuts = [[60 * times, 60 * times]] if len(scenes) == 2 else []
        yield {"file": f"34_stutter_x{times}.mp4", "boundaries": cuts, "expect": "repeated frames are collapsed"}


def _fast_pan(bench: Bench, frames: int) -> list[np.ndarray]:
    wide = np.concatenate([bench.scene(1, moving=False).frames[0]] * 2, 1)
    wide = np.concatenate([wide[:, :WIDTH], wide[:, WIDTH - 1 :: -1]], 1)  # mirrored: no seam
    wide = np.concatenate([wide] * 3, 1)
    speed = int(bench.rng.integers(10, 18))
    return [wide[:, i * speed : i * speed + WIDTH] for i in range(frames)]
