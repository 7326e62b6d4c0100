"""about.json beside weights: the origin, the recipe and the hash of exported or imported weights."""

import json
from pathlib import Path
from typing import Any

ABOUT = "about.json"


def read_note(path: Path) -> dict[str, Any] | None:
    """Read about.json in a folder of weights, or beside a file of them; None where there is none to read."""
    note = (path if path.is_dir() else path.parent) / ABOUT
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
