"""`reel generate --refine` and `reel refine`: frames, rates and sizes of every task, and what the files say."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reelwright.curation.media.frames import Frames, read
from reelwright.errors import UserError
from reelwright.model.sampling.settings import Settings
from reelwright.model.sampling.video_file import read_about
from reelwright.pipelines.generate.conditions import read_shown
from reelwright.pipelines.generate.initial import Beginning
from reelwright.pipelines.generate.loras import sha256
from reelwright.pipelines.generate.run import memory_may_end
from reelwright.pipelines.generate.spool import Spool
from tests.conftest import REEL
from tests.footage import ffmpeg
from tests.pipelines.generate.lora_files import loras, save_adapter
from tests.pipelines.generate.test_generate import film, here, run

__all__ = ["film", "here", "loras", "run"]  # fixtures

Invoke = Callable[..., Any]


def shown(path: Path, count: int) -> tuple[Any, np.ndarray]:
    facts, (pictures,) = read(path.read_bytes(), [Frames(count=count, color="rgb")])
    return facts, pictures


COMMON = ("-p", "a dog", "--to", "128x64", "-q")


@pytest.mark.parametrize(
    ("task", "count"),
    {"text": 18, "image": 18, "video": 18, "long": 26, "spatial": 9}.items(),
)
def test_every_task_is_refined(
    run: Path, loras: Path, film: Path, here: Invoke, tmp_path: Path, task: str, count: int
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64, 3), 90, np.uint8))
    more = {
        "text": (),
        "image": ("--image", "a.png"),
        "video": ("--video", film, "--overlap", "5"),
        "long": ("--segments", "2", "--overlap", "5"),
        "spatial": ("--spatial-only", "--timing", "exact", "--refine-attention", "dense"),
    }[task]
    made = here("generate", run, *COMMON, "--refine", loras / "fine", *more, "--out", "x.mp4")
    assert made.exit_code == 0, made.output
    facts, pictures = shown(tmp_path / "x.mp4", count)
    fps = 12 if task == "spatial" else 24
    assert (facts.width, facts.height, facts.num_frames, facts.fps) == (128, 64, count, fps)
    about = read_about(tmp_path / "x.mp4")
    assert about["fps"] == fps
    assert about["refined"]["prompt"] == ("" if task == "long" else "a dog")
    assert about["refined"]["spatial_only"] is (task == "spatial")
    assert about["refined"]["timing"] == ("exact" if task == "spatial" else "published")
    assert about["refined"]["attention"] == "dense" or about["refined"]["attention"]["keep"] == 1 / 16
    assert [(one["stage"], one["objective"]) for one in about["loras"]] == [("refinement", "refinement")]
    if task == "image":
        assert np.abs(pictures[0].astype(int) - 90).mean() < 3, "it begins with the picture itself, enlarged"


def test_the_first_stage_is_the_same_with_and_without_refinement(
    run: Path, loras: Path, here: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its LoRA is merged for it and comes off for the second stage."""
    kept: list[torch.Tensor] = []
    write_parts = Spool.write
    monkeypatch.setattr(Spool, "write", lambda self, part: (kept.append(part), write_parts(self, part))[1])
    quick = ("--lora", loras / "quick")
    assert here("generate", run, *COMMON, "--refine", loras / "fine", *quick, "--out", "x.mp4").exit_code == 0
    assert here("generate", run, "-p", "a dog", "-q", *quick, "--out", "plain.mp4").exit_code == 0
    about = read_about(tmp_path / "plain.mp4")
    assert {k: about["settings"][k] for k in ("distilled", "steps", "guidance")} == {
        "distilled": True, "steps": 4, "guidance": 1.0
    }  # fmt: skip
    assert about["settings"] == read_about(tmp_path / "x.mp4")["settings"]
    from reelwright.model.sampling.video_file import write_video

    again = write_video(tmp_path / "again.mp4", torch.cat(kept, 2)[0], 12)
    np.testing.assert_array_equal(shown(again, 9)[1], shown(tmp_path / "plain.mp4", 9)[1])
    objectives = [one["objective"] for one in read_about(tmp_path / "x.mp4")["loras"]]
    assert objectives == ["consistency", "refinement"]


@pytest.mark.exhaustive
def test_a_video_that_exists_is_refined(run: Path, loras: Path, film: Path, here: Invoke, tmp_path: Path) -> None:
    """As right after generating it, apart from what an mp4 loses; footage too, in windows, at its own rate."""
    assert here("generate", run, "-p", "a dog", "-q", "--out", "first.mp4").exit_code == 0
    lora = ("--lora", loras / "fine", "--to", "128x64", "-q")
    made = here("refine", "first.mp4", run, *lora, "--out", "later.mp4")
    assert made.exit_code == 0, made.output
    assert here("generate", run, *COMMON, "--refine", loras / "fine", "--out", "at-once.mp4").exit_code == 0
    (facts, later), (_, at_once) = (shown(tmp_path / n, 18) for n in ("later.mp4", "at-once.mp4"))
    assert (facts.width, facts.height, facts.num_frames, facts.fps) == (128, 64, 18, 24)
    both = np.corrcoef(later.ravel().astype(float), at_once.ravel().astype(float))[0, 1]
    assert both > 0.8
    about = read_about(tmp_path / "later.mp4")
    assert about["prompts"] == ["a dog"]
    assert about["refined_from"]["about"]["seed"] == 0

    made = here("refine", film, run, *lora, "--window", "17", "--overlap", "5", "--out", "film.mp4", "-p", "a number")
    assert made.exit_code == 0, made.output
    read_at_12 = int(read_shown(film).duration_s * 12 + 0.01)  # 40 frames at 25 per second, in windows of 17
    facts, _ = shown(tmp_path / "film.mp4", 4)
    assert (facts.num_frames, facts.fps) == (2 * read_at_12, 24)
    assert read_about(tmp_path / "film.mp4")["refined_from"]["about"] is None


def test_a_file_that_is_cut_short_is_said_to_be(
    run: Path, loras: Path, film: Path, here: Invoke, tmp_path: Path
) -> None:
    """Its header comes first and promises 40 frames, of which the file has about half."""
    ffmpeg("-i", str(film), "-c", "copy", "-movflags", "+faststart", str(tmp_path / "whole.mp4"))
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    asked = (run, "--lora", loras / "fine", "--to", "128x64")
    made = here("refine", "half.mp4", *asked, "--out", "x.mp4")
    assert made.exit_code == 0, made.output
    assert "half.mp4 is cut short: it ends after " in made.output
    assert "its header says 1.60 s" in made.output
    assert "in 1 window\n" in made.output
    assert read_shown(tmp_path / "whole.mp4").cut_short(tmp_path) == read_shown(film).cut_short(film) == ""
    begun = Beginning(video=tmp_path / "half.mp4").read(Settings.of(width=64, height=48), 12)
    assert begun is not None
    assert begun.note.startswith(f"{tmp_path / 'half.mp4'} is cut short")


def test_lineage_leads_through_every_adapter(run: Path, loras: Path, here: Invoke, tmp_path: Path) -> None:
    """From a refined video to its first stage, the run, and the records of both LoRAs with their snapshots."""
    assert here("generate", run, "-p", "a dog", "-q", "--lora", loras / "quick", "--out", "first.mp4").exit_code == 0
    lora = ("--lora", loras / "fine", "--to", "128x64", "-q")
    assert here("refine", "first.mp4", run, *lora, "--out", "x.mp4").exit_code == 0
    (tmp_path / "first.mp4").unlink()  # the refined file carries its record
    found = json.loads(here("lineage", "x.mp4", "--json").output)
    assert found["facts"]["refined_from"].endswith("first.mp4")
    fine, first = found["made_of"]
    assert (fine["kind"], first["kind"]) == ("lora", "generated")
    assert "beach, c0ffee" in fine["facts"]["snapshot"]
    (quick,) = first["made_of"]
    assert quick["facts"]["source"] == "runs/quick"
    assert "beach, c0ffee" in first["facts"]["snapshot"]
    said = here("lineage", "x.mp4").output
    assert "runs/fine" in said
    assert "runs/quick" in said


def test_what_a_refined_file_began_with_stands_in_its_record(
    run: Path, loras: Path, film: Path, here: Invoke, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64, 3), 90, np.uint8))
    lora = ("--lora", loras / "fine", "--to", "128x64", "-q")
    for option, frames in ((("--image", "a.png"), 1), (("--video", film, "--given", "5"), 5)):
        assert here("refine", film, run, *lora, "--fps", "5", *option, "--out", "x.mp4", "--force").exit_code == 0
        said, file = read_about(tmp_path / "x.mp4")["begins_with"], tmp_path / option[1]
        assert said == {"file": str(file), "sha256": sha256(file), "frames": frames}


REFUSED = {
    "two distilled": (("--lora", "L/quick", "--lora", "L/quick"), "exclude one another"),
    "refinement samples": (("--lora", "L/fine"), "give it with --refine"),
    "distilled refines": (("--refine", "L/quick"), "is for sampling in few steps, not for refinement"),
    "no lora": (("--refine", "nowhere"), "there is no LoRA file nowhere"),
    "a run": (("--refine", "RUN"), "is a run; write its LoRA first: reel checkpoint export"),
    "empty": (("--refine", ""), "--refine is empty; name a refinement LoRA"),
    "picture": (("--refine", "L/fine", "--frames", "1", "--out", "x.png"), "--refine is for videos"),
    "to without": (("--to", "480p"), "--to is of refinement; add --refine LORA"),
    "no size": (("--refine", "L/fine", "--to", "huge"), "'huge' is no size to refine to"),
    "no multiple": (("--refine", "L/fine", "--to", "100x64"), "multiples of 64"),
    "keep of dense": (
        ("--refine", "L/fine", "--refine-attention", "dense", "--refine-keep", "0.5"), "--refine-keep 0.5",
    ),
    "no utf-8": (("-p", "a dog \udcff"), "is not UTF-8 at character 6"),
    "no class": (("--size", "600p"), "or 480p or 720p"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_sentence(case: str, run: Path, loras: Path, here: Invoke) -> None:
    from reelwright.errors import ReelError

    arguments, says = REFUSED[case]
    given = [a.replace("L/", f"{loras}/").replace("RUN", str(run)) for a in arguments]
    result = here("generate", run, "-p", "x", "--out", "x.mp4", *given)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, ReelError), result.exception
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.mp4",), "no file none.mp4"),
        (("F",), "was not trained for refinement; add --lora"),
        (("F", "--lora", "L/quick"), "not for refinement"),
        (("F", "--lora", "L/fine", "--video", "F", "--given", "40"), "40 of them are said to be given"),
        (("F", "--lora", "L/fine", "--out", "F"), "name another --out"),
        (("F", "--lora", "L/fine", "--given", "5"), "--given counts the frames that --video gave"),
        (("F", "--lora", "L/fine", "--window", "18"), "a window has 4k + 1 frames"),
        (("F", "--lora", "L/fine", "--window", "9"), "more than windows share"),
        (("F", "--lora", "L/fine", "--fps", "1"), "nothing between frames"),
        (("story.txt", "--lora", "L/fine"), "cannot be used"),
    ],
)
def test_what_refine_refuses_is_one_sentence(
    arguments: tuple[str, ...], says: str, run: Path, loras: Path, film: Path, here: Invoke, tmp_path: Path
) -> None:
    from reelwright.errors import ReelError

    (tmp_path / "story.txt").write_text("a dog")
    video, *given = (str(film) if a == "F" else a.replace("L/", f"{loras}/") for a in arguments)
    result = here("refine", video, run, "--out", "x.mp4", *given)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, ReelError), result.exception
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)


def test_frames_that_are_no_numbers_are_not_written(run: Path, film: Path, here: Invoke, tmp_path: Path) -> None:
    """A LoRA of NaN, in either stage, of a video and of a picture: nothing is left, but a first stage that is whole."""
    from reelwright.errors import ReelError

    lora = save_adapter(tmp_path / "broken.safetensors", 0)
    tensors = load_file(lora)
    save_file({k: v * float("nan") if "lora_up" in k else v for k, v in tensors.items()}, lora)
    before = sorted(tmp_path.iterdir())
    for given in (
        ("generate", run, "-p", "x", "--lora", lora, "--out", "x.mp4"),
        ("generate", run, "-p", "x", "--lora", lora, "--out", "x.png", "--frames", "1"),
        ("generate", run, *COMMON, "--refine", lora, "--out", "x.mp4"),
        ("refine", film, run, "--lora", lora, "--to", "128x64", "--out", "x.mp4"),
    ):
        result = here(*given)
        assert isinstance(result.exception, ReelError), result.output
        assert "not finite" in str(result.exception)
        kept = [tmp_path / "x-first-stage.mp4"] if "--refine" in given else []
        assert sorted(tmp_path.iterdir()) == sorted(before + kept)
        for file in kept:
            assert "the first stage is kept in x-first-stage.mp4, to be refined by reel refine" in str(result.exception)
            assert here("generate", run, "-p", "a dog", "-q", "--out", "first.mp4").exit_code == 0
            np.testing.assert_array_equal(shown(file, 9)[1], shown(tmp_path / "first.mp4", 9)[1])
            assert read_about(file) == read_about(tmp_path / "first.mp4")
            file.unlink()
            (tmp_path / "first.mp4").unlink()


@pytest.mark.waits
def test_ctrl_c_in_a_refinement_keeps_the_first_stage(run: Path, loras: Path, here: Invoke, tmp_path: Path) -> None:
    """It is the video that would have been made without a refinement, and the last line says where it is."""
    asked = (run, "-p", "a dog", "-q", "--segments", "40", "--overlap", "5")
    child = subprocess.Popen(
        [*REEL, "generate", *map(str, asked), "--refine", str(loras / "fine"), "--to", "128x64", "--out", "x.mp4"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob(".x.mp4.*")) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)  # until the first of its windows is refined
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=300) == 130, child.stderr.read()
    said = child.stderr.read()
    assert "stopped; the first stage is kept in x-first-stage.mp4, to be refined by reel refine" in said
    assert [path.name for path in tmp_path.iterdir()] == ["x-first-stage.mp4"]
    assert here("generate", *asked, "--out", "first.mp4").exit_code == 0
    count = shown(tmp_path / "first.mp4", 1)[0].num_frames
    np.testing.assert_array_equal(*(shown(tmp_path / name, count)[1] for name in ("x-first-stage.mp4", "first.mp4")))


@pytest.mark.parametrize("elements", [1 << 55, 1 << 62])
def test_a_size_that_no_memory_holds_is_one_sentence(elements: int) -> None:
    with pytest.raises(UserError, match="memory is not enough; try a smaller --to"), memory_may_end("a smaller --to"):
        torch.empty(elements, dtype=torch.float32)
    with pytest.raises(RuntimeError, match="size"), memory_may_end("a smaller --to"):
        torch.zeros(2) + torch.zeros(3)
