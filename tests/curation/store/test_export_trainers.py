"""What each trainer makes of an export: read by the rules of `trainers`, not by ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from reelwright.curation.store.captions import Wanted
from reelwright.curation.store.export import FORMATS, ExportOptions, ExportResult, export
from tests import footage
from tests.curation.store import trainers

QUERY = "SELECT clip_id FROM clips ORDER BY clip_id"
CLIPS = {  # id -> frames, frames a second, width, height
    "a": (24, 12, 96, 64),
    "b": (50, 25, 96, 64),
    "c": (75, 25, 96, 64),
    "d": (150, 30, 96, 64),
    "e": (60, 30, 64, 96),  # upright
    "f": (4, 25, 96, 64),  # of no trainer's length
}
TWO_LINES = 'of "two"\nlines, with <video> and <image>'
TOLD = {"a": "a boat", "b": TWO_LINES, "c": None, "d": "四号", "e": None, "f": "short"}
FILE = ["of the file", "of the same file, again"]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six real clips of several lengths, rates and shapes; c and e have no caption of their own, e's file has two."""
    folder = tmp_path_factory.mktemp("trainers")
    store = Store.open(folder / "store", create=True)
    made = {
        name: footage.write(folder / f"{name}.mp4", footage.frames(frames, width, height), fps=fps)
        for name, (frames, fps, width, height) in CLIPS.items()
    }
    store.commit_media([store.write_media(list(made), [path.read_bytes() for path in made.values()])])
    rows = [
        {"clip_id": name, "source_md5": f"md5-{name}", "width": width, "height": height, "fps": float(fps),
         "num_frames": frames, "duration_s": frames / fps}
        for name, (frames, fps, width, height) in CLIPS.items()
    ]  # fmt: skip
    store.append("clips", rows)
    store.merge("clips", pa.table({"clip_id": list(TOLD), "caption": list(TOLD.values())}), "clip_id")
    store.append("sources", [{"uri": n, "md5": f"md5-{n}", "state": "ok"} for n in "abcdf"])
    store.append("sources", [{"uri": "e", "md5": "md5-e", "state": "ok", "caption": FILE[0]}])
    store.merge("sources", pa.table({"uri": ["e"], "captions": pa.array([FILE], pa.list_(pa.string()))}), "uri")
    return store


def made(store: Store, out: Path, format: str, **options: Any) -> ExportResult:
    result = export(store, out, format, sql=QUERY, **options)
    assert result.clips == result.empty_captions + sum(result.caption_kinds.values()) == 6
    return result


def lengths(found: trainers.Trained) -> dict[str, int]:
    return {name: frames for name, (_, frames) in found.items()}


def captions(found: trainers.Trained) -> dict[str, list[str]]:
    return {name: texts for name, (texts, _) in found.items()}


def caption(name: str) -> list[str]:
    return [TOLD[name] or ""] if name != "e" else FILE


@pytest.mark.parametrize("rate", [16, 24])
def test_diffusion_pipe_keeps_what_the_export_says(real: Store, tmp_path: Path, rate: int) -> None:
    result = made(real, tmp_path / 'o"ut', "diffusion-pipe")
    found = trainers.diffusion_pipe(tmp_path / 'o"ut', rate)
    assert set(found) == {"a", "b", "c", "d", "e"}, "only the clip of no trainer's length is dropped"
    assert len({frames for _, frames in found.values()}) >= 3, "several lengths"
    counts: dict[int, int] = {}
    for _, frames in found.values():
        counts[frames] = counts.get(frames, 0) + 1
    each = ", ".join(f"{counts[frames]} of {frames} frames" for frames in sorted(counts))
    assert f"at {rate} fps: {each}; 1 too short, dropped" in result.notes
    assert captions(found) == {n: caption(n) for n in found}


def test_musubi_tuner_takes_each_clip_at_its_own_length_and_rate(real: Store, tmp_path: Path) -> None:
    result = made(real, tmp_path / "out", "musubi-tuner")
    found = trainers.musubi_tuner(tmp_path / "out")
    assert lengths(found) == {"a": 29, "b": 29, "c": 45, "d": 77, "e": 29, "f": 1}
    each = "1 of 1 frames, 3 of 29 frames, 1 of 45 frames, 1 of 77 frames"
    assert f"at 16 fps, each clip at its own length: {each}" in result.notes
    assert "1 clips of fewer than 16 fps would play too fast at 16" in result.notes
    assert captions(found) == {n: caption(n)[:1] for n in CLIPS}


def test_diffsynth_takes_the_first_frames_and_shorter_clips_too(real: Store, tmp_path: Path) -> None:
    result = made(real, tmp_path / "out", "diffsynth")
    found = trainers.diffsynth(tmp_path / "out")
    assert lengths(found) == {"a": 21, "b": 49, "c": 73, "d": 81, "e": 57, "f": 1}
    assert result.notes[0].startswith("with --num_frames 81: 1 clips fill it, 4 are shorter")
    assert "2 at 30 fps" in result.notes[1]
    assert found["b"][0] == caption("b")


@pytest.mark.parametrize("rate", [16, 24, 30])
def test_fastvideo_finds_the_keys_it_needs_and_keeps_what_the_export_says(
    real: Store, tmp_path: Path, rate: int
) -> None:
    result = made(real, tmp_path / "out", "fastvideo", options=ExportOptions(captions=Wanted("caption")))
    note = next(note for note in result.notes if note.startswith(f"--train_fps {rate} "))
    num_frames, kept = int(note.split()[3]), int(note.split("most: ")[1].split()[0])
    found = trainers.fastvideo(tmp_path / "out", rate, num_frames)
    lost = {"c", "e"}  # of their own kind: no caption, upright
    assert len(found) >= 2
    assert len(found) == kept - len([n for n in lost if n in self_kept(rate, num_frames)])
    assert "1 clips are upright, or flatter than 2 : 1, and FastVideo's defaults drop those" in result.notes
    assert "1 clips have no caption, and FastVideo drops those" in result.notes


def self_kept(rate: int, num_frames: int) -> set[str]:
    """Clips that fit by length alone."""
    fits = {
        name
        for name, (frames, fps, _, _) in CLIPS.items()
        if frames / fps <= 2 * num_frames / rate and -(-frames * rate // fps) >= num_frames
    }
    return fits


def test_finetrainers_gives_each_clip_a_bucket_near_its_length(real: Store, tmp_path: Path) -> None:
    result = made(real, tmp_path / "out", "finetrainers")
    found = trainers.finetrainers(tmp_path / "out")
    assert lengths(found) == {"a": 21, "b": 49, "c": 73, "d": 81, "e": 57, "f": 4}
    assert "frames are spread over the whole clip: the fastest plays at 1.9 times its speed" in result.notes
    assert found["e"][0] == FILE[:1]


def test_simpletuner_reads_a_caption_a_line(real: Store, tmp_path: Path) -> None:
    result = made(real, tmp_path / "out", "simpletuner")
    found = trainers.simpletuner(tmp_path / "out")
    assert lengths(found) == {"a": 17, "b": 49, "c": 73, "d": 81, "e": 57}
    assert found["e"][0] == FILE
    assert found["b"][0] == ['of "two" lines, with <video> and <image>'], "a line break would make two captions"
    assert found["c"][0] == [""]
    assert result.notes[0].endswith("17 to 81; 1 clips too short, dropped")


@pytest.mark.parametrize(("format", "placeholder"), [("llava", "<image>"), ("qwen-vl", "<video>")])
def test_a_captioner_s_conversations_ask_once_and_answer_with_each_caption(
    real: Store, tmp_path: Path, format: str, placeholder: str
) -> None:
    result = made(real, tmp_path / "out", format)
    found = trainers.conversations(tmp_path / "out", placeholder)
    assert set(found) == {"a", "b", "d", "e", "f"}, "a clip without a caption teaches nothing"
    assert found["e"][0] == FILE
    assert found["d"][0] == ["四号"]
    assert result.notes == ["6 conversations; 1 clips without a caption are left out"]
    assert not (tmp_path / "out" / "videos" / "c.mp4").exists()


def test_hugging_face_s_video_folder_finds_files_and_columns(real: Store, tmp_path: Path) -> None:
    made(real, tmp_path / "out", "videofolder")
    found = trainers.videofolder(tmp_path / "out")
    assert found == {n: (caption(n)[:1], frames) for n, (frames, _, _, _) in CLIPS.items()}


def test_webdataset_s_samples_are_whole(real: Store, tmp_path: Path) -> None:
    made(real, tmp_path / "out", "webdataset")
    assert trainers.webdataset(tmp_path / "out", tmp_path) == {
        n: (caption(n)[:1], frames) for n, (frames, _, _, _) in CLIPS.items()
    }


def test_lengths_end_where_they_are_told_to(real: Store, tmp_path: Path) -> None:
    longest = {"diffusion-pipe": 117, "musubi-tuner": 77, "diffsynth": 121, "finetrainers": 121, "simpletuner": 121}
    for format, frames in longest.items():
        made(real, tmp_path / format, format, options=ExportOptions(max_frames=121))
        reader = getattr(trainers, format.replace("-", "_"))
        args = {"diffusion-pipe": [24], "diffsynth": [121]}.get(format, [])
        assert max(lengths(reader(tmp_path / format, *args)).values()) == frames


def test_every_format_of_the_trainers_is_read_by_a_test() -> None:
    assert set(FORMATS) == {
        "diffsynth", "diffusion-pipe", "fastvideo", "finetrainers", "folder", "llava", "musubi-tuner", "qwen-vl",
        "simpletuner", "videofolder", "webdataset",
    }  # fmt: skip


def test_a_new_format_is_found_by_its_file_alone(tmp_path: Path) -> None:
    here = Path(__file__).parents[3]
    package = tmp_path / "reelwright"
    package.mkdir()
    for file in (here / "src" / "reelwright").glob("*.py"):
        shutil.copy(file, package)
    shutil.copytree(here / "curation", package / "curation", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "curation/store/export/ids.py").write_text(
        "from reelwright.curation.store.export.format import Format\n"
        "def write(export):\n"
        "    (export.folder / 'ids.txt').write_text(' '.join(clip.name for clip in export.clips()))\n"
        "FORMAT = Format('ids', 'the ids alone', write)\n"
    )
    program = "import reelwright.curation.store.export as e; print(e.__file__, e.FORMATS['ids'].description)"
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == f"{package / 'curation/store/export/__init__.py'} the ids alone\n"
