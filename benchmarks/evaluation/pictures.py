"""The picture of docs/evaluation.md: `python -m benchmarks.evaluation.pictures PAGE`, PAGE as `make demo` ends with.

Its left half is the page from its top, the right half from the videos on.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from tests.pipelines.app.chromium import CHROMIUM, until

OUT = Path(__file__).parents[2] / "docs" / "images" / "evaluation-page.jpg"
HALF = (820, 1150)  # px
QUALITY = 72
CONTROLS_FADE_MS = 4000  # of a video that plays


def main(page: Path) -> None:
    from PIL import Image
    from playwright.sync_api import sync_playwright

    width, height = HALF
    whole = Image.new("RGB", (2 * width, height))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        shown.goto(page.absolute().as_uri())
        for x, section in ((0, "body"), (width, "#videos")):
            whole.paste(Image.open(io.BytesIO(_from(shown, section))), (x, 0))
        browser.close()
    whole.save(OUT, quality=QUALITY, optimize=True)
    print(f"docs/images/{OUT.name}, {OUT.stat().st_size:,} bytes")


def _from(shown: Any, section: str) -> bytes:
    """Return what a window shows from the top of a section on, its videos playing."""
    shown.evaluate(f"document.querySelector('{section}').scrollIntoView()")
    until(shown, "[...document.querySelectorAll('video')].every(one => one.readyState >= 2)")
    shown.wait_for_timeout(CONTROLS_FADE_MS)
    picture: bytes = shown.screenshot()
    return picture


if __name__ == "__main__":
    main(Path(sys.argv[1]))
