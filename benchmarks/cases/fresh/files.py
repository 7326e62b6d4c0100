"""Fresh cases of files: which stream, what times, what damage, what sound, odd shapes."""

from collections.abc import Iterator

import cv2
import numpy as np

from benchmarks.cases.fresh.bench import Bench, Entry, encode, ffmpeg, maker

H264 = ("-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")


@maker
def streams(bench: Bench) -> Iterator[Entry]:
    """A small or one-frame track before the real one; two programmes of a transport stream."""
    scene = bench.scene(125).frames
    small = [cv2.resize(f, (160, 90), interpolation=cv2.INTER_AREA) for f in scene]
    main = encode(bench.out / "main.mp4", scene)
    preview = encode(bench.out / "preview.mp4", small)
    thumbnail = encode(bench.out / "thumb.mov", scene[:1], "-c:v", "mjpeg")
    two = ("-map", "0:v", "-map", "1:v", "-c", "copy")
    marks = ("-disposition:v:0", "0", "-disposition:v:1", "default")
    ffmpeg("-i", preview, "-i", main, *two, *marks, bench.out / "03_preview_then_default.mkv")
    ffmpeg("-i", thumbnail, "-i", main, *two, bench.out / "03_thumbnail_first.mov")
    ffmpeg("-i", preview, "-i", main, *two, "-f", "mpegts", bench.out / "03_two_programmes.ts")
    for path in (main, preview, thumbnail):
        path.unlink()
    for file in ("03_preview_then_default.mkv", "03_thumbnail_first.mov", "03_two_programmes.ts"):
        yield {"file": file, "expect": "the real video track; the other is noted"}


@maker
def rates(bench: Bench) -> Iterator[Entry]:
    """H.264 copied into AVI; a hold of seconds before a cut; slides that stand for long."""
    fps = int(bench.rng.choice([24, 25, 30]))
    plain = encode(bench.out / "plain.mp4", bench.scene(4 * fps).frames, *H264, "-bf", "2", fps=fps)
    ffmpeg("-i", plain, "-c", "copy", bench.out / "07_copied_into.avi")
    plain.unlink()
    yield {"file": "07_copied_into.avi", "expect": f"{fps} fps, 4 s"}
    hold = int(bench.rng.integers(6, 14))
    a, b = bench.pair(90, 90)
    times = [i / 25 for i in range(90)] + [90 / 25 + hold + i / 25 for i in range(90)]
    _variable(bench, "13_hold.mp4", a + b, times)
    yield {"file": "13_hold.mp4", "boundaries": [[90, 90]], "expect": "clips.fps 25 on both sides"}
    slides = [bench.scene(1, moving=False).frames[0] for _ in range(6)]
    _variable(bench, "32_slides.mp4", slides, [i * 60.0 for i in range(6)])
    yield {"file": "32_slides.mp4", "clips": 0, "expect": "obeys clips.max_s, or is a still by its column"}


def _variable(bench: Bench, file: str, frames: list[np.ndarray], times: list[float]) -> None:
    """Encode at a variable rate: by a concat list of pictures."""
    lines = ["ffconcat version 1.0"]
    for i, picture in enumerate(frames):
        cv2.imwrite(str(bench.out / f"f{i:04}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        seconds = times[i + 1] - times[i] if i + 1 < len(times) else times[i] - times[i - 1]
        lines += [f"file f{i:04}.png", f"duration {seconds:.6f}"]
    listed = bench.out / "frames.ffconcat"
    listed.write_text("\n".join(lines))
    ffmpeg("-i", listed, *H264, "-fps_mode", "passthrough", "-enc_time_base", "1:90000", bench.out / file)
    for path in [listed, *bench.out.glob("f????.png")]:
        path.unlink()


@maker
def damage(bench: Bench) -> Iterator[Entry]:
    """Flipped bits, and a stretch of packets that is gone."""
    plain = encode(bench.out / "plain.ts", bench.scene(150).frames, *H264, "-g", "50", "-f", "mpegts")
    data = np.frombuffer(plain.read_bytes(), np.uint8).copy()
    plain.unlink()
    broken = data.copy()
    packets = np.arange(len(data) // 188)
    for packet in bench.rng.choice(packets[len(packets) // 4 :], 12, replace=False):
        broken[packet * 188 + int(bench.rng.integers(20, 180))] ^= 1 << int(bench.rng.integers(8))
    (bench.out / "08_flipped.ts").write_bytes(broken.tobytes())
    yield {"file": "08_flipped.ts", "expect": "corrupt frames are counted"}
    begin = len(packets) * 2 // 5 * 188
    (bench.out / "08_gone.ts").write_bytes(np.concatenate([data[:begin], data[begin + len(data) // 4 // 188 * 188 :]]))
    yield {"file": "08_gone.ts", "expect": "the clip ends at the hole, or says that it has one"}


@maker
def false_keyframes(bench: Bench) -> Iterator[Entry]:
    """Every packet is marked as a keyframe, since the table that says which are has gone."""
    scene = [cv2.resize(f, (160, 90), interpolation=cv2.INTER_AREA) for f in bench.scene(180, moving=False).frames]
    swings = [np.roll(f, i // 2, 1) for i, f in enumerate((scene + scene[::-1]) * 4)]
    plain = encode(bench.out / "plain.mp4", swings, "-c:v", "mpeg4", "-q:v", "3", "-g", "120", fps=12)
    data = plain.read_bytes()
    plain.unlink()
    (bench.out / "23_no_key_table.mp4").write_bytes(data.replace(b"stss", b"free"))
    yield {"file": "23_no_key_table.mp4", "expect": "clips begin with the source's frames"}


@maker
def sounds(bench: Bench) -> Iterator[Entry]:
    """Damaged sound; a layout that changes; sound that begins late."""
    scene = bench.scene(90).frames
    picture = encode(bench.out / "picture.mp4", scene, fps=30)
    copied = ("-c:v", "copy", "-c:a", "aac", "-t", "3")
    whole = bench.out / "whole.ts"
    ffmpeg("-i", picture, *SOUND, *copied, "-f", "mpegts", whole)
    five = bench.out / "five.ts"
    ffmpeg("-i", picture, *SOUND, *copied, "-ac", "6", "-f", "mpegts", five)
    (bench.out / "14_mono_then_51.ts").write_bytes(whole.read_bytes() + five.read_bytes())
    ffmpeg("-i", picture, "-itsoffset", "1.2", *SOUND, *copied, bench.out / "14_late.mp4")
    ffmpeg("-i", picture, *SOUND, *copied, bench.out / "14_damaged.mp4")
    data = bytearray((bench.out / "14_damaged.mp4").read_bytes())
    start, end = data.index(b"mdat"), len(data) - 4000
    for at in bench.rng.integers(start + (end - start) * 3 // 4, end, 60):
        data[int(at)] ^= 0x5A
    (bench.out / "14_damaged.mp4").write_bytes(bytes(data))
    for path in (picture, whole, five):
        path.unlink()
    for file in ("14_mono_then_51.ts", "14_late.mp4", "14_damaged.mp4"):
        yield {"file": file, "recipe": "encode.audio=aac", "expect": "sound never costs the picture"}


@maker
def ribbons(bench: Bench) -> Iterator[Entry]:
    """Very wide and very tall pictures."""
    for width, height in ((4096, 64), (96, 2400), (66, 64)):
        scene = [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in bench.scene(50).frames]
        encode(bench.out / f"30_{width}x{height}.mp4", scene)
        yield {"file": f"30_{width}x{height}.mp4", "expect": "annotators give values, or null with a reason"}
