"""A source on its way through a run of curation, and the counts of a finished run."""

from dataclasses import dataclass, field

from reelwright.curation.ingest.inputs import Input
from reelwright.curation.records.moves import Move
from reelwright.curation.results import Failed, Probed
from reelwright.pipelines.curate.workers.results import Scanned
from reelwright.pipelines.runtime.eta import Load

OF_INPUTS = ("list", "probe", "scan", "cut")
"""Stages whose requests go to the servers of inputs; others ask the store."""


@dataclass
class Source:
    """A source on its way through the run."""

    item: Input
    probed: Probed = field(default_factory=Probed)
    scanned: Scanned | None = None
    planned: int = 0  # clips
    cutting: int = 0  # tasks that still cut clips of it
    clips_failed: int = 0
    first_failure: str = ""
    clips_with_faulty_sound: int = 0
    load: Load = field(default_factory=Load)  # for the time that is left
    note: str | None = None
    changed: Failed | None = None  # if the file was written while it was cut
    move: Move | None = None  # its place, where it is re-cut
    apart: bool = False  # scan and cut are tasks of their own

    @property
    def md5(self) -> str:
        """MD5 of a source that could be read."""
        assert self.probed.md5 is not None
        return self.probed.md5


@dataclass(frozen=True)
class Summary:
    """Counts of a finished run. `ok + duplicate + failed == inputs`, or the run has a bug and says so."""

    inputs: int
    ok: int
    duplicate: int
    failed: int
    done_before: int
    cut_otherwise: int = 0  # done before under other settings, and left as they are
    moved: int = 0  # sources whose file is gone and was found at another address
    recaptioned: int = 0  # sources that were done and took over new captions of their manifest
    clips: int = 0
    clips_failed: int = 0
    clips_failed_before: int = 0  # in earlier runs, and not tried again
    annotations_failed: int = 0
    unmeasured: dict[str, int] = field(default_factory=dict)  # annotator -> clips with nothing to measure for it
    why_unmeasured: dict[str, str] = field(default_factory=dict)  # the reason of the first such clip
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)  # stage -> figures of `meter.Stage`
    clip_bytes: int = 0
    frames_in_shots: int = 0  # of the sources of this run, as are the next two; together they are all their frames
    frames_in_transitions: int = 0
    frames_dropped: int = 0
    no_clip: dict[str, int] = field(default_factory=dict)  # sources that are ok and gave no clip, by the reason
    same_id: dict[str, int] = field(default_factory=dict)  # duplicates of this run by their source_id alone, by that id

    @property
    def remote_requests(self) -> int:
        """Requests to the servers of remote inputs."""
        return int(sum(self.stages[name]["requests"] for name in OF_INPUTS if name in self.stages))

    @property
    def remote_bytes(self) -> int:
        """Bytes read from remote inputs."""
        return int(sum(self.stages[name]["bytes_in"] for name in OF_INPUTS if name in self.stages))

    @property
    def adds_up(self) -> bool:
        """Whether the counts add up."""
        return self.ok + self.duplicate + self.failed == self.inputs
