import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reelwright.annotate import annotate_clip, annotate_clips, load
from reelwright.annotate.backends.aesthetic_head import HeadFile
from reelwright.annotate.errors import AnnotatorError
from tests.annotate.checkpoints_clip import DIM, clip_folder  # noqa: F401
from tests.annotate.synth import encode, texture


def published(dim: int) -> nn.Sequential:
    """The layers of improved-aesthetic-predictor, with dropout where it is, so that names and numbers are as there."""
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Linear(dim, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2), nn.Linear(128, 64),
        nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
    ).eval()  # fmt: skip


def saved(path, module, prefix):
    save_file({prefix + name: tensor for name, tensor in module.state_dict().items()}, path)
    return str(path)


@pytest.fixture
def embeddings():
    found = np.random.default_rng(3).normal(size=(7, 768)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("prefix", ["layers.", "", "model.mlp.layers."])
def test_the_published_head_gives_what_torch_gives(tmp_path, embeddings, prefix):
    module = published(768)
    head = HeadFile(saved(tmp_path / "head.safetensors", module, prefix)).load(768)
    with torch.no_grad():
        expect = module(torch.from_numpy(embeddings))[:, 0].numpy()
    np.testing.assert_allclose(head(embeddings), expect, atol=1e-5)


def test_the_older_linear_head(tmp_path, embeddings):
    module = nn.Linear(768, 1)
    head = HeadFile(saved(tmp_path / "head.safetensors", module, "")).load(768)
    expect = embeddings @ module.weight.detach().numpy()[0] + module.bias.item()
    np.testing.assert_allclose(head(embeddings), expect, atol=1e-5)


def test_a_head_with_relu_between_its_layers(tmp_path, embeddings):
    module = nn.Sequential(nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, 1))
    head = HeadFile(saved(tmp_path / "head.safetensors", module, "layers."), activation="relu").load(768)
    np.testing.assert_allclose(head(embeddings), module(torch.from_numpy(embeddings)).detach()[:, 0], atol=1e-5)


def test_a_head_in_a_folder_and_in_half_precision(tmp_path, embeddings):
    module = published(768).bfloat16()
    saved(tmp_path / "weights.safetensors", module, "layers.")
    head = HeadFile(str(tmp_path), "weights.safetensors").load(768)
    expect = published(768).load_state_dict(module.float().state_dict())
    assert expect.missing_keys == []
    np.testing.assert_allclose(head(embeddings), module(torch.from_numpy(embeddings)).detach()[:, 0], atol=1e-5)


@pytest.fixture(scope="module")
def small(clip_folder, tmp_path_factory):  # noqa: F811
    """Parameters of aesthetics over the small CLIP, and its head."""
    head = nn.Sequential(nn.Linear(DIM, 8), nn.Dropout(0.2), nn.Linear(8, 1)).eval()
    path = saved(tmp_path_factory.mktemp("head") / "head.safetensors", head, "layers.")
    return {"clip": {"model": str(clip_folder)}, "head": {"model": path}, "frames": 4}, head


@pytest.fixture(scope="module")
def clip():
    return encode([texture(72, 128, seed=k) for k in range(8)])


@pytest.mark.parametrize("pool", ["mean", "median", "max"])
def test_frames_are_scored_one_by_one_and_pooled(small, clip, pool):
    from transformers import CLIPImageProcessorPil, CLIPModel

    from reelwright.curation.media.frames import sample

    parameters, head = small
    annotator = load("aesthetics", {**parameters, "pool": pool})
    (frames,) = sample(clip, [annotator.needs])
    model, processor = (k.from_pretrained(parameters["clip"]["model"]) for k in (CLIPModel, CLIPImageProcessorPil))
    with torch.no_grad():
        seen = model.vision_model(**processor(images=list(frames), return_tensors="pt")).pooler_output
        scores = head(nn.functional.normalize(model.visual_projection(seen), dim=-1))[:, 0].numpy()
    columns, failures = annotate_clip(clip, [annotator])
    assert not failures
    assert columns["aesthetic_score"] == pytest.approx(getattr(np, pool)(scores), abs=1e-5)


def test_clips_of_a_batch_do_not_mix(small):
    annotator = load("aesthetics", small[0])
    clips = [encode([texture(72, 128, seed=k)] * n) for k, n in enumerate((2, 6, 1))]
    together = [columns["aesthetic_score"] for columns, _ in annotate_clips(clips, [annotator])]
    alone = [annotate_clip(clip, [annotator])[0]["aesthetic_score"] for clip in clips]
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_head_is_in_the_fingerprint_by_content(small, tmp_path):
    parameters, _ = small
    before = load("aesthetics", parameters).fingerprint
    other = saved(tmp_path / "head.safetensors", nn.Linear(DIM, 1), "")
    assert load("aesthetics", {**parameters, "head": {"model": other}}).fingerprint != before
    assert load("aesthetics", {**parameters, "gpus": 1}).fingerprint == before
    assert load("aesthetics").models == (
        "openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41",
        "ttj/sac-logos-ava1-l14-linearMSE@1e77fa05081323d99725fc40a9bf9f88180490e7/model.safetensors",
    )


def test_a_pickle_is_refused_with_the_way_to_convert_it():
    with pytest.raises(ValueError, match=r"is a pickle.*convert it once: python -c .*weights_only=True"):
        load("aesthetics", {"head": {"model": "sac+logos+ava1-l14-linearMSE.pth"}})


def test_the_way_to_convert_a_pickle_works(tmp_path, embeddings):
    import subprocess
    import sys

    from reelwright.annotate.backends.aesthetic_head import CONVERT

    module = published(768)
    torch.save(module.state_dict(), tmp_path / "head.pth")
    command = CONVERT.replace("python -c", f"{sys.executable} -c").split('"')
    done = subprocess.run([sys.executable, "-c", command[1], "head.pth", "head.safetensors"], cwd=tmp_path, check=False)
    assert done.returncode == 0
    head = HeadFile(str(tmp_path / "head.safetensors")).load(768)
    np.testing.assert_allclose(head(embeddings), module(torch.from_numpy(embeddings)).detach()[:, 0], atol=1e-5)


def test_what_is_no_head_is_one_sentence(small, tmp_path, clip):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"what is this")
    with pytest.raises(AnnotatorError, match="is not safetensors"):
        HeadFile(str(path)).load(768)
    save_file({"layers.0.weight": torch.zeros(1, 768), "layers.0.scale": torch.zeros(1)}, path)
    with pytest.raises(AnnotatorError, match=r"lacks or has over 'layers\.0\.bias'"):
        HeadFile(str(path)).load(768)
    with pytest.raises(AnnotatorError, match=r"lead from an embedding's 768 numbers to one; set head and clip"):
        HeadFile(small[0]["head"]["model"]).load(768)
    with pytest.raises(AnnotatorError, match=r"holds no model\.safetensors; set head\.model and head\.file"):
        HeadFile(str(tmp_path)).load(768)
    _, failures = annotate_clip(clip, [load("aesthetics", {**small[0], "head": {"model": str(path)}})])
    assert "holds no aesthetics predictor" in failures[0].error
