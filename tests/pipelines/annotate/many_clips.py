"""A store of many small clips, each showing its number, and a chat server that can read it."""

from collections.abc import Iterator

import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from tests.annotate.chat_server import SIDE, ChatServer, numbered_clip

CLIPS = 60


@pytest.fixture(scope="package")
def server() -> Iterator[ChatServer]:
    running = ChatServer()
    yield running
    running.stop()


@pytest.fixture(scope="package")
def store(tmp_path_factory) -> Store:
    opened = Store.open(tmp_path_factory.mktemp("many") / "store", create=True)
    ids = [f"{n:024x}" for n in range(CLIPS)]
    facts = {"width": 256, "height": SIDE, "num_frames": 12, "fps": 12.0}
    rows = [{"clip_id": clip_id, "source_md5": "0" * 32, **facts} for clip_id in ids]
    schema = opened.schema("clips")
    opened.append("clips", pa.Table.from_pylist(rows, pa.schema([schema.field(name) for name in rows[0]])))
    opened.commit_media([opened.write_media(ids, [numbered_clip(n) for n in range(CLIPS)])])
    return opened
