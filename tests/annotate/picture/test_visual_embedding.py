import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate import annotate_clip, annotate_clips, load
from reelwright.annotate.backends.clip_encoder import ClipEncoder, ClipModel
from reelwright.curation.media.frames import sample
from tests.annotate.checkpoints_clip import DIM, clip_folder  # noqa: F401
from tests.annotate.synth import encode, texture


@pytest.fixture(scope="module")
def embedding(clip_folder):  # noqa: F811
    return load("visual_embedding", {"clip": {"model": str(clip_folder)}, "frames": 3})


def test_it_is_the_mean_direction_of_its_frames(embedding, clip_folder):  # noqa: F811
    mp4 = encode([texture(72, 128, seed=k) for k in range(6)])
    columns, failures = annotate_clip(mp4, [embedding])
    assert not failures
    (frames,) = sample(mp4, [embedding.needs])
    mean = ClipEncoder(ClipModel(str(clip_folder))).embed_images(frames).mean(axis=0)
    assert len(frames) == 3
    np.testing.assert_allclose(columns["visual_embedding"], mean / np.linalg.norm(mean), atol=1e-5)


def test_clips_of_a_batch_do_not_mix(embedding):
    clips = [encode([texture(72, 128, seed=k)] * n) for k, n in enumerate((2, 6, 1, 4))]  # some with fewer frames
    together = annotate_clips(clips, [embedding])
    for clip, (columns, _) in zip(clips, together, strict=True):
        alone = annotate_clip(clip, [embedding])[0]
        np.testing.assert_allclose(columns["visual_embedding"], alone["visual_embedding"], atol=1e-5)


def test_the_column_has_the_length_of_the_model_and_nothing_is_loaded_to_know_it(embedding):
    fresh = load("visual_embedding", embedding.parameters)
    assert fresh.columns["visual_embedding"].type == pa.list_(pa.float32(), DIM)
    assert load("visual_embedding").columns["visual_embedding"].type == pa.list_(pa.float32(), 768)
    assert "_encoder" not in vars(fresh)


def test_where_and_how_it_runs_is_not_in_the_fingerprint(embedding):
    clip = embedding.clip
    same = {"clip": {"model": clip.model, "device": "cpu", "batch": 2}, "frames": 3, "gpus": 0.5}
    assert load("visual_embedding", same).fingerprint == embedding.fingerprint
    assert load("visual_embedding", same).resources.gpus == 0.5
    for other in ({"clip": {"model": "org/other"}}, {"clip": {"model": clip.model, "dtype": "bfloat16"}}, {}):
        assert load("visual_embedding", {"frames": 3, **other}).fingerprint != embedding.fingerprint


def test_a_misspelt_parameter_is_an_error():
    with pytest.raises(ValueError, match="modle"):
        load("visual_embedding", {"clip": {"modle": "x"}})
    with pytest.raises(ValueError, match="frames = 0"):
        load("visual_embedding", {"frames": 0})
