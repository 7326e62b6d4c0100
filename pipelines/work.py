"""What a worker does to one file, inside its sandbox: JSON-like arguments in, JSON-like facts and bytes out."""

import functools
import json
from fractions import Fraction
from typing import Any

from annotate import Annotator, annotate_clip, load
from curation.borders import BorderConfig
from curation.media.cut import CutSpec, Cutter
from curation.media.encode import EncodeConfig
from curation.media.errors import MediaError
from curation.media.probe import md5_of, probe
from curation.media.sandbox_child import report_progress
from curation.scan import ScanLimits, scan, scan_to_json
from curation.shots import ShotConfig


def hash_source(uri: str) -> dict[str, Any]:
    """`md5` and `bytes` of a file."""
    return md5_of(uri)


def probe_source(uri: str) -> dict[str, Any]:
    """`VideoInfo` of a file."""
    return probe(uri)


def scan_source(uri: str, shots: dict, borders: dict, max_frames: int) -> tuple[dict[str, Any], list[bytes]]:
    """A `Scan` as `scan_to_json` writes it."""
    found = scan(uri, ShotConfig(**shots), BorderConfig(**borders), ScanLimits(max_frames=max_frames))
    return scan_to_json(found)


def cut_source(
    uri: str, specs: list[dict], rate: str | None, encode: dict, annotators: list
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Cut and annotate clips of one source: for each spec {"encoded", "columns", "failures"} or {"error"}, and a blob.

    A clip that cannot be cut costs only itself.
    """
    results, blobs = [], []
    loaded = [_annotator(name, json.dumps(params, sort_keys=True)) for name, params in annotators]
    with Cutter(uri, Fraction(rate) if rate else None, EncodeConfig(**encode)) as cutter:
        for spec in specs:
            try:
                encoded = cutter.cut(CutSpec(**{**spec, "crop": tuple(spec["crop"])}))
            except MediaError as error:
                results.append({"error": {"stage": "cut", "message": str(error), "detail": error.detail}})
                blobs.append(b"")
                continue
            facts = {k: getattr(encoded, k) for k in ("width", "height", "num_frames", "fps")}
            facts["bytes"] = len(encoded.mp4)
            results.append({"encoded": facts, **_annotate(encoded.mp4, loaded)})
            blobs.append(encoded.mp4)
            report_progress(None)
    return results, blobs


def annotate_media(path: str, annotators: list) -> dict[str, Any]:
    """Annotate a stored clip that was laid down at `path`: {"columns", "failures"}."""
    loaded = [_annotator(name, json.dumps(params, sort_keys=True)) for name, params in annotators]
    with open(path, "rb") as file:
        return _annotate(file.read(), loaded)


def _annotate(mp4: bytes, annotators: list[Annotator]) -> dict[str, Any]:
    columns, failures = annotate_clip(mp4, annotators)
    return {
        "columns": {k: v.item() if hasattr(v, "item") else v for k, v in columns.items()},
        "failures": [{"stage": f.annotator, "message": f.error, "detail": f.detail} for f in failures],
    }


@functools.cache
def _annotator(name: str, params: str) -> Annotator:
    """Loaded once a process: an annotator keeps its model."""
    return load(name, json.loads(params))
