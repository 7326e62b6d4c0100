"""about.json beside weights: the origin, the recipe and the hash of exported or imported weights."""

import json
from pathlib import Path
from typing import Any

ABOUT = "about.json"


def read_note(path: Path) -> dict[str, Any] | None:
    """Read about.json in a folder of weights, or beside a file of them; None where there is none to read.

    Of a link to a file, the record beside that file comes first, then one beside the link.
    """
    for place in dict.fromkeys((path.resolve(), path)):
        note = (place if place.is_dir() else place.parent) / ABOUT
        try:
            found = json.loads(note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return None
