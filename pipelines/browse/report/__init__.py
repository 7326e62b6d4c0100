"""A store as one HTML page: the funnel, every score's distribution, best and worst clips, failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reelwright.pipelines.browse.report.page import write_report as write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    """`write_report`, loaded when first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reelwright.pipelines.browse.report import page

    return getattr(page, name)
