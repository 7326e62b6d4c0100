"""Calls that run inside a sandbox, on one file each: JSON-like arguments in, JSON-like facts and bytes out."""

from dataclasses import asdict
from fractions import Fraction
from typing import Any

from reelwright.curation.borders import BorderConfig
from reelwright.curation.media import kept
from reelwright.curation.media.cut import CutSpec, Cutter
from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.input_cache import InputCache
from reelwright.curation.media.kept import KeptFrames
from reelwright.curation.media.probe import md5_of, probe
from reelwright.curation.media.remote import fetch_copy, use_cache
from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.results import Failed
from reelwright.curation.scan import ScanLimits, scan, scan_to_json
from reelwright.curation.shots import ShotConfig
from reelwright.curation.signed import with_link
from reelwright.pipelines.annotate.sandboxed import annotate_mp4, loaded


def hash_source(uri: str, inputs: dict | None = None, link: str | None = None) -> dict[str, Any]:
    """`md5` and `bytes` of a file.

    In this function and the next, inputs: fields of the `InputCache` that keeps a copy; link: of a signed address.
    """
    _prepare(inputs)
    return md5_of(with_link(uri, link))


def probe_source(uri: str, images: bool = False, inputs: dict | None = None, link: str | None = None) -> dict[str, Any]:
    """`VideoInfo` of a file. images: whether still images are taken."""
    _prepare(inputs)
    return probe(with_link(uri, link), images=images)


def scan_source(
    uri: str,
    shots: dict,
    borders: dict,
    max_frames: int,
    inputs: dict | None = None,
    keep_bytes: int = 0,
    link: str | None = None,
) -> tuple[dict[str, Any], list[bytes]]:
    """Scan a source; return a `Scan` as `scan_to_json` writes it.

    keep_bytes: of decoded frames that may wait for `cut_source` of the same source, the next call.
    """
    _prepare(inputs)
    uri = with_link(uri, link)
    if inputs:
        fetch_copy(uri)
    frames = KeptFrames(uri, keep_bytes)
    found = scan(uri, ShotConfig(**shots), BorderConfig(**borders), ScanLimits(max_frames=max_frames), frames)
    kept.keep(frames)
    return scan_to_json(found)


def cut_source(
    uri: str,
    specs: list[dict],
    rate: str | None,
    encode: dict,
    annotators: list,
    inputs: dict | None = None,
    link: str | None = None,
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Cut and annotate clips of one source: for each spec {"encoded", "annotated"} or {"failed"}, and a blob.

    A clip that cannot be cut costs only itself.
    """
    frames = kept.take(uri)
    _prepare(inputs)
    results, blobs = [], []
    annotating = loaded(annotators)
    with Cutter(with_link(uri, link), Fraction(rate) if rate else None, EncodeConfig(**encode), frames) as cutter:
        for spec in specs:
            try:
                encoded = cutter.cut(_spec(spec))
            except MediaError as error:
                results.append({"failed": asdict(Failed.by("cut", error))})
                blobs.append(b"")
                continue
            facts = {k: getattr(encoded, k) for k in ("width", "height", "num_frames", "fps", "audio_note")}
            facts |= {"bytes": len(encoded.mp4), "colour": encoded.colour.names() | {"hdr": encoded.colour.hdr}}
            results.append({"encoded": facts, "annotated": asdict(annotate_mp4(encoded.mp4, annotating, {}, {}))})
            blobs.append(encoded.mp4)
            report_progress(None)
    return results, blobs


def _prepare(inputs: dict | None = None) -> None:
    """Use the copies of remote inputs; forget frames that no cut came for."""
    use_cache(InputCache(**inputs) if inputs else None)
    kept.forget()


def _spec(spec: dict[str, Any]) -> CutSpec:
    """JSON knows no tuples."""
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
    return CutSpec(**known)
