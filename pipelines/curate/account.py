"""The work of a curation by stage, in seconds, bytes and requests: expected of footage, or as a store's runs took."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from reelwright.annotate import Computes
from reelwright.annotate.chat.registry import chat_of
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.plan import measured_seconds, measured_usage
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.recipes.prices import Prices

# Measured on 2 cores of a server by benchmarks/cost.py and benchmarks/price.py (see benchmarks/RESULTS.md); they set
# the order of magnitude of a plan, not a promise.
PROBE_S_PER_GB = 2.0
SCAN_S_PER_MEGAPIXEL = 0.008
ENCODE_S_PER_MEGAPIXEL = {
    "ultrafast": 0.008, "superfast": 0.012, "veryfast": 0.022, "faster": 0.035, "fast": 0.045, "medium": 0.055,
    "slow": 0.09, "slower": 0.17,
}  # fmt: skip
WRITE_S_PER_GB = 2.5
CLIP_BYTES_PER_MEGAPIXEL = 23_000  # of grainy 1080p at crf 18; each 6 more halve it
BASE_CRF, CRF_HALVES = 18, 6
TYPICAL_CLIP_S = 5.0
READ_BYTES, PART_BYTES = 4 << 20, 5 << 20  # of one request: of an input, and of an upload
WRITES_PER_COMMIT = 12  # requests beside the clips themselves: rows, manifests and the lock
FOOTAGE = """
select count(*) as files,
    coalesce(sum(duration_s::double), 0) / 3600 as hours,
    coalesce(sum(duration_s::double * fps * width * height), 0) / 1e6 as megapixels,
    coalesce(sum(bytes), 0)::bigint as num_bytes,
    coalesce(sum(bytes) filter (where contains(uri, '://')), 0)::bigint as remote_bytes,
    count(*) filter (where contains(uri, '://')) as remote_files
from sources where state = 'ok'
"""


@dataclass(frozen=True)
class Footage:
    """Videos that are curated.

    Args:
        files: their number.
        hours: of footage.
        megapixels: over all frames.
        num_bytes: of the files.
        remote_bytes: those that are read from object stores.
        remote_files: number of such files.
        clips: clips that come of them.
    """

    files: int = 0
    hours: float = 0.0
    megapixels: float = 0.0
    num_bytes: int = 0
    remote_bytes: int = 0
    remote_files: int = 0
    clips: int = 0

    @classmethod
    def of(cls, videos: Iterable[Mapping[str, Any]], clips: int | None = None) -> "Footage":
        """Sum up videos.

        Args:
            videos: uri, bytes, duration_s, fps, width, height of each.
            clips: their number; by a typical length where it is not known.
        """
        rows = list(videos)
        remote = [v for v in rows if "://" in v["uri"]]
        return cls(
            files=len(rows),
            hours=sum(v["duration_s"] or 0 for v in rows) / 3600,
            megapixels=sum(_megapixels(v) for v in rows),
            num_bytes=sum(v["bytes"] or 0 for v in rows),
            remote_bytes=sum(v["bytes"] or 0 for v in remote),
            remote_files=len(remote),
            clips=sum(max(1, round((v["duration_s"] or 0) / TYPICAL_CLIP_S)) for v in rows) if clips is None else clips,
        )


def _megapixels(video: Mapping[str, Any]) -> float:
    return (video["duration_s"] or 0) * (video["fps"] or 0) * video["width"] * video["height"] / 1e6


@dataclass
class Work:
    """What a stage takes.

    Args:
        cpu_s: seconds of cores.
        gpu_s: seconds of GPUs, as stated, by annotator.
        bytes_read: of inputs.
        bytes_written: to the store.
        paid_read: bytes that leave an object store.
        paid_sent: bytes that are sent to one.
        reads: requests that read.
        writes: requests that write.
        tokens_in: of chat models' questions.
        tokens_out: of their answers.
        usd: cost of chat models by the recipe's own prices.
    """

    cpu_s: float = 0.0
    gpu_s: Counter[str] = field(default_factory=Counter)
    bytes_read: float = 0.0
    bytes_written: float = 0.0
    paid_read: float = 0.0
    paid_sent: float = 0.0
    reads: float = 0.0
    writes: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    usd: float = 0.0

    def times(self, factor: float) -> "Work":
        """Return so many times this work."""
        numbers = {f.name: getattr(self, f.name) * factor for f in fields(self) if f.name != "gpu_s"}
        return Work(**numbers, gpu_s=Counter({name: s * factor for name, s in self.gpu_s.items()}))

    def __add__(self, other: "Work") -> "Work":
        numbers = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "gpu_s"}
        return Work(**numbers, gpu_s=self.gpu_s + other.gpu_s)


@dataclass(frozen=True)
class Account:
    """The work of some footage by stage.

    Args:
        footage: that it is for.
        stages: stage -> work, in the order of a run.
        basis: what the figures rest on, as a sentence without its end.
        unknown: annotators of which no CPU seconds are known.
        unstated: annotators on a GPU whose seconds nobody has stated.
    """

    footage: Footage
    stages: Mapping[str, Work]
    basis: str
    unknown: tuple[str, ...] = ()
    unstated: tuple[str, ...] = ()


def expected(
    footage: Footage, recipe: CurateRecipe, annotators: Mapping[str, Computes], prices: Prices, store: Store | None
) -> Account:
    """Estimate the work that new footage will take, by measured rates.

    Args:
        footage: the new footage.
        recipe: of the run.
        annotators: the recipe's, by name.
        prices: with the stated seconds of GPUs.
        store: a store whose runs have measured annotators; None where there is none yet.
    """
    written = footage.megapixels * CLIP_BYTES_PER_MEGAPIXEL * 2 ** ((BASE_CRF - recipe.encode.crf) / CRF_HALVES)
    stages = {
        "probe": Work(cpu_s=footage.num_bytes / 1e9 * PROBE_S_PER_GB) + _reading(footage),
        "scan": Work(cpu_s=footage.megapixels * SCAN_S_PER_MEGAPIXEL),
        "cut": Work(cpu_s=footage.megapixels * ENCODE_S_PER_MEGAPIXEL[recipe.encode.preset]),
        "annotate": _annotating(annotators, footage.clips, store, prices),
        "write": Work(cpu_s=written / 1e9 * WRITE_S_PER_GB) + _writing(recipe, written),
    }
    seconds = _seconds(annotators, store)
    return Account(
        footage, stages, "CPU by rates of the development corpus, bytes of clips and requests as estimated",
        unknown=tuple(n for n, a in annotators.items() if n not in seconds and not _elsewhere(a)),
        unstated=_unstated(annotators, prices),
    )  # fmt: skip


def measured(store: Store, annotators: Mapping[str, Computes], prices: Prices) -> Account | None:
    """Return the work that a store's runs took for all its footage; None where no run has measured any.

    Args:
        store: the store.
        annotators: the recipe's, by name, for their seconds on GPUs.
        prices: with the stated seconds of GPUs.
    """
    if "stages" not in store.schema("runs").names:  # a store of an earlier version
        return None
    runs = store.read("runs", ["command", "stages", "stage_seconds", "stage_bytes", "usage"]
                      if "usage" in store.schema("runs").names else
                      ["command", "stages", "stage_seconds", "stage_bytes"]).to_pylist()  # fmt: skip
    curated = [json.loads(r["stages"]) for r in runs if r["command"] == "curate" and r["stages"]]
    clips = store.count("clips")
    footage = stored_footage(store, clips)
    if not curated or not footage.hours:
        return None
    stages = {name: Work() for name in ("probe", "scan", "cut", "annotate", "write", "store")}
    for figures in curated:
        for name, of_stage in figures.items():
            stages[name] = stages.get(name, Work()) + _of_stage(of_stage, "://" in store.uri)
    stages["annotate"] += _annotated(runs, annotators, clips, prices, is_remote="://" in store.uri)
    stages["write"] += _uploading(store.uri, sum(_uncounted_upload(r) for r in runs if r["command"] == "curate"))
    stages["probe"] += Work(bytes_read=footage.num_bytes - footage.remote_bytes)  # nobody counts those of a disk
    count = f"{len(curated)} run{'s' if len(curated) != 1 else ''}"
    return Account(
        footage, stages, f"as {count} of this store took; cut contains the annotators that share its decode",
        unstated=_unstated(annotators, prices),
    )  # fmt: skip


def stored_footage(store: Store, clips: int) -> Footage:
    """Sum up the sources of a store that were cut, as `Footage.of` does. clips: their number."""
    return Footage(**store.sql(FOOTAGE).to_pylist()[0], clips=clips)


def _of_stage(figures: Mapping[str, float], is_remote: bool) -> Work:
    """Read the figures of a stage, or those of the store itself: they have no time."""
    if "bytes_written" in figures:
        read, written = figures["bytes_read"], figures["bytes_written"]
        if not is_remote:
            return Work(bytes_read=read, bytes_written=written)
        writes = figures.get("write_requests", figures["requests"])  # runs of before 2026-11-29 did not tell them apart
        return Work(
            bytes_read=read, bytes_written=written, paid_read=read, paid_sent=written,
            reads=figures["requests"] - writes, writes=writes,
        )  # fmt: skip
    read, sent, writes = figures["bytes_in"], figures.get("bytes_out", 0), figures.get("write_requests", 0)
    return Work(
        cpu_s=figures["cpu_s"], bytes_read=read, bytes_written=sent, paid_read=read, paid_sent=sent,
        reads=figures["requests"] - writes, writes=writes,
    )  # fmt: skip


def _uncounted_upload(run: Mapping[str, Any]) -> int:
    """Return the bytes of clips that a run wrote, unless its workers counted what they sent to an object store."""
    counted = json.loads(run["stages"] or "{}").get("write", {}).get("bytes_out")
    return 0 if counted else json.loads(run["stage_bytes"] or "{}").get("clips", 0)


def _annotated(
    runs: Iterable[Mapping[str, Any]],
    annotators: Mapping[str, Computes],
    clips: int,
    prices: Prices,
    *,
    is_remote: bool,
) -> Work:
    """Sum up the runs of annotators on stored clips: their seconds on workers count as CPU, but those on GPUs."""
    work = Work(gpu_s=_on_gpus(annotators, clips, prices))
    for run in runs:
        if run["command"] == "annotate":
            seconds = json.loads(run["stage_seconds"])
            work.cpu_s += sum(s for n, s in seconds.items() if n not in annotators or not _elsewhere(annotators[n]))
            if asked := json.loads(run["stages"] or "{}"):
                for figures in asked.values():  # their seconds are counted above, by annotator
                    work += replace(_of_stage(figures, is_remote), cpu_s=0.0)
            for used in json.loads(run.get("usage") or "{}").values():
                work += Work(tokens_in=used["input_tokens"], tokens_out=used["output_tokens"], usd=used["usd"])
    return work


def _reading(footage: Footage) -> Work:
    """Fetch each input once."""
    requests = footage.remote_files + footage.remote_bytes / READ_BYTES
    return Work(bytes_read=footage.num_bytes, paid_read=footage.remote_bytes, reads=math.ceil(requests))


def _writing(recipe: CurateRecipe, num_bytes: float) -> Work:
    commits = math.ceil(num_bytes / (recipe.batches.commit_mib << 20))
    extra = commits * WRITES_PER_COMMIT if "://" in recipe.store else 0
    return _uploading(recipe.store, num_bytes) + Work(writes=extra)


def _uploading(store_uri: str, num_bytes: float) -> Work:
    if "://" not in store_uri:
        return Work(bytes_written=num_bytes)
    return Work(bytes_written=num_bytes, paid_sent=num_bytes, writes=math.ceil(num_bytes / PART_BYTES))


def _annotating(annotators: Mapping[str, Computes], clips: int, store: Store | None, prices: Prices) -> Work:
    seconds, used = _seconds(annotators, store), measured_usage(store) if store else {}
    work = Work(gpu_s=_on_gpus(annotators, clips, prices))
    for name, annotator in annotators.items():
        work.cpu_s += 0.0 if _elsewhere(annotator) else clips * seconds.get(name, 0.0)
        chat, tokens = chat_of(annotator), used.get(name) or annotator.typical_tokens
        if chat and tokens:
            asked = clips * tokens[0], clips * tokens[1]
            work += Work(tokens_in=asked[0], tokens_out=asked[1], usd=chat.cost_usd(*asked))
    return work


def _seconds(annotators: Mapping[str, Computes], store: Store | None) -> dict[str, float]:
    """Return worker seconds per clip by annotator, where they are known: of the store's runs, else of the corpus."""
    stated = {name: a.typical_s for name, a in annotators.items() if a.typical_s is not None}
    return stated | (measured_seconds(store) if store else {})


def _on_gpus(annotators: Mapping[str, Computes], clips: int, prices: Prices) -> Counter[str]:
    return Counter({n: clips * s for n, s in prices.gpu_s_per_clip.items() if n in annotators})


def _unstated(annotators: Mapping[str, Computes], prices: Prices) -> tuple[str, ...]:
    return tuple(n for n, a in annotators.items() if needs_gpu(a) and n not in prices.gpu_s_per_clip)


def needs_gpu(annotator: Computes) -> bool:
    """Return whether an annotator occupies GPUs: of its own process, or of a model that the run keeps."""
    chat = chat_of(annotator)
    return annotator.resources.gpus > 0 or (chat is not None and chat.gpus > 0 and chat.backend != "server")


def _elsewhere(annotator: Computes) -> bool:
    """Return whether its seconds on a worker are a GPU's or a server's, and its core only waits."""
    return needs_gpu(annotator) or chat_of(annotator) is not None
