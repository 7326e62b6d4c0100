"""As many questions are in flight at a server as were asked for, whatever a call brings, and few frames wait."""

import shutil

import pytest

from reelwright.curation.store import Store
from reelwright.pipelines.annotate.lanes import placement
from reelwright.pipelines.annotate.load import load_annotators
from reelwright.pipelines.annotate.run import annotate_and_record
from reelwright.pipelines.runtime.progress import Progress
from tests.annotate.chat_server import SIDE, ChatServer, caption_of
from tests.pipelines.annotate.many_clips import CLIPS, server, store  # noqa: F401 - fixtures
from tests.pipelines.helpers import recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")
IN_FLIGHT = 40  # more than a thread pool would be given by default, and than Ray's batches hold


def recipe(server: ChatServer, clips_a_call: int, actors: int):  # noqa: F811
    chat = {"model": "loopback/vlm", "url": server.url, "concurrency": IN_FLIGHT}
    sampling = {"min_frames": 2, "max_frames": 2, "short_side": SIDE}
    return recipe_of(
        annotators=["caption"],
        parameters={"caption": {"chat": chat, "sampling": sampling, "clips_a_call": clips_a_call}},
        resources={"annotators": {"caption": {"actors": actors, "cpus": 0.5}}},
    )


@pytest.mark.parametrize(("clips_a_call", "actors"), [pytest.param(1, 1, marks=pytest.mark.exhaustive), (4, 2)])
@pytest.mark.every(2)
def test_the_server_sees_the_asked_number_in_flight(store, server, tmp_path, clips_a_call, actors):  # noqa: F811
    """It answers nobody until so many have asked."""
    shutil.copytree(store.path, tmp_path / "store")
    copy = Store.open(tmp_path / "store")
    server.hold(IN_FLIGHT)
    full = recipe(server, clips_a_call, actors)
    with Progress("annotate", quiet=True) as progress:
        report = annotate_and_record(copy, full, load_annotators(full), progress)
    assert dict(report.done) == {"caption": CLIPS}
    assert server.most_at_once() == IN_FLIGHT
    rows = copy.read("clips", ["clip_id", "caption"]).to_pylist()
    assert all(row["caption"] == caption_of(int(row["clip_id"], 16)) for row in rows)


def test_processes_share_what_is_in_flight(server):  # noqa: F811
    full = recipe(server, 8, 0)
    caption = load_annotators(full)["caption"]
    need, size = placement(caption, full)
    assert (need.cpus, size) == (0.5, 1)  # two CPUs: one to ask, one for the rest
    assert caption.per_process(3).chat.concurrency == 14
    assert caption.per_process(3).fingerprint == caption.fingerprint
