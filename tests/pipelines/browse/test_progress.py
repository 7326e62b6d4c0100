"""A run's page: its curves from the log, its samples by step."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reelwright.curation.store import StoreError
from reelwright.model.sampling.video_file import write_video
from reelwright.pipelines.browse.progress import CHARTS, SMOOTHED, _smooth, drawn, write_progress
from reelwright.pipelines.browse.sheets import samples_sheet


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three steps whose second sample grows lighter, and one that lacks a video."""
    rows = [
        {"step": n, "loss": -0.5 * n, "kl": 0.1 * n, "reward/sharp": float(n), "reward/sharp/group_std": 0.25,
         "reward/<b>": float("nan") if n == 2 else 1.0, "held_out/eye": 3.0 - n, "meter/motion_change": 0.1}
        for n in (1, 2, 3)
    ]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for n, level in enumerate((-0.5, 0.0, 0.5)):
        folder = tmp_path / "samples" / f"step-{n:08d}"
        folder.mkdir(parents=True)
        for i in range(2):
            if (n, i) != (1, 0):
                video = torch.full((3, 5, 32, 48), level if i else 0.0)
                write_video(folder / f"{i}.mp4", video, 8.0, {})
    return tmp_path


def test_a_sheet_has_a_row_per_prompt_and_a_column_per_step(run: Path) -> None:
    png = samples_sheet(run, tile_height=64)
    assert png is not None
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    height, width = picture.shape[:2]
    middles = [
        picture[int((r + 0.62) * height / 2), int((c + 0.5) * width / 3) - 20].mean()
        for r in range(2)
        for c in range(3)
    ]
    first, second = middles[:3], middles[3:]
    assert second[0] < second[1] < second[2]
    assert first[0] == pytest.approx(first[2], abs=3)
    two = samples_sheet(run, most=2, tile_height=64)
    assert two is not None
    assert cv2.imdecode(np.frombuffer(two, np.uint8), cv2.IMREAD_COLOR).shape[1] < width


def test_a_page_has_each_figure_of_the_log_once(run: Path) -> None:
    path = write_progress(run)
    assert path == run / "progress.html"
    text = path.read_text()
    assert text.count("<section>") == 6
    assert "sharp 1 → 3<" in text
    assert "sharp 0.25 → 0.25<" in text
    assert "eye 2 → 0<" in text
    assert "&lt;b&gt; 1 → 1<" in text
    assert "data:image/png;base64," in text
    shown = {
        name for chart in CHARTS for name in chart.series([{"step": 1, "loss": 1.0, "lossy": 1.0, "val/loss": 2.0}])
    }
    assert shown == {"loss"}


def test_a_curve_goes_from_corner_to_corner() -> None:
    root = ET.fromstring(drawn({"a": [(1, 0.0), (2, 5.0), (3, 10.0)]}))
    thin = root.find("path")
    assert thin is not None
    assert thin.get("d") == "M46.0 180.0 L326.0 95.0 L606.0 10.0"
    both = ET.fromstring(drawn({"a": [(1, 0.0), (3, 1.0)], "b": [(1, 50.0), (3, 90.0)]}, own_range=True))
    assert len({path.get("d") for path in both.findall("path")[::2]}) == 1
    flat = drawn({"a": [(4, 2.0)]})
    assert "nan" not in flat


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"has no log\.jsonl"):
        write_progress(tmp_path)
    assert samples_sheet(tmp_path) is None


def test_a_short_curve_is_not_smoothed_flat_and_a_long_one_is_smoothed():
    short = [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert _smooth(short) == short
    uneven = [(i, float(i % 2)) for i in range(100)]
    inner = [y for _, y in _smooth(uneven)[10:90]]
    assert max(inner) - min(inner) <= 1 / SMOOTHED + 1e-12
