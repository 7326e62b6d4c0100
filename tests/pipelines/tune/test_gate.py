"""The gate between two captioners, on a store's clips, with small models of the real classes."""

import pytest

from reelwright.annotate.backends.clip_encoder import ClipModel
from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.pipelines.tune.gate import compare_captioners
from tests.annotate.chat import checkpoints
from tests.annotate.checkpoints_clip import clip_folder  # noqa: F401 - a fixture
from tests.training.tuning.miniature import COLOURS, clip

CAPTION = {"sampling": {"fps": 2.0, "min_frames": 2, "max_frames": 2, "short_side": 56}}


def clips(folder) -> Store:
    store = Store.open(folder, create=True)
    names, mp4s = [f"c{n}" for n in range(6)], [clip(list(COLOURS.values())[n % 4], n) for n in range(6)]
    store.commit_media([store.write_media(names, mp4s)])
    store.append("clips", [{"clip_id": name} for name in names])
    return store


def test_captions_of_the_same_clips_are_compared(tmp_path, clip_folder):  # noqa: F811
    import pyarrow as pa

    store = clips(tmp_path / "store")
    chat = {"model": str(checkpoints.qwen_vl(tmp_path / "qwen")), "backend": "transformers", "send": "video",
            "max_tokens": 8}  # fmt: skip
    encoder = ClipModel(model=str(clip_folder), device="cpu")
    with pytest.raises(UserError, match="caption them by the model before"):
        compare_captioners(store, {"chat": chat, **CAPTION}, encoder, 4, print)
    old = {"clip_id": [f"c{n}" for n in range(6)], "caption": ["a dog. it runs."] * 6}
    store.merge("clips", pa.table(old), on="clip_id")
    lines: list[str] = []
    found = compare_captioners(store, {"chat": chat, **CAPTION}, encoder, 4, lines.append)
    assert found.clips == 4
    assert found.difference.value == pytest.approx(found.after - found.before)
    assert lines[0] == "clips         4 compared, 0 without a new caption"
    assert any(line.startswith("gate ") for line in lines)
