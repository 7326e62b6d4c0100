"""Rows of figures that are on disk as soon as they are measured: `gpu.json`, and `gpu.md` for a reader."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Figure = float | int | str | bool | None
Row = dict[str, Figure]


@dataclass
class Report:
    """Facts of the machine, and rows by block, in the order in which they came.

    Attributes:
        folder: of gpu.json and gpu.md.
        facts: of the machine: device, clocks, versions.
        rows: by block.
        notes: by block: errors, and reasons for left-out cases.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Report":
        """Read the report that lies in a folder; an empty one if none does."""
        file = folder / "gpu.json"
        said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return cls(folder, **said)

    def add(self, block: str, row: Row) -> None:
        """Print a row and write it down."""
        self.rows.setdefault(block, []).append(row)
        print(f"{block}: " + ", ".join(f"{name} {shown(value)}" for name, value in row.items()), flush=True)
        self.write()

    def note(self, block: str, text: str) -> None:
        """Print a note on a block and write it down."""
        self.notes.setdefault(block, []).append(text)
        print(f"{block}: {text}", flush=True)
        self.write()

    def write(self) -> None:
        """Write both files, each whole or not at all: a run may be cut off at any moment."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"facts": self.facts, "rows": self.rows, "notes": self.notes}
        _replace(self.folder / "gpu.json", json.dumps(content, indent=1))
        _replace(self.folder / "gpu.md", self.markdown())

    def markdown(self) -> str:
        """Return the report as Markdown: facts, then a table per run of rows with the same figures."""
        parts = ["# GPU figures\n", *(f"- {name}: {value}" for name, value in self.facts.items())]
        for block in dict.fromkeys([*self.rows, *self.notes]):
            parts.append(f"\n## {block}\n")
            parts += _tables(self.rows.get(block, []))
            parts += [f"- {note}" for note in self.notes.get(block, [])]
        return "\n".join(parts) + "\n"


def shown(value: Figure) -> str:
    """Return a figure as it is printed: four digits, and a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _tables(rows: list[Row]) -> list[str]:
    lines: list[str] = []
    names: list[str] = []
    for row in rows:
        if list(row) != names:
            names = list(row)
            lines += ["", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        lines.append("| " + " | ".join(shown(value).replace("|", "/") for value in row.values()) + " |")
    return [*lines, ""]


def _replace(file: Path, text: str) -> None:
    draft = file.with_name(file.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
