"""Cases that are lists of videos: the videos they name are made, the list is curated, its rows are accounted for."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.cases.case import Case, Outcome, curate

NAMED = re.compile(r"[\w-]+\.mp4")
CAPTION_COLUMNS = ("caption",)
NOT_CAPTIONS = re.compile(r"^(nan|none|null|\{.*|\[.*)$", re.IGNORECASE | re.DOTALL)
SPAN = re.compile(r"\b(start|end|begin|stop)(_s|_time)?\b")
REPEATED = re.compile(r"\b(id|source_id)\b")


def run(case: Case, folder: Path) -> Outcome:
    """Curate a list in `folder`, where the videos it names are made beside it."""
    folder.mkdir(parents=True)
    here = folder / case.path.name
    shutil.copy(case.path, here)
    for number, name in enumerate(sorted(set(NAMED.findall(_text(here))))):
        write_video(folder / name, seed=number)
    return curate([here], folder / "store", case.settings)


def broken(case: Case, outcome: Outcome) -> Iterator[str]:
    """Unmet demands of a list's rows."""
    text = _text(case.path)
    named = sorted(set(NAMED.findall(text)))
    if "Traceback" in outcome.output:
        yield f"a traceback: {outcome.output.strip().splitlines()[-1]}"
    if outcome.exit_code:
        if not re.search(r"\b(row|line|column)", outcome.output):
            yield f"refused without naming the row, line or column: {outcome.output.strip()[-200:]}"
        return
    states = {os.path.basename(s["uri"]): s["state"] for s in outcome.sources}
    refused = " ".join(f["error"] for f in outcome.failures)
    for name in named:
        if states.get(name) is None and not re.search(r"\brow\b|\bline\b", refused):
            yield f"{name} was lost without a word"
    yield from _captions_broken(case, outcome, refused, text)
    yield from _ids_broken(outcome, text)
    yield from _spans_broken(outcome, text)
    if case.kind == 33 and "no path" in text and not refused:
        yield "the row without a path is not among the failures"


def _captions_broken(case: Case, outcome: Outcome, refused: str, text: str) -> Iterator[str]:
    captions = [(s["uri"], s["caption"]) for s in outcome.sources if s.get("caption")]
    for uri, caption in captions:
        if NOT_CAPTIONS.match(caption):
            yield f"{os.path.basename(uri)}: the caption is {caption!r}"
        if re.search(r"\n\S*\.mp4", caption):
            yield f"a caption has swallowed rows: {caption!r}"
    if '{"en"' in text and "row" not in refused:
        yield "the caption that is an object is not refused by its row"
    if "spaced" in text and not any(c == "spaced" for _, c in captions):
        yield f"the caption behind a header with a space is lost: {captions}"


def _ids_broken(outcome: Outcome, text: str) -> Iterator[str]:
    duplicates = [s for s in outcome.sources if s["state"] == "duplicate"]
    if not REPEATED.search(text.splitlines()[0]) or not duplicates:
        return
    ids = Counter(re.findall(r",([^,\s]+),", text))
    repeated = [i for i, count in ids.items() if count > 1]
    if repeated and not any(i in outcome.output for i in repeated):
        yield f"{len(duplicates)} rows of the id {repeated[0]} were dropped as duplicates without a word"


def _spans_broken(outcome: Outcome, text: str) -> Iterator[str]:
    if not SPAN.search(text.splitlines()[0]):
        return
    spans = [tuple(map(float, m)) for m in re.findall(r",(\d+\.\d+),(\d+\.\d+),", text)]
    for clip in outcome.clips:
        inside = any(a - 0.1 <= clip["start_s"] and clip["end_s"] <= b + 0.1 for a, b in spans)
        if not inside:
            yield f"a clip of {clip['start_s']:.2f} to {clip['end_s']:.2f} s lies in no span of the list"


def _text(path: Path) -> str:
    data = path.read_bytes()
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding)
    return data.decode("utf-8-sig", "replace")


def write_video(path: Path, *, seed: int, seconds: float = 3.0, fps: int = 25) -> None:
    """A video of its own: drifting texture."""
    rng = np.random.default_rng(seed)
    canvas = np.kron(rng.integers(40, 216, (16, 24, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(fps), options={"crf": "18", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for i in range(round(seconds * fps)):
            picture = np.roll(canvas, (i // 2, i), (0, 1))[:192, :320]
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        file.mux(stream.encode())
