"""Cleaning of captions and prompts, as the published model's text was cleaned: ftfy, HTML entities, white space."""

import html

from reelwright.curation.extras import install_command
from reelwright.model.errors import ModelError


def clean_text(text: str) -> str:
    """Mended mojibake, HTML entities read twice (`&amp;lt;` occurs in the wild), one space between words."""
    try:
        import ftfy
    except ImportError as error:
        raise ModelError(f"cleaning text needs ftfy: {install_command('models')}") from error
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())
