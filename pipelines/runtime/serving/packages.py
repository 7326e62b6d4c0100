"""What servers of pages need beside the program."""

from __future__ import annotations

from reelwright.errors import UserError


def refuse_without_packages(what: str) -> None:
    """Raise UserError with the command that installs the packages, where one is missing. what: needs them."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        from reelwright.curation.extras import install_command

        raise UserError(f"{what} needs two more packages: {install_command('app')}") from None
