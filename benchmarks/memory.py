"""Peak memory of a worker on a long file: a 2-hour 1080p film is scanned whole, and clips are cut all over it.

The film is a minute of moving pictures, looped by copying its packets. Part of `python -m benchmarks.scale`.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import av
import cv2
import ffmpeg
import imageio_ffmpeg
import numpy as np
import psutil

from reelwright.curation.clips import plan_clips
from reelwright.curation.media.sandbox import Sandbox
from reelwright.curation.scan import scan_from_json
from reelwright.pipelines.recipes.curation import CurateRecipe

WIDTH, HEIGHT, FPS, LOOP_S = 1920, 1080, 24, 60
SHOT_S = 5
CUTS = 12  # clips cut, spread over the film: a cut's memory does not depend on how many came before


def memory_rows(folder: Path, hours: float) -> Iterator[tuple[str, float]]:
    """(name, value): peak resident memory of the sandbox and of the worker process around it."""
    film = loop(minute(folder / "minute.mp4"), folder / "film.mp4", hours * 3600)
    recipe = CurateRecipe()
    sandbox = Sandbox(memory_bytes=recipe.limits.memory_mib << 20)
    work = {"shots": recipe.shots.model_dump(), "borders": recipe.borders.model_dump()}
    arguments = {"uri": str(film), "max_frames": recipe.limits.max_frames, **work}
    reply = sandbox.call("reelwright.pipelines.curate.workers.sandboxed:scan_source", arguments)
    scan = scan_from_json(reply.value, reply.blobs[0])
    yield "memory.film_hours", scan.timing.num_frames / scan.timing.fps / 3600
    yield "memory.film_frames", scan.timing.num_frames
    yield "memory.film_shots", len(scan.shots)
    yield "memory.scan_peak_mib", sandbox.peak_rss_bytes / 2**20
    clips = plan_clips("0" * 32, scan, recipe.clips)
    chosen = clips[:: max(1, len(clips) // CUTS)]
    for clip in chosen:
        sandbox.call(
            "reelwright.pipelines.curate.workers.sandboxed:cut_source",
            {
                "uri": str(film),
                "specs": [asdict(clip.spec)],
                "rate": str(scan.timing.rate),
                "encode": recipe.encode.model_dump(),
                "annotators": recipe.annotator_params(),
            },
        )
    yield "memory.clips_cut", len(chosen)
    yield "memory.worker_peak_mib", (sandbox.peak_rss_bytes + psutil.Process().memory_info().rss) / 2**20
    sandbox.close()


def minute(path: Path) -> Path:
    """A minute of 1080p film: shots of textures that drift, cut hard."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as file:
        stream = file.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for _ in range(LOOP_S // SHOT_S):
            small = rng.integers(0, 255, (34, 60, 3)).astype(np.uint8)
            picture = cv2.resize(small, (WIDTH + 240, HEIGHT), interpolation=cv2.INTER_CUBIC)
            for i in range(FPS * SHOT_S):
                frame = np.ascontiguousarray(picture[:, 2 * i : 2 * i + WIDTH])
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return path


def loop(source: Path, path: Path, seconds: float) -> Path:
    """The file's packets over and over, without encoding again."""
    repeats = max(0, round(seconds / LOOP_S) - 1)
    command = ffmpeg.input(str(source), stream_loop=repeats).output(str(path), c="copy")
    command.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), quiet=True, overwrite_output=True)
    return path
