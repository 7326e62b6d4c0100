import json

import pytest

from reelwright.annotate.motion.camera import sources


def corpus(tmp_path, sources_of):
    files = [
        {"path": path, "category": path.split("/")[0], "sources": [{"repo": "r", "path": s} for s in shown], **more}
        for path, shown, more in sources_of
    ]
    (tmp_path / "truth.json").write_text(json.dumps({"files": files}))
    return tmp_path


def test_a_source_of_the_camera_folder_is_refused_wherever_it_shows(tmp_path, monkeypatch):
    shots = {"shots": [[0, 9], [10, 19]]}
    folder = corpus(tmp_path, [("camera/pan.mp4", ["tested"], {}), ("montage/m.mp4", ["free", "tested"], shots)])
    monkeypatch.setattr(sources, "CORPUS", {"train": (("montage/m.mp4", 0, 9),), "held_out": ()})
    sources.refuse_test_material(folder)
    for first, last in ((0, 10), (12, 12)):
        monkeypatch.setattr(sources, "CORPUS", {"train": (("montage/m.mp4", first, last),), "held_out": ()})
        with pytest.raises(ValueError, match="camera folder"):
            sources.refuse_test_material(folder)


def test_a_source_in_both_sets_is_refused(tmp_path, monkeypatch):
    folder = corpus(tmp_path, [("natural/a.mp4", ["one"], {}), ("natural/b.mp4", ["one"], {})])
    both = {"train": (("natural/a.mp4", 0, 0),), "held_out": (("natural/b.mp4", 0, 0),)}
    monkeypatch.setattr(sources, "CORPUS", both)
    with pytest.raises(ValueError, match="both sets"):
        sources.refuse_test_material(folder)
