"""A real Chromium on the page, for tests and benchmarks."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
PATIENCE_MS = 120_000
"""Until a page that does not come is a failure; a machine may be busy."""
LOOK_MS = 50
"""Between two looks at a page that cannot be asked to wait: shorter than a person notices."""
IS_CI = bool(os.environ.get("REEL_CI"))
"""Whether what is missing fails: `.ci/run` sets it, so that no test of the page is passed over there."""
needs_chromium = pytest.mark.skipif(
    not CHROMIUM and not IS_CI, reason="no Chromium here; install it with: apt-get install chromium"
)


@contextmanager
def opened(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """Open a page in a context of its own; an error of its scripts, or a dialog that is no question, fails the test."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))

    def answer(dialog: Any) -> None:
        if dialog.type != "confirm":
            said.append(f"{dialog.type}: {dialog.message}")
        dialog.accept()

    page.on("dialog", answer)
    page.goto(url)
    yield page
    context.close()
    assert said == []


def shows(page: Any, count: int | str) -> None:
    """Wait until the page says that it shows so many clips."""
    page.wait_for_selector(f".size b:text-is('{count}')")


def soon(seen: Any) -> Any:
    """Return Playwright's assertions about a locator or a page, which wait for what a busy machine shows late."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MS)
    return expect(seen)


def until(page: Any, expression: str) -> None:
    """Wait until JavaScript says so; the page itself may evaluate no text, and so not be asked to wait."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(LOOK_MS)
