"""`reel generate --published`, and what is not as published by default."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelwright.model.sampling.guidance import NEGATIVE
from reelwright.model.sampling.video_file import read_about
from tests.pipelines.generate.test_generate import film, here, run

__all__ = ["film", "here", "run"]  # fixtures

Invoke = Callable[..., Any]


def test_published_is_a_list_of_settings(run: Path, film: Path, here: Invoke, tmp_path: Path) -> None:
    """All that docs/training.md names as different by default is as published then."""
    asked = ("generate", run, "-p", "x", "--video", film, "--size", "64x48", "--frames", "17", "--steps", "2")
    made = here(*asked, "--published", "--out", "x.mp4")
    assert made.exit_code == 0, made.output
    assert "give it with --negative" in made.output
    about = read_about(tmp_path / "x.mp4")
    said = about["settings"]
    assert (said["shift"], said["later_shift"], said["guidance"], said["enhance_hf"]) == (12.0, None, 4.0, True)
    assert all(said[name] for name in ("posterior", "cut_levels", "fit_condition", "bf16_noise"))
    assert about["fps"] == 15
    assert here(*asked, "--out", "ours.mp4", "-q").exit_code == 0
    ours = read_about(tmp_path / "ours.mp4")["settings"]
    assert not any(ours[name] for name in ("posterior", "cut_levels", "fit_condition", "bf16_noise"))
    assert ours["shift"] == 1


def test_the_default_negative_prompt_is_words_for_an_encoder_that_reads(run: Path) -> None:
    from reelwright.model.config import TextConfig
    from reelwright.pipelines.cli.generate_options import (
        ContentOptions,
        MachineOptions,
        RefineOptions,
        SamplingOptions,
        ShapeOptions,
    )
    from reelwright.pipelines.cli.generate_settings import Asked
    from reelwright.pipelines.generate.run import find_source

    def negative(content: ContentOptions, text: TextConfig | None) -> str:
        rest = (ShapeOptions(), SamplingOptions(), MachineOptions(), RefineOptions())
        return Asked(find_source(run), content, *rest).settings([], text)[0].guidance.negative

    assert negative(ContentOptions(), TextConfig(kind="umt5", path="x")) == NEGATIVE
    assert negative(ContentOptions(), None) == "", "hashed words mean nothing"
    assert negative(ContentOptions(negative="rain"), None) == "rain"
